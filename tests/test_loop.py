"""train/loop.py: the schedule, resuming to the bit after SIGKILL, two processes, limits, what stops a
training.

Run as a script, this file is a tiny training: `python tests/test_loop.py kill FOLDER COUNT` kills one again
and again, `train FOLDER` is one process of one (for torchrun).
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from minidiff.checkpoint import CheckpointError, load_state, save_state
from train.config import LoopConfig, command_line, configure, from_command_line
from train.log import Log, TrainingError
from train.loop import compiled, count_steps, generator_of, learning_rate, train
from train.place import Place
from train.state import State

ROOT = Path(__file__).parents[1]


class Tiny(nn.Module):
    """A network of two convolutions, trained to undo noise."""

    def __init__(self):
        super().__init__()
        first, last = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 3, 3, padding=1)
        self.net = nn.Sequential(first, nn.GroupNorm(2, 8), nn.SiLU(), last)

    def forward(self, x0, levels, noise):
        noisy = x0 + levels.view(-1, 1, 1, 1) * noise
        return (self.net(noisy) - x0).square().mean((1, 2, 3)), levels


def tiny():
    torch.manual_seed(0)
    return Tiny()


def tiny_batch(n):
    def make_batch(generator, now):
        shape = (n, 3, 8, 8)
        x0 = torch.rand(n, 3, 1, 1, generator=generator).expand(shape)
        return x0, torch.rand(n, generator=generator), torch.randn(shape, generator=generator)

    return make_batch


def tiny_config(folder, **changes):
    usual = dict(folder=str(folder), steps=30, batch=8, warmup=5, log_steps=4, save_minutes=60, device="cpu")
    return LoopConfig(**{**usual, **changes})


def tiny_training(folder, make_batch=None, sample=None, **changes):
    config = tiny_config(folder, **changes)
    return train(tiny(), make_batch or tiny_batch(config.batch), config, sample)


def kill_again_and_again(folder, count):
    """Fork trainings and kill them at random moments; they must end in the bits of an undisturbed run."""
    dice = random.Random(0)
    State(tiny(), tiny_config(folder))                          # imports much: once, before the forks
    began = time.monotonic()
    assert os.waitpid(fork_training(folder / "undisturbed"), 0)[1] == 0
    seconds = time.monotonic() - began
    kills, runs = 0, 0
    while kills < count:
        shutil.rmtree(folder / "disturbed", ignore_errors=True)
        finished, runs = False, runs + 1
        while not finished:
            child = fork_training(folder / "disturbed")
            if kills < count:
                time.sleep(dice.uniform(0, 0.7 * seconds))
                os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
            finished = status == 0
            if not finished:
                assert os.WTERMSIG(status) == signal.SIGKILL, f"resuming failed with status {status}"
                kills += 1
        assert_same_bits(folder / "undisturbed", folder / "disturbed")
    print(f"{kills} kills in {runs} runs, all resumed to the same bits")


def fork_training(folder):
    """Start a training in a child process, without paying for the import of torch again."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            tiny_training(folder, steps=12, save_minutes=0, muon="net")  # and AdamW
            status = 0
        finally:
            os._exit(status)
    return child


def assert_same_bits(one, other):
    expected, known = load_state(Path(one) / "state.safetensors")
    found, metadata = load_state(Path(other) / "state.safetensors")
    assert known["step"] == metadata["step"]
    assert expected.keys() == found.keys() and len(expected) > 10
    for name, tensor in expected.items():
        assert torch.equal(tensor.view(torch.int32), found[name].view(torch.int32)), name


def run_script(*arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_at_random_moments_it_resumes_to_the_same_bits(tmp_path):
    kills = os.environ.get("MINIDIFF_KILLS", "5")
    done = run_script(__file__, "kill", tmp_path, kills)
    assert done.returncode == 0, done.stderr
    print(done.stdout)


def test_stopped_in_mid_write_it_resumes_from_the_checkpoint_before(tmp_path):
    tiny_training(tmp_path / "whole")
    tiny_training(tmp_path / "cut", save_minutes=0, sample_minutes=0, sample=stop_at(12))
    last = tmp_path / "cut/state.safetensors"
    last.with_name("state.safetensors.tmp").write_bytes(last.read_bytes()[:1000])
    last.unlink()                                               # killed between the two renames
    tiny_training(tmp_path / "cut")
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


def stop_at(step):
    """A sample callback that presses Ctrl-C from `step` on: a stopping run must not call it again."""
    return lambda network, now: os.kill(os.getpid(), signal.SIGINT) if now >= step else None


def test_ctrl_c_saves_the_step_in_hand_and_the_run_goes_on_later(tmp_path):
    tiny_training(tmp_path / "whole")
    state = tiny_training(tmp_path / "cut", sample_minutes=0, sample=stop_at(12))
    assert 12 <= state.step <= 13 and not state.done
    assert load_state(tmp_path / "cut/state.safetensors")[1]["step"] == state.step
    assert tiny_training(tmp_path / "cut").step == 30
    assert_same_bits(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_is_not_trained_further(tmp_path):
    first = tiny_training(tmp_path)
    again = tiny_training(tmp_path, make_batch=None)
    assert again.step == first.step == 30
    assert torch.equal(first.ema.net[0].weight, again.ema.net[0].weight)


def test_two_processes_equal_one_with_the_same_batch(tmp_path):
    torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2
    done = run_script(*torchrun, __file__, "train", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    tiny_training(tmp_path / "one", accumulate=2, steps=10)
    one, two = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("one", "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(two[name], tensor, atol=1e-5, rtol=0, msg=name)
    start = tiny().net[0].weight
    assert (one["weights.net.0.weight"] - start).abs().max() > 1e-3
    with pytest.raises(CheckpointError, match="of 2 processes, now 1\neach draws"):
        tiny_training(tmp_path / "two", steps=10)


def test_the_rate_rises_stays_and_falls_to_zero():
    config = LoopConfig(steps=100, warmup=10, decay=0.2, learning_rate=1.0)
    state = State(tiny(), config)
    rates = [learning_rate(step, state, config) for step in range(101)]
    assert rates[0] == 0.1 and rates[9:81] == [1.0] * 72 and rates[90] == 0.5 and rates[100] == 0
    state.steps = 0
    assert learning_rate(10**6, state, config) == 1             # while the number of steps is not decided


def test_minutes_fix_the_number_of_steps_and_store_it(tmp_path):
    state = tiny_training(tmp_path, steps=0, minutes=0.02, make_batch=slowly(tiny_batch(8), 0.01))
    assert state.done and 0.6 < state.seconds < 12
    assert load_state(tmp_path / "state.safetensors")[1]["steps"] == state.steps == state.step
    rates = [json.loads(line)["learning_rate"] for line in open(tmp_path / "log.jsonl")]
    assert rates[-1] < rates[len(rates) // 2]
    longer = tiny_training(tmp_path, steps=0, minutes=0.03, make_batch=slowly(tiny_batch(8), 0.01))
    assert longer.step > state.step                             # more minutes: the run goes on


def test_the_fall_is_as_long_as_the_speed_before_it_says(tmp_path):
    """3 minutes, the last for the fall: 10 steps in 90 seconds, then, until 120, one a second."""
    config = tiny_config(tmp_path, steps=0, minutes=3, decay=1 / 3)
    state = State(tiny(), config)
    for state.step, state.seconds in [(5, 45), (10, 89), *((10 + i, 90 + i) for i in range(30))]:
        state.mark()
        assert count_steps(state, config) == 0
    state.step, state.seconds = 40, 120.001
    assert state.marked == (10, 90) and count_steps(state, config) == 40 + 60
    state.fix(100)
    assert [learning_rate(step, state, config) for step in (40, 70, 100)] == [1e-3, 5e-4, 0]
    assert count_steps(state, config) == 100                    # decided once


def test_after_a_break_the_fall_is_told_from_the_speed_so_far(tmp_path):
    config = tiny_config(tmp_path, steps=0, minutes=3, decay=1 / 3)
    state = State(tiny(), config)
    state.step, state.seconds = 260, 130.0                      # it went on after the decision was due
    state.mark()
    assert count_steps(state, config) == 260 + 100              # 50 seconds, two steps a second
    state.seconds = 999.0
    assert count_steps(state, config) == 261                    # no time is left


def test_the_fall_begins_where_it_was_decided_after_a_break_too(tmp_path):
    state = tiny_training(tmp_path, steps=0, minutes=0.02, make_batch=slowly(tiny_batch(8), 0.01))
    assert 0 < state.constant < state.steps
    again = State(tiny(), tiny_config(tmp_path, steps=0, minutes=0.02))
    again.resume(tmp_path)
    assert (again.steps, again.constant, again.step) == (state.steps, state.constant, state.step)


class Repeating(Tiny):
    """A network that compiles parts of itself."""

    def compile_repeated(self):
        self.compiled = True


def test_a_network_may_say_what_of_it_is_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda network: ("compiled", network))
    network, other = tiny(), Repeating()
    assert compiled(network) == ("compiled", network)
    assert compiled(other) is other and other.compiled


def test_passes_are_graphs_on_a_gpu_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("train.loop.Recorded", lambda *given: pytest.fail("recorded on a CPU"))
    for graphs, folder in ((False, tmp_path / "plain"), (True, tmp_path / "graphs")):
        state = tiny_training(folder, graphs=graphs)
        assert all(parameter.grad is None for parameter in state.network.parameters())
    assert_same_bits(tmp_path / "plain", tmp_path / "graphs")


def slowly(make_batch, seconds):
    def slow(generator, now):
        time.sleep(seconds)
        return make_batch(generator, now)

    return slow


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    def poisoned(generator, now):
        x0, levels, noise = tiny_batch(8)(generator, now)
        poisoned.calls += 1
        return x0 * (float("nan") if poisoned.calls == 11 else 1), levels, noise

    poisoned.calls = 0
    with pytest.raises(TrainingError, match="nan.*in steps 9 to 11.*\n.*last good checkpoint") as error:
        tiny_training(tmp_path, make_batch=poisoned, save_minutes=0)
    assert len(str(error.value).splitlines()) <= 2
    tensors, metadata = load_state(tmp_path / "state.safetensors")
    assert metadata["step"] == 10 and all(tensor.isfinite().all() for tensor in tensors.values())
    tiny_training(tmp_path)                                     # goes on, to the bits of a healthy run
    tiny_training(tmp_path / "healthy")
    assert_same_bits(tmp_path, tmp_path / "healthy")


def test_an_infinite_gradient_stops_the_run_too(tmp_path):
    class Steep(Tiny):
        def forward(self, x0, levels, noise):
            losses, levels = super().forward(x0, levels, noise)
            return (losses - losses.detach()).abs().sqrt(), levels          # 0, with an endless slope

    with pytest.raises(TrainingError, match="gradient (nan|inf)"):
        train(Steep(), tiny_batch(8), tiny_config(tmp_path))


@pytest.mark.parametrize("change", [dict(seed=1), dict(batch=4), dict(learning_rate=0.5), dict(steps=31)])
def test_a_checkpoint_of_another_configuration_is_refused(tmp_path, change):
    tiny_training(tmp_path, steps=3)
    (key, value), = change.items()
    with pytest.raises(CheckpointError, match=rf"of another run: {key} is .* {value} asked") as error:
        tiny_training(tmp_path, **{"steps": 3, **change})
    assert len(str(error.value).splitlines()) <= 2


def test_a_checkpoint_of_another_network_is_refused(tmp_path):
    tiny_training(tmp_path, steps=3)
    other = Tiny()
    other.net[0] = nn.Conv2d(3, 8, 1)
    named = r"another network:\ntensor net.0.weight is \(8, 3, 3, 3\) .* \(8, 3, 1, 1\)"
    with pytest.raises(CheckpointError, match=named):
        train(other, tiny_batch(8), tiny_config(tmp_path, steps=3))


def test_a_damaged_checkpoint_is_named_with_the_one_to_go_on_from(tmp_path):
    tiny_training(tmp_path, steps=3, save_minutes=0)
    last = tmp_path / "state.safetensors"
    last.write_bytes(last.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="state.safetensors: truncated.*\n.*state-previous") as error:
        tiny_training(tmp_path, steps=3)
    assert len(str(error.value).splitlines()) <= 2
    last.unlink()
    assert tiny_training(tmp_path, steps=3).done


def test_the_log_has_one_line_a_step_even_after_a_kill(tmp_path):
    tiny_training(tmp_path, sample=stop_at(13), sample_minutes=0)
    with open(tmp_path / "log.jsonl", "a") as file:             # what a kill leaves
        file.write('{"step": 16, "loss": 1}\n{"step": 2')
    tiny_training(tmp_path)
    lines = [json.loads(line) for line in open(tmp_path / "log.jsonl")]
    assert [line["step"] for line in lines] == [4, 8, 12, 16, 20, 24, 28, 30]
    assert all(len(line["loss_by_level"]) == 10 and line["pictures_per_second"] > 0 for line in lines)
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_log_sorts_losses_by_level(tmp_path):
    class ByLevel(Tiny):
        def forward(self, x0, levels, noise):
            return super().forward(x0, levels, noise)[0] * 0 + 7 * levels, levels

    def make_batch(generator, now):
        return torch.zeros(2, 3, 8, 8), torch.tensor([0.05, 1.0]), torch.zeros(2, 3, 8, 8)

    train(ByLevel(), make_batch, tiny_config(tmp_path, steps=1, log_steps=1))
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["loss_by_level"] == pytest.approx([0.35, *[-1] * 8, 7.0])
    assert line["loss"] == pytest.approx(7.35 / 2)


def test_the_log_says_how_much_of_the_time_went_into_making_batches(tmp_path):
    class At:
        step, seconds = 0, 3.0

    log = Log(tmp_path, At, Place(torch.device("cpu")))
    for _ in range(2):
        log.add(torch.ones(4), torch.ones(4), torch.ones(()), 0.5)
    At.step, At.seconds = 2, 7.0
    log.write(At, 0.1)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["share_making_batches"] == 0.25 and line["pictures_per_second"] == 2


def test_the_running_mean_of_the_weights(tmp_path):
    state = State(tiny(), tiny_config(tmp_path, ema=0.35))
    weight = state.network.net[0].weight
    mean = weight.detach().double()
    for decay in (1 / 10, 2 / 11, 3 / 12, 4 / 13, 0.35, 0.35):  # (1 + k) / (10 + k), and 5 / 14 is above .35
        with torch.no_grad():
            weight.add_(1)
        mean = decay * mean + (1 - decay) * weight.detach().double()
        state.follow()
        state.step += 1
    torch.testing.assert_close(state.ema.net[0].weight.double(), mean, atol=1e-6, rtol=0)


def test_every_pass_of_every_step_has_its_own_draws(tmp_path):
    drawn = []

    def make_batch(generator, now):
        drawn.append(torch.rand(1, generator=generator.clone_state()).item())
        return tiny_batch(8)(generator, now)

    for seed in (0, 1):
        tiny_training(tmp_path / str(seed), make_batch, seed=seed, steps=5, accumulate=2)
    assert len(drawn) == len(set(drawn)) == 20


def test_near_seeds_give_unrelated_streams_and_the_same_seed_the_same():
    seeds = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    draws = {parts: torch.randn(10_000, generator=generator_of(*parts)) for parts in seeds}
    table = torch.corrcoef(torch.stack(list(draws.values())))
    assert (table - torch.eye(4)).abs().max() < 0.05
    assert torch.equal(draws[0, 1, 0], torch.randn(10_000, generator=generator_of(0, 1, 0)))


def test_configurations_refuse_what_they_do_not_know(capsys):
    presets = {"cpu": dict(steps=5)}
    assert configure(LoopConfig, presets, "cpu", batch=3) == LoopConfig(steps=5, batch=3)
    with pytest.raises(ValueError, match="LoopConfig does not know bacth:\nkeys folder, seed"):
        configure(LoopConfig, presets, "cpu", bacth=3)
    with pytest.raises(ValueError, match='preset "gpu": one of cpu expected'):
        configure(LoopConfig, presets, "gpu")
    with pytest.raises(ValueError, match="steps = 0, minutes = 0: one of them above 0 expected"):
        LoopConfig()
    with pytest.raises(SystemExit):
        from_command_line(LoopConfig, presets, "", ["--bacth", "3"])
    assert "--bacth" in capsys.readouterr().err


def test_the_command_line_of_a_configuration_makes_it_again():
    config = LoopConfig(steps=1, batch=7, bf16=False, compile=True, learning_rate=0.5, folder="runs/a")
    command = command_line("train.x", config)
    assert command.startswith("python -m train.x --folder runs/a --steps 1 ")
    assert from_command_line(LoopConfig, {"cpu": {}}, "", command.split()[3:]) == config


def test_it_runs_outside_the_main_thread(tmp_path):
    steps = []
    thread = threading.Thread(target=lambda: steps.append(tiny_training(tmp_path, steps=2).step))
    thread.start()
    thread.join()
    assert steps == [2]


if __name__ == "__main__":
    task, folder = sys.argv[1], Path(sys.argv[2])
    if task == "kill":
        kill_again_and_again(folder, int(sys.argv[3]))
    else:
        tiny_training(folder, steps=10)


def test_a_fall_from_the_first_step_on_needs_a_number_of_steps(tmp_path):
    assert tiny_config(tmp_path, decay=1).decay == 1
    with pytest.raises(ValueError, match="decay = 1: below 1 expected with minutes"):
        tiny_config(tmp_path, decay=1, steps=0, minutes=1)


def test_a_checkpoint_that_lacks_a_newer_option_was_made_with_its_default(tmp_path):
    tiny_training(tmp_path, steps=4)
    path = tmp_path / "state.safetensors"
    tensors, metadata = load_state(path)
    del metadata["config"]["muon"]
    save_state(path, tensors, metadata)
    assert tiny_training(tmp_path, steps=4).step == 4
    with pytest.raises(CheckpointError, match="of another run: muon is  in the file, net asked for"):
        tiny_training(tmp_path, steps=4, muon="net")
