"""train/supply.py: batches painted ahead, kept, and shown again; the same for any number of workers."""

import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from importlib import import_module

import pytest
import torch

from train import supply
from train.batches import each
from train.config import from_command_line
from train.log import TrainingError
from train.loop import Now, generator_of
from train.supply import Again, AgainConfig, Ahead, Supply, SupplyConfig, as_bytes, as_floats

forks = pytest.mark.skipif(sys.platform != "linux", reason="workers fork")


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def counting(made):
    def make(now):
        made.append(now)
        return torch.rand(3, generator=generator_of(now.step, now.number)), now

    return make


def again_of(made, **options):
    return Again(counting(made), AgainConfig(steps=99, **options))


def test_batches_that_come_again_are_made_once_and_the_same_after_a_break():
    made = []
    again = again_of(made, distinct=3)
    first = [again(Now(step, 0, 1.0))[0] for step in range(7)]
    assert [now.step for now in made] == [0, 1, 2]
    assert torch.equal(first[1], first[4]) and torch.equal(first[0], first[6])
    assert not any(torch.equal(first[0], other) for other in first[1:3])
    resumed = again_of([], distinct=3)
    assert torch.equal(resumed(Now(5, 0, 0.3))[0], first[2])
    assert not torch.equal(again(Now(0, 1, 1.0))[0], first[0])              # another pass of the step


def test_without_a_number_no_batch_comes_again_and_none_is_kept():
    made = []
    again = again_of(made, distinct=0)
    for step in (0, 7, 0):
        _, now = again(Now(step, 0, 1.0))
        assert now.step == step
    assert len(made) == 3 and not again.made


def test_old_batches_fill_the_time_between_new_ones():
    made = []
    again = again_of(made, distinct=4, every=5)
    steps = [again(Now(step, 0, 1.0))[1].step for step in range(40)]
    assert [now.step for now in made] == [0, 1, 2, 3] and steps[0::5][:4] == [0, 1, 2, 3]
    assert all(step <= k // 5 for k, step in enumerate(steps[:20]))       # nothing that is not made yet
    assert set(steps[16:20]) != {3} and steps[20:] == [k % 4 for k in range(20, 40)]
    assert [again.which(step) for step in range(20)] == steps[:20]
    made.clear()
    resumed = again_of(made, distinct=4, every=5, accumulate=2)           # makes all anew, in their order
    assert resumed(Now(13, 3, 1.0))[1].step == steps[13]
    assert [(now.step, now.number) for now in made][:4] == [(0, 2), (0, 3), (1, 2), (1, 3)][: len(made)]


def test_pictures_travel_as_bytes_and_nothing_else_does():
    pictures = 2 * torch.rand(3, 3, 8, 8, generator=seeded(0)) - 1
    mask = torch.ones(3, 1, 8, 8, dtype=torch.bool)
    batch = [("words", pictures), (Now(1, 2, 0.5), mask, torch.arange(3), torch.rand(3))]
    packed = each(as_bytes, batch)
    assert packed[0][1].dtype == torch.uint8 and packed[0][0] == "words" and packed[1][0] == Now(1, 2, 0.5)
    there = each(as_floats, packed)
    assert (there[0][1] - pictures).abs().max() <= 1 / 255 + 1e-6 and there[0][1].dtype == torch.float32
    assert all(one is other for one, other in zip(there[1][1:], batch[1][1:]))
    assert as_floats(as_bytes(torch.tensor([-1.0, 1.0]).view(1, 1, 1, 2))).flatten().tolist() == [-1, 1]


@forks
def test_a_supply_is_the_same_with_workers_and_prepares_each_batch_once():
    """distinct 2, every 2: the batches of steps 0 to 5 are 0, an old one, 1, an old one, 0, 1."""
    def make(generator, now):
        return 2 * torch.rand(2, 3, 4, 4, generator=generator) - 1, f"step {now.step}"

    def prepare(batch):
        prepared.append(batch[1])
        return batch[0].mean(), batch[1]

    for supplied in ({}, dict(workers=1)):
        prepared, config = [], SupplyConfig(steps=9, distinct=2, every=2, seed=3, **supplied)
        supply, plain = Supply(make, config, "cpu", prepare), Supply(make, config, "cpu")
        for step in range(6):
            (mean, words), (pictures, same_words) = supply(Now(step, 0, 0.1)), plain(Now(step, 0, 0.1))
            expected, _ = make(generator_of(3, "ahead", int(words[-1]), 0), Now(int(words[-1]), 0, 1.0))
            assert torch.equal(pictures, as_floats(as_bytes(expected))) and torch.equal(mean, pictures.mean())
            assert words == same_words and (step % 2 or words == f"step {(0, 1, 0)[step // 2]}")
        assert prepared == ["step 0", "step 1"]


@forks
@pytest.mark.parametrize("accumulate", (1, 2))
def test_workers_end_with_the_last_batch_that_differs(accumulate):
    config = SupplyConfig(steps=9, accumulate=accumulate, workers=1, distinct=3)
    given, others = Supply(drawn_with, config, "cpu"), set(multiprocessing.active_children())
    for step in range(5):
        for number in range(accumulate, 2 * accumulate):         # of a second process
            assert given(Now(step, number, 1.0))[1] == f"{step % 3} {number}"
            made_all = (step, number) >= (2, 2 * accumulate - 1)
            assert len(set(multiprocessing.active_children()) - others) == (0 if made_all else 1)


@forks
def test_a_worker_that_is_gone_ends_the_training_in_two_lines():
    ahead = Ahead(drawn_with, SupplyConfig(steps=1, workers=1))
    ahead(Now(0, 0, 1.0))
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()
    with pytest.raises(TrainingError, match="a process that paints has ended: .*\nthe same command"):
        for step in range(1, 99):                               # some batches are there already
            ahead(Now(step, 0, 1.0))


@forks
def test_workers_leave_an_interrupt_to_the_training():
    ahead = Ahead(drawn_with, SupplyConfig(steps=1, workers=1))
    assert ahead(Now(0, 0, 1.0))[1] == "0 0"
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGINT)
    assert [ahead(Now(step, 0, 1.0))[1] for step in range(1, 20)] == [f"{step} 0" for step in range(1, 20)]


def test_workers_are_refused_where_forks_are_not_safe(monkeypatch):
    monkeypatch.setattr(supply.sys, "platform", "darwin")
    with pytest.raises(ValueError, match="--workers 0 expected: only Linux"):
        Ahead(drawn_with, SupplyConfig(steps=1, workers=1))


def test_what_looks_like_pictures_but_is_none_is_refused():
    for value in (2.0, float("nan")):
        with pytest.raises(ValueError, match=r"taken for pictures, but is \(1, 1, 2, 2\), up to"):
            as_bytes(torch.full((1, 1, 2, 2), value))


def test_options_of_the_supply_are_checked():
    for wrong in (dict(every=0), dict(distinct=-1)):
        with pytest.raises(ValueError, match="at least 0 and 1 expected"):
            SupplyConfig(steps=1, **wrong)
    with pytest.raises(ValueError, match="workers = -1: at least 0 expected"):
        SupplyConfig(steps=1, workers=-1)


@pytest.mark.parametrize("script, unknown", [("lama", "distinct"), ("clip", "every"), ("reader", "workers"),
                                             ("vae", "workers"), ("ablations", "distinct")])
def test_a_script_refuses_the_options_of_a_supply_that_it_has_not(script, unknown, capsys):
    found = import_module(f"train.{script}")
    with pytest.raises(SystemExit):
        from_command_line(found.Config, found.PRESETS, found.__doc__, ["--steps", "1", f"--{unknown}", "2"])
    assert f"unrecognized arguments: --{unknown} 2" in capsys.readouterr().err


def drawn_with(generator, now):
    return torch.rand(2, generator=generator), f"{now.step} {now.number}", now.falling


@forks
@pytest.mark.parametrize("accumulate, passes", [
    (1, [(0, 0), (1, 0), (2, 0), (7, 0), (8, 0), (1, 0), (9, 0)]),
    (2, [(0, 2), (0, 3), (1, 2), (1, 3), (5, 2), (0, 2), (5, 3)])])
def test_batches_made_ahead_are_those_made_when_asked_for(accumulate, passes):
    """In turn, after a gap, and again, with 0, 1, 2 workers; the numbers are those of a second process."""
    config = SupplyConfig(steps=9, accumulate=accumulate, seed=4)
    found = [[ahead(Now(*wanted, 0.3)) for wanted in passes]
             for ahead in (Ahead(drawn_with, replace(config, workers=n)) for n in (0, 1, 2))]
    for wanted, *batches in zip(passes, *found, strict=True):
        for numbers, words, falling in batches:
            assert torch.equal(numbers, batches[0][0]) and falling == 1.0
            assert words == f"{wanted[0]} {wanted[1]}"
    assert not torch.equal(found[0][0][0], found[0][1][0])
