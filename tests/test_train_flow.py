"""train/flow.py and train/tasks.py: what a batch holds, the loss, the times, a training to its weights."""

import json
import math
import os
import signal
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from minidiff import checkpoint
from minidiff.checkpoint import CheckpointError, load_state, load_weights
from minidiff.denoisers import blocks
from minidiff.denoisers.dit import DiT, DiTConfig
from minidiff.editor import Editor
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.encoders.vae import VAE, cells_of
from minidiff.images import to_pil
from minidiff.latent import LatentModel
from minidiff.process.flow import Flow, shift_for, shifted
from minidiff.toytown import KINDS, load_split
from train import denoising, drawn, flow, look, tasks
from train.batches import each
from train.config import configure
from train.data import Town, TownEdits, TownScenes, on_device
from train.denoising import logit_normal_times, successes, val_edits
from train.loop import Now, generator_of
from train.recorded import padded
from train.supply import as_bytes, as_floats
from train.tasks import MIX, Tasks, counts

NOW = Now(5, 0, 1.0)


@pytest.fixture
def quick(small_flow, monkeypatch, tmp_path, tiny_latent_weights):
    """A config of two steps; networks and samples are small, data/ is temporary, but for the splits."""
    load_split("val", 32)
    monkeypatch.setattr(tasks, "PART", 8)
    monkeypatch.setattr(look.save_samples, "__defaults__", (2, 1))
    monkeypatch.setattr(look.figures, "__defaults__", (2, 1))
    monkeypatch.setattr(flow, "save_weights", partial(checkpoint.save_weights, folder=tmp_path / "data"))
    return flow.Config(folder=str(tmp_path / "run"), name="tiny", size=32, steps=2, batch=8, warmup=1,
                       log_steps=1, device="cpu", bf16=False, dim=32, double=1, single=1, generation=0.25,
                       reconstruction=0.25, fusion=0.25, writing=0.0, choice=0.0,
                       vae=str(tiny_latent_weights.with_name("tiny-vae.safetensors")))


@pytest.fixture
def vae(quick):
    return VAE.load(quick.vae)


def ahead_of(config, now):
    """The groups of a pass, as the script paints them."""
    return Tasks(config, "cpu")(generator_of(config.seed, "ahead", now.step, now.number), now)


def begun(monkeypatch, config):
    """(network, make_batch), as the script hands them to the loop."""
    caught = []
    with monkeypatch.context() as patched:
        patched.setattr(flow, "train", lambda *given: caught.append(given) or _Unfinished)
        flow.main(config)
    (network, make_batch, *_), = caught
    return network, make_batch


class _Unfinished:
    done = False


def town_edits(kinds, task):
    """As the tasks draw them."""
    return TownEdits(kinds, 32, "cpu", (0, task), part=8)


# Tasks

def test_each_task_shows_what_it_says(quick):
    config = replace(quick, batch=16, drop=0.0)
    fusion, single, pictures = Tasks(config, "cpu")(generator_of(0, 5, 0), NOW)
    same, shown = (TownScenes(32, "cpu", (0, task), part=8)(4, NOW)
                   for task in ("reconstruction", "generation"))
    edits, fusions = town_edits(MIX, "editing")(4, NOW), town_edits(("combine",), "fusion")(4, NOW)
    assert [len(group.contexts) for group in (fusion, single, pictures)] == [2, 1, 0]
    assert torch.equal(pictures.target, shown.x0) and pictures.words == shown.captions
    assert not pictures.region.any()
    assert single.words == [""] * 4 + list(edits.instruction) and fusion.words == list(fusions.instruction)
    assert torch.equal(single.target, torch.cat([same.x0, edits.target]))
    assert torch.equal(single.contexts[0], torch.cat([same.x0, edits.source]))
    assert torch.equal(fusion.target, fusions.target) and torch.equal(fusion.contexts[0], fusions.source)
    assert torch.equal(fusion.contexts[1], fusions.reference) and fusions.reference.any()
    assert not single.region[:4].any() and torch.equal(single.region[4:], edits.region)
    assert torch.equal(fusion.region, fusions.region) and set(fusions.kind) == {"combine"}


def test_a_reconstruction_sees_its_own_source_and_is_always_told_to_change_nothing(quick):
    config = replace(quick, drop=1.0)
    fusion, single, pictures = Tasks(config, "cpu")(generator_of(0, 5, 0), NOW)
    assert torch.equal(single.contexts[0][:2], single.target[:2])
    assert single.words == ["", "", None, None] and fusion.words == pictures.words == [None, None]
    assert not torch.equal(single.contexts[0][2:], single.target[2:])


def test_shares():
    assert counts(32, 0.2, 0.05, 0.1, 0.3) == (6, 2, 3, 10, 11)
    assert counts(32, 0.2, 0.05, 0.1) == (6, 2, 3, 21) and counts(4, 0.5, 0.5, 0) == (2, 2, 0, 0)
    for shares in ((0.5, 0.6, 0), (-0.1, 0.5, 0)):
        with pytest.raises(ValueError, match="shares of the batch are"):
            counts(10, *shares)
    with pytest.raises(ValueError, match="the batch has 8: 0, or enough for one example"):
        counts(8, 0.2, 0.05, 0.1)


@pytest.mark.parametrize(
    "share, sizes", [("generation", [0]), ("reconstruction", [1]), ("writing", [1]), ("fusion", [2]),
                     ("choice", [3]), (None, [1])])
def test_tasks_can_be_left_out(quick, share, sizes):
    names = ("generation", "reconstruction", "writing", "fusion", "choice")
    shares = [float(name == share) for name in names]
    groups = Tasks(replace(quick, **dict(zip(names, shares))), "cpu")(generator_of(0, 5, 0), NOW)
    assert [len(group.contexts) for group in groups] == sizes and len(groups[0].words) == 8


def test_a_single_choice_has_rivals_all_the_same(quick):
    config = replace(quick, generation=0.0, reconstruction=0.0, fusion=0.0, choice=0.125, drop=0.0)
    choice, _ = Tasks(config, "cpu")(generator_of(0, 5, 0), NOW)
    edits = town_edits(("combine",), "choice")(8, NOW)
    assert len(choice.words) == 1 and torch.equal(choice.target, edits.target[:1])
    own, rival = edits.reference[:1], edits.reference[edits.rivals[:1]]
    wanted = (rival, own) if "image 3" in choice.words[0] else (own, rival)
    assert all(torch.equal(*pair) for pair in zip(choice.contexts[1:], wanted, strict=True))


def test_kinds_are_all_those_with_a_truth():
    assert {*MIX, "combine"} == set(KINDS)


def test_writing_is_more_edits_of_signs(quick):
    config = replace(quick, generation=0.0, reconstruction=0.0, fusion=0.0, writing=0.5, drop=0.0)
    (group,) = Tasks(config, "cpu")(generator_of(0, 5, 0), NOW)
    signs, edits = town_edits(("text",), "writing")(4, NOW), town_edits(MIX, "editing")(4, NOW)
    assert group.words == list(signs.instruction + edits.instruction)
    assert torch.equal(group.target, torch.cat([signs.target, edits.target]))
    assert torch.equal(group.contexts[0], torch.cat([signs.source, edits.source]))


def test_a_choice_says_which_of_two_pictures_counts(quick):
    config = replace(quick, batch=12, generation=0.0, reconstruction=0.0, fusion=0.0, choice=1.0, drop=0.0)
    (group,) = Tasks(config, "cpu")(generator_of(0, 5, 0), NOW)
    edits, (source, second, third) = town_edits(("combine",), "choice")(12, NOW), group.contexts
    assert torch.equal(group.target, edits.target) and torch.equal(source, edits.source)
    chosen = ["image 3" in words for words in group.words]
    assert 0 < sum(chosen) < 12
    for i, is_third in enumerate(chosen):
        assert torch.equal((third if is_third else second)[i], edits.reference[i])
        assert torch.equal((second if is_third else third)[i], edits.reference[edits.rivals[i]])
        assert group.words[i].replace("image 3", "image 2") == edits.instruction[i]


# Batches

def test_a_batch_is_on_the_line_from_latents_to_noise_and_its_contexts_are_clean(quick, vae, monkeypatch):
    network, make_batch = begun(monkeypatch, quick)
    batch = make_batch(generator_of(0, 5, 0), NOW)
    groups = each(as_floats, each(as_bytes, ahead_of(quick, NOW)))
    generator = generator_of(0, 5, 0)
    times = [logit_normal_times(len(group.words), quick.shift if group.contexts else shift_for(16), generator)
             for group in groups]
    noises = on_device(generator, "cpu")
    for made, group, t in zip(batch, groups, times, strict=True):
        z_t, level, tokens, v, weight, contexts = made
        z0, n = vae.latents(group.target).half().float(), len(group.words)
        noise = torch.randn(z0.shape, generator=noises)
        a = t.float().view(n, 1, 1, 1)
        assert torch.equal(level, t.float()) and level.dtype == torch.float32
        assert (z_t - ((1 - a) * z0 + a * noise)).abs().max() < 1e-5 and (v - (noise - z0)).abs().max() < 1e-5
        assert torch.equal(tokens, network.text.tokenize(group.words))
        for context, picture in zip(contexts, group.contexts, strict=True):
            assert (context - vae.latents(picture)).abs().max() < 2e-3
        assert torch.equal(weight, 1 + 4.0 * cells_of(group.region, 4)) and z_t.shape[2:] == (8, 8)
        assert not any(tensor.requires_grad for tensor in (z_t, v, *contexts))
    late = make_batch(generator_of(0, 5, 0), Now(5, 0, 0.0))
    for made, then, group in zip(late, batch, groups, strict=True):
        back = shift_for(16) / quick.shift if group.contexts else 1.0
        assert (made[4] == 1).all() and (made[1] - shifted(then[1], back)).abs().max() < 1e-6
    assert not torch.equal(make_batch(generator_of(0, 6, 0), Now(6, 0, 1.0))[0][0], batch[0][0])


def test_the_times_of_edits_come_down_from_the_noise_with_the_learning_rate_and_those_of_captions_stay(quick):
    config, z0 = replace(quick, shift=16.0, last_shift=4.0), torch.zeros(1, 16, 8, 12)
    assert [flow.time_shift(config, z0, [z0], falling) for falling in (1, 0.5, 0)] == [16, 8, 4]
    assert all(flow.time_shift(config, z0, [], falling) == shift_for(24) for falling in (1, 0.5, 0))
    usual = replace(config, shift=0.0, last_shift=0.0)
    assert all(flow.time_shift(usual, z0, [z0], falling) == shift_for(24) for falling in (1, 0.5, 0))


@pytest.mark.parametrize("name", ["shift", "last_shift"])
def test_a_shift_below_0_is_refused(quick, name):
    with pytest.raises(ValueError, match=f"{name} = -1.*at least 0 expected"):
        replace(quick, **{name: -1})


@pytest.mark.skipif(sys.platform != "linux", reason="workers fork")
def test_workers_paint_the_same_batches(quick, monkeypatch):
    _, alone = begun(monkeypatch, quick)
    _, painted = begun(monkeypatch, replace(quick, workers=2))
    for step in (0, 1, 2):
        for one, other in zip(alone(generator_of(0, step, 0), Now(step, 0, 1.0)),
                              painted(generator_of(0, step, 0), Now(step, 0, 1.0)), strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:5], other[:5], strict=True))
            assert all(torch.equal(a, b) for a, b in zip(one[5], other[5], strict=True))


def test_times_are_logit_normal_shifted_stratified_and_in_random_order():
    n, shift = 4000, 3.0
    t = logit_normal_times(n, shift, generator_of("times"))
    z = (t / shift / (1 - t + t / shift)).logit()              # what was shifted, undone
    assert (shifted(z.sigmoid(), shift) - t).abs().max() < 1e-12
    normal = torch.distributions.Normal(0.0, 1.0)
    u = normal.cdf(z).sort().values
    assert ((u * n).floor() - torch.arange(n)).abs().max() <= 1 # one in each part
    s = z.sort().values                                         # and eq. 19 is the derivative of that cdf
    middle = ((s[1:] + s[:-1]) / 2).sigmoid()
    density = torch.exp(-middle.logit().square() / 2) / (math.sqrt(2 * math.pi) * middle * (1 - middle))
    assert abs((density * s.sigmoid().diff()).sum() - 1) < 1e-3
    order = torch.corrcoef(torch.stack([t, torch.arange(n).double()]))[0, 1]
    assert abs(order) < 0.05
    assert torch.equal(t, logit_normal_times(n, shift, generator_of("times")))


# The loss

def test_the_loss_is_the_weighted_error_of_the_velocity_group_by_group():
    torch.manual_seed(0)
    text = TextConfig(Town.words, Town.characters, dim=32, layers=1)
    shape = DiTConfig(8, dim=32, blocks=("single",), condition_dim=32, text_dim=32)
    network = flow.TokensToVelocity(shape, text)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    groups = []
    for count, n in ((2, 1), (1, 3), (0, 2)):
        z_t, v, *contexts = (torch.randn(n, 8, 4, 4) for _ in range(2 + count))
        words = ["remove the tree", "", None][:n]
        weight = torch.rand(n, 1, 4, 4)
        groups.append((z_t, torch.rand(n), network.text.tokenize(words), v, weight, contexts))
    losses, levels = network(*groups)
    assert losses.shape == (6,) and torch.equal(levels, torch.cat([group[1] for group in groups]))
    expected = []
    for z_t, level, tokens, v, weight, contexts in groups:
        for i in range(len(z_t)):
            one = slice(i, i + 1)
            told = network.text(tokens[one])
            found = network.dit(z_t[one], level[one], *told, [context[one] for context in contexts])
            expected.append(sum((weight[i, 0] * (found[0, c] - v[i, c]) ** 2).mean() for c in range(8)) / 8)
    assert (losses - torch.stack(expected)).abs().max() < 1e-5


def test_padding_changes_no_loss():
    """A graph is recorded for each length of texts, so few are used; nobody looks at the padding."""
    torch.manual_seed(0)
    text = TextConfig(Town.words, Town.characters, dim=32, layers=1, neighbours=True)
    shape = DiTConfig(8, dim=32, blocks=("double", "single"), condition_dim=32, text_dim=32)
    network = flow.TokensToVelocity(shape, text)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens = network.text.tokenize(['write "AB" on the sign', "", None])
    z_t, v, weight = torch.randn(3, 8, 4, 4), torch.randn(3, 8, 4, 4), torch.rand(3, 1, 4, 4)
    own = tokens.shape[1]
    wanted = {(): own, (2, 16, 24): 16, (2,): own, (own, 56): own, (own - 1, 56): 56}
    losses = []
    for lengths, length in wanted.items():
        longer = padded(tokens, lengths)
        assert longer.shape == (3, length) and torch.equal(longer[:, :own], tokens)
        losses.append(network.loss(z_t, torch.full((3,), 0.5), longer, v, weight, [z_t])[0])
    assert all((other - losses[0]).abs().max() < 1e-5 for other in losses)


# Trainings

def test_what_all_blocks_share_is_compiled_once(monkeypatch):
    """And gives the same losses, whatever the number of tokens. Sizes that are equal by chance would be
    taken for always equal."""
    graphs, real = [], torch.compile

    def counted(graph, _):
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", lambda f, dynamic: real(f, backend=counted, dynamic=dynamic))
    monkeypatch.setattr(blocks, "attend", blocks.attend_fused)  # as on a GPU
    torch.manual_seed(0)
    text = TextConfig(Town.words, Town.characters, dim=96, layers=1)
    shape = DiTConfig(8, dim=64, blocks=("double", "single", "single"), condition_dim=48, text_dim=96)
    network = flow.TokensToVelocity(shape, text)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    groups = []
    for n, count, words in ((6, 0, "a house at night"), (7, 1, "make the house red"), (9, 2, "paint it")):
        z_t, v, tokens = torch.randn(n, 8, 8, 8), torch.randn(n, 8, 8, 8), network.text.tokenize([words] * n)
        groups.append((z_t, torch.rand(n), tokens, v, torch.rand(n, 1, 8, 8), [z_t] * count))
    expected, _ = network(*groups)
    network.compile_repeated()
    torch._dynamo.reset()
    losses, _ = network(*groups)
    assert (losses - expected).abs().max() < 1e-5 and len(graphs) == 2


def test_a_training_ends_in_weights_that_draw_and_edit(quick, tmp_path):
    state = flow.main(replace(quick, export=True))
    path = tmp_path / "data" / "tiny.safetensors"
    tensors, entry = load_weights(path)
    assert entry["config"]["vae"] == quick.vae and entry["config"]["size"] == 32
    assert entry["config"]["vae_sha256"] == load_weights(quick.vae)[1]["sha256"]
    assert entry["steps"] == 2 and entry["command"].startswith("python -m train.flow --folder")
    for name, value in state.ema.state_dict().items():
        torch.testing.assert_close(tensors[name], value, atol=1e-3, rtol=1e-3)
    assert all(weight.any() for weight in (state.network.dit.head.weight, state.network.text.token.weight))
    found = json.loads((tmp_path / "run/samples/000002.json").read_text())
    names = {"success", "kept", "text success", "text kept", "fusion success", "fusion kept"}
    assert found.keys() == {"step", *names} and len(entry["curve"]) == 1
    assert Image.open(tmp_path / "run/samples/000002.png").size == (2 * 32, 9 * 32)
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2
    editor, picture = Editor.load(path, device="cpu"), to_pil(val_edits(32, MIX, 1).source)
    assert editor.model.dit.config == state.ema.dit.config
    assert editor.edit([picture, picture], "use the style of image 2", steps=2).image.size == (32, 32)
    assert editor.generate("a house", control="context", steps=2).image.size == (32, 32)


def test_a_training_takes_edits_that_are_drawn_already(quick, monkeypatch, tmp_path):
    """And the same ones whether its passes are graphs, which they can be on a GPU alone, or not."""
    monkeypatch.setattr(drawn, "PART", 8)
    path = str(drawn.main(drawn.Config(path=str(tmp_path / "edits"), seed=1, editing=8, writing=8, fusion=8,
                                       choice=8, workers=1)))
    config = replace(quick, drawn=path, drop=0.0)
    stored, sha256 = drawn.load_drawn(path)
    (fusion, single, _) = Tasks(config, "cpu", stored)(generator_of(0, 5, 0), NOW)
    assert fusion.words == list(stored["fusion"].instruction[2 * 5 % 8 :][:2])
    losses = []
    for graphs in (False, True):
        network, make_batch = begun(monkeypatch, replace(config, graphs=graphs))
        batches = [make_batch(generator_of(0, step, 0), NOW) for step in range(2)]
        losses.append(torch.cat([network(*batch)[0] for batch in batches]))
    assert (losses[0] - losses[1]).abs().max() < 1e-5
    state = flow.main(replace(config, graphs=True))
    assert state.step == 2 and state.given["drawn_sha256"] == sha256
    drawn.main(drawn.Config(path=path, seed=2, editing=8, writing=8, fusion=8, choice=8, workers=1))
    with pytest.raises(CheckpointError, match="of another run: drawn_sha256"):
        flow.main(config)
    with pytest.raises(FileNotFoundError, match="python -m train.drawn"):
        begun(monkeypatch, replace(config, drawn="none"))


def test_a_training_can_keep_a_share_of_the_weights_it_began_with(quick, tmp_path):
    quick, path = replace(quick, export=True), str(tmp_path / "data/tiny.safetensors")
    first = flow.main(quick).ema.state_dict()
    half = replace(quick, folder=str(tmp_path / "half"), init=path, name="half", kept=0.25)
    last = flow.main(half).ema.state_dict()
    found, entry = load_weights(tmp_path / "data/half.safetensors")
    for name, value in first.items():
        error = (found[name] - 0.25 * value - 0.75 * last[name]).abs().max()
        assert error <= 2e-3 * max(value.abs().max(), last[name].abs().max())
    assert any((value - last[name]).abs().max() > 0.01 * value.abs().max() for name, value in found.items())
    assert "--kept 0.25" in entry["command"]
    flow.main(replace(quick, folder=str(tmp_path / "other"), seed=1))               # takes the name
    with pytest.raises(ValueError, match="not the weights that the run began with"):
        flow.main(half)
    for wrong in (dict(kept=1.0, init=path), dict(kept=-0.1, init=path), dict(kept=0.5)):
        with pytest.raises(ValueError, match="at least 0, below 1, and weights to begin with"):
            replace(quick, **wrong)


def test_a_training_can_begin_with_the_weights_of_another(quick, monkeypatch, tmp_path):
    """In half precision, as they were written; in the latents of the same VAE, and of no other."""
    state = flow.main(replace(quick, export=True))
    path, quick = str(tmp_path / "data/tiny.safetensors"), replace(quick, folder=str(tmp_path / "other"))
    network, _ = begun(monkeypatch, replace(quick, init=path))
    for name, value in state.ema.state_dict().items():
        assert (network.state_dict()[name] - value).abs().max() <= 1e-3 * value.abs().max()
    fresh, _ = begun(monkeypatch, quick)
    assert not torch.equal(fresh.dit.head.weight, network.dit.head.weight)
    with pytest.raises(CheckpointError, match="its configuration does not fit:\n.*another VAE"):
        flow.begin_with(network, path, "0123")
    with pytest.raises(CheckpointError):
        begun(monkeypatch, replace(quick, init=path, dim=64))
    monkeypatch.setattr(Town, "words", ("zebra", *Town.words))  # a vocabulary that has grown
    grown, _ = begun(monkeypatch, replace(quick, init=path))
    for word in ("red", "3", "zebra"):
        row = grown.text.token.weight[grown.text.word_number[word]]
        if word == "zebra":
            assert row.abs().max() < 0.2
        else:
            assert torch.equal(row, network.text.token.weight[network.text.word_number[word]])


def test_an_entry_tells_of_the_weights_it_began_with_even_if_they_had_its_name(quick, tmp_path, monkeypatch):
    flow.main(replace(quick, export=True))
    path = tmp_path / "data/tiny.safetensors"
    first = load_weights(path)[1]
    again = replace(quick, init=str(path), folder=str(tmp_path / "again"), steps=3, export=True)
    with monkeypatch.context() as patched:
        patched.setattr(flow, "save_samples", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        flow.main(replace(again, sample_minutes=0))
    flow.main(replace(quick, export=True, seed=1, folder=str(tmp_path / "other")))   # the name means others
    flow.main(again)
    second, made = load_weights(path)[1], (
        "command", "data_seed", "steps", "seconds", "hardware", "sha256", "curve")
    assert "init" not in first and second["steps"] == 3
    assert second["init"] == {key: first[key] for key in made}


def test_one_process_of_a_training_writes_where_it_begins(quick, tmp_path, monkeypatch):
    origin = tmp_path / "run" / denoising.ORIGIN
    for rank in (1, 0):
        place = flow.Place(torch.device("cpu"), rank, 2)
        monkeypatch.setattr(denoising.Place, "find", lambda device, place=place: place)
        denoising.begin_from(replace(quick, init="a"), lambda name: {"command": name, "figures": {}})
        assert origin.exists() == (rank == 0)
    assert json.loads(origin.read_text()) == {"command": "a"}
    denoising.begin_from(quick, None)                           # another run in its place
    assert not origin.exists()


def test_a_training_goes_on_without_the_weights_it_began_with(quick, tmp_path, monkeypatch):
    flow.main(replace(quick, export=True))
    path = tmp_path / "data/tiny.safetensors"
    again = replace(quick, init=str(path), folder=str(tmp_path / "again"), steps=3)
    with monkeypatch.context() as patched:
        patched.setattr(flow, "save_samples", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        assert not flow.main(replace(again, sample_minutes=0)).done
    path.unlink()
    assert flow.main(again).step == 3


def test_a_training_goes_on_in_the_latents_of_the_same_vae_only(quick, tmp_path, monkeypatch):
    tensors, entry = load_weights(quick.vae)
    path = checkpoint.save_weights("tiny-vae", tensors, entry, tmp_path / "vae")
    config = replace(quick, vae=str(path))
    with monkeypatch.context() as patched:
        patched.setattr(flow, "save_samples", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        flow.main(replace(config, sample_minutes=0))
    tensors["scale"] *= 2
    checkpoint.save_weights("tiny-vae", tensors, entry, tmp_path / "vae")
    with pytest.raises(CheckpointError, match="of another run: vae_sha256 is"):
        flow.main(config)


def test_points_of_a_run_that_was_given_up_are_not_in_the_curve(quick, tmp_path):
    denoising.save_point(tmp_path / "run/samples/000009.json", {"step": 9, "success": 1.0})
    flow.main(replace(quick, export=True))
    curve = load_weights(tmp_path / "data/tiny.safetensors")[1]["curve"]
    assert [point["step"] for point in curve] == [2]


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=4, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    flow.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(flow, "save_samples", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        stopped = flow.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert flow.main(cut).step == 4
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_vae_is_not_trained(quick, vae):
    state = flow.main(quick)
    assert not any("vae" in name for name, _ in state.network.named_parameters())
    for name, value in VAE.load(quick.vae).state_dict().items():
        assert torch.equal(value, vae.state_dict()[name])


def test_edits_are_drawn_from_their_pictures(quick, vae, monkeypatch):
    """With a velocity that leads straight to the first context, the edit is the round trip of its source."""
    network = DiT(DiTConfig(8, dim=32, blocks=("single",), condition_dim=32, text_dim=32))
    text = TextEncoder(TextConfig(Town.words, Town.characters, dim=32, layers=1))
    model, edits = LatentModel(Flow(), network, text, vae, size=32), val_edits(32, ("combine",), 3)
    seen = []

    def denoiser(words, scale, contexts, *_):
        seen.append((words, contexts))
        return lambda z_t, t: (z_t - contexts[0]) / t

    monkeypatch.setattr(model, "denoiser", denoiser)
    x = look.edited(model, edits, 4)
    assert (x - vae.round_trip(edits.source)).abs().max() < 1e-4
    (words, contexts), = seen
    assert words == list(edits.instruction) and torch.equal(contexts[1], vae.latents(edits.reference))


def test_successes_of_edits_that_are_true_or_undone():
    edits = val_edits(32, ("recolour",), 4)
    assert successes(edits, edits.target)["success"] == 1 and successes(edits, edits.target)["kept"] > 55
    assert successes(edits, edits.source)["success"] == 0


def test_presets_are_complete_and_options_are_checked():
    for preset in flow.PRESETS:
        config = configure(flow.Config, flow.PRESETS, preset)
        assert 0 < config.minutes <= 120
        assert len(Tasks(config, "cpu").counts) == 6 and min(Tasks(config, "cpu").counts) >= 1
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(flow.Config, flow.PRESETS, "cpu", colour="red")
