"""train/instruct.py and train/inpaint.py: what a batch holds, where they begin, and a training of each."""

import os
import signal
from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from minidiff import checkpoint
from minidiff.bench.judging import judged
from minidiff.checkpoint import CheckpointError, load_state, load_weights, save_weights
from minidiff.control.masks import MASKS
from minidiff.denoisers.unet import UNetConfig
from minidiff.editor import Editor
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.images import to_pil
from minidiff.process.ddpm import DDPM
from minidiff.toytown import KINDS, paint, scenes
from train import data, inpaint, instruct
from train.config import configure
from train.data import Town, TownEdits
from train.denoising import (
    TextToImage,
    emphasised,
    learnt_words,
    snr_weight,
    successes,
    val_edits,
    warm_start,
)
from train.holes import Holes, pool
from train.inpaint import SORTS, of_the_hole
from train.instruct import FOLLOWED, MIX
from train.loop import Now, falling, generator_of
from train.state import part
from train.supply import as_bytes, as_floats

SCRIPTS = pytest.mark.parametrize("script, extra", [(instruct, 3), (inpaint, 4)], ids=["instruct", "inpaint"])
SMALL = dict(channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=32)
PROCESS = DDPM.cosine(1000, "x0")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def network_of(extra_channels=0):
    """The networks of the scripts, as small as `small` makes them."""
    unet = UNetConfig(32, extra_channels=extra_channels, **SMALL)
    return TextToImage(unet, TextConfig(Town.words, Town.characters, dim=32, layers=1))


@pytest.fixture
def small(monkeypatch, tmp_path):
    """(script, **changes) -> a config of two steps; networks and samples are small, data/ is temporary."""
    for script in (instruct, inpaint):
        monkeypatch.setattr(script, "UNetConfig", partial(UNetConfig, **SMALL))
        monkeypatch.setattr(script, "TextConfig", partial(TextConfig, dim=32, layers=1))
        monkeypatch.setattr(script, "save_samples", partial(script.save_samples, n=2, steps=2))
        if script is instruct:
            monkeypatch.setattr(script, "val_edits", lambda size, kinds, n: val_edits(size, kinds, min(n, 3)))
    monkeypatch.setattr(TownEdits.__init__, "__defaults__", (6,))
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path / "data")
    brief = dict(size=32, steps=2, batch=2, warmup=1, log_steps=1, device="cpu", bf16=False, init="")

    def config(script, **changes):
        return script.Config(**{**brief, "folder": str(tmp_path / "run"), "name": "tiny", **changes})

    return config


@pytest.fixture
def base(small):
    """The weights "base", of a network without extra channels, in which nothing is zero."""
    torch.manual_seed(1)
    network = network_of()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.2)
    save_weights("base", network.state_dict(), {"config": {"text": asdict(network.text.config)}})
    warm_start(network, "base")                                 # in half precision, as they were written
    return network


def begun(monkeypatch, script, config):
    """(network, make_batch), as the script hands them to the loop."""
    caught = []
    with monkeypatch.context() as patched:
        patched.setattr(script, "train", lambda *arguments: caught.append(arguments))
        script.main(config)
    (network, make_batch, *_), = caught
    return network, make_batch


# Batches

def as_files(pictures):
    """Pictures as a training gets them, 8 bits a colour."""
    return as_floats(as_bytes(pictures))


def noise_in(x_t, x0, level):
    """The noise of x_t, and the levels as whole numbers."""
    t = (1000 * level).round().long()
    a, s = PROCESS.signal_noise(t, x0)
    return (x_t - a * x0) / s, t


def test_a_batch_of_edits_shows_the_source_and_asks_for_the_target(small, monkeypatch):
    config = small(instruct, batch=30, drop=0.25, emphasis=5.0)
    network, make_batch = begun(monkeypatch, instruct, config)
    x_t, level, tokens, target, weight, image = make_batch(generator_of(0, 5, 0), Now(5, 0, 1.0))
    edits = TownEdits(MIX, 32, "cpu", 0)(30, Now(5, 0, 1.0))
    assert torch.equal(target, as_files(edits.target))
    noise, t = noise_in(x_t, target, level)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02 and len(t.unique()) == 30
    told = network.text.tokenize(list(edits.instruction))
    silent = network.text.tokenize([""])[0]
    kinds = set()
    for i in range(30):
        shown, spoken = image[i].any().item(), len(tokens[i].nonzero()) > 1
        assert torch.equal(image[i], as_files(edits.source)[i] if shown else torch.zeros(3, 32, 32))
        words = told[i][told[i] > 0] if spoken else silent
        assert torch.equal(tokens[i][tokens[i] > 0], words)
        kinds.add((shown, spoken))
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}
    plain = snr_weight(PROCESS, t, config.snr_limit).view(30, 1, 1, 1)
    assert (weight - plain * torch.where(edits.region, 5.0, 1.0)).abs().max() < 1e-5
    late = make_batch(generator_of(0, 5, 0), Now(5, 0, 0.0))
    assert (late[4] - plain).abs().max() < 1e-5 and torch.equal(late[0], x_t) and torch.equal(late[5], image)
    assert not torch.equal(make_batch(generator_of(0, 6, 0), Now(6, 0, 1.0))[3], target)


def test_a_batch_with_holes_shows_what_is_kept_and_counts_the_hole(small, monkeypatch):
    config = small(inpaint, batch=30, drop=0.3, kept=0.1)
    network, make_batch = begun(monkeypatch, inpaint, config)
    x_t, level, tokens, target, weight, seen = make_batch(generator_of(0, 5, 0), Now(5, 0, 1.0))
    assert seen.shape == (30, 4, 32, 32)
    assert torch.equal(target, as_files(Town(32, "cpu")(30, generator_of(0, "ahead", 5, 0))[0]))
    hole = seen[:, 3:].bool()
    assert torch.equal(seen[:, 3:], hole.float()) and len({mask.sum().item() for mask in hole}) > 10
    assert torch.equal(seen[:, :3], torch.where(hole, 0.0, target))
    noise, t = noise_in(x_t, target, level)
    assert abs(noise.mean()) < 0.02 and abs(noise.std() - 1) < 0.02 and len(t.unique()) == 30
    for i in range(30):
        kept, painted = weight[i][~hole[i]], weight[i][hole[i]]
        assert abs(weight[i].mean() - snr_weight(PROCESS, t[i : i + 1], config.snr_limit)) < 1e-4
        assert len(kept) == 0 or (kept - 0.1 * painted[0]).abs().max() < 1e-5
    silent = sum(len(row.nonzero()) == 1 for row in tokens)
    assert 2 <= silent <= 17                                    # .3 of 30, three standard errors
    again = make_batch(generator_of(0, 5, 0), Now(5, 0, 1.0))
    assert all(map(torch.equal, again, (x_t, level, tokens, target, weight, seen)))


def test_passes_of_a_step_share_no_edit_and_every_edit_that_is_drawn_is_used_once(small, monkeypatch):
    """Six steps of two passes, two edits each; a part of six serves three steps of one pass."""
    drawn, used = [], []

    def noting(function, kept):
        def call(*arguments, **options):
            kept.append(function(*arguments, **options))
            return kept[-1]
        return call

    monkeypatch.setattr(data, "edits", noting(data.edits, drawn))
    monkeypatch.setattr(TownEdits, "__call__", noting(TownEdits.__call__, used))
    monkeypatch.setattr(instruct, "save_samples", lambda *arguments: None)
    instruct.main(small(instruct, steps=6, accumulate=2))
    assert [len(part) for part in drawn] == [6] * 4 and [len(batch) for batch in used] == [2] * 12
    given, taken = (torch.cat([part.source for part in parts]).flatten(1) for parts in (drawn, used))
    assert len(given.unique(dim=0)) == 24 and torch.equal(taken.unique(dim=0), given.unique(dim=0))


def test_only_the_parts_of_the_step_are_kept(small):
    source = TownEdits(MIX, 32, "cpu", 0)
    for step in range(4):                                       # the last one begins a new part
        for number in range(2):
            source(2, Now(step, number, 1.0))
    assert sorted(source.parts) == [(2, 1, 0), (2, 1, 1)]


def test_weights_of_pixels():
    hole = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    hole[0, :, :2], hole[1, 0, 0, 0] = True, True
    weight = of_the_hole(hole, 0.1)
    assert (weight.mean((1, 2, 3)) - 1).abs().max() < 1e-6
    assert weight[0].unique().tolist() == pytest.approx([0.1 / 0.55, 1 / 0.55])
    assert weight[1].unique().tolist() == pytest.approx([1.6 / 2.5, 16 / 2.5])
    assert torch.equal(of_the_hole(torch.ones(1, 1, 4, 4, dtype=torch.bool), 0.1), torch.ones(1, 1, 4, 4))
    stressed = emphasised(torch.tensor([2.0, 3.0]), hole, 5.0)
    assert torch.equal(stressed, torch.where(hole, 5.0, 1.0) * torch.tensor([2.0, 3.0]).view(2, 1, 1, 1))
    assert torch.equal(emphasised(torch.tensor([2.0, 3.0]), hole, 1.0)[1], torch.full((1, 4, 4), 3.0))


def test_the_loss_of_pixels_with_weights_is_the_weighted_mean():
    network, generator = network_of(), seeded()
    x_t, target = (torch.randn(2, 3, 32, 32, generator=generator) for _ in range(2))
    weight, level = torch.rand(2, 1, 32, 32, generator=generator), torch.tensor([0.2, 0.7])
    losses, _ = network(x_t, level, network.text.tokenize(["a house", ""]), target, weight)
    expected = [sum((weight[i, 0] * target[i, c] ** 2).mean() for c in range(3)) / 3 for i in range(2)]
    torch.testing.assert_close(losses, torch.stack(expected))   # it starts by predicting nothing


def test_falling():
    state = SimpleNamespace(steps=100, constant=80)
    found = [falling(step, state) for step in (0, 50, 80, 90, 95, 99)]
    assert found == pytest.approx([1, 1, 1, 0.5, 0.25, 0.05])
    assert falling(7, SimpleNamespace(steps=0, constant=0)) == 1
    assert [falling(step, SimpleNamespace(steps=10, constant=0)) for step in (0, 5)] == [1, 0.5]


# Holes and kinds

def test_holes_are_pure_and_each_sort_appears():
    holes = Holes(SORTS, 32, seed=0)
    edit_mask = holes(600, seeded(1))
    assert edit_mask.shape == (600, 1, 32, 32) and edit_mask.dtype == torch.bool
    assert torch.equal(holes(600, seeded(1)), edit_mask) and not torch.equal(holes(600, seeded(2)), edit_mask)
    assert torch.equal(Holes(SORTS, 32, seed=0)(600, seeded(1)), edit_mask)
    assert edit_mask.flatten(1).any(1).all()
    assert not torch.equal(Holes(SORTS, 32, seed=1)(600, seeded(1)), edit_mask)
    assert len(edit_mask.flatten(1).unique(dim=0)) > 150             # of some sorts many
    for sort, masks in zip(SORTS, holes.pools, strict=True):
        ways = set.union(*map(orbit, masks))
        found = sum(one.contiguous().numpy().tobytes() in ways for one in edit_mask)
        assert 30 < found < 100, sort                           # 60 in the mean, four standard errors


def test_holes_come_in_all_eight_ways(monkeypatch):
    monkeypatch.setattr("train.holes.COUNT", 3)
    holes = Holes(("wide", "half"), 16, seed=0)
    seen = {one.contiguous().numpy().tobytes() for one in holes(2000, seeded())}
    assert seen == set.union(*(orbit(one) for masks in holes.pools for one in masks))


def orbit(edit_mask):
    """A mask, turned and mirrored in all eight ways, as bytes."""
    ways = [edit_mask.rot90(k, (1, 2)) for k in range(4)]
    return {way.contiguous().numpy().tobytes() for way in [*ways, *(way.flip(2) for way in ways)]}


def test_pools_hold_what_they_say():
    assert pool("everything", 32, seeded()).all()
    assert torch.equal(pool("half", 32, seeded()), MASKS["half"](32, 32))
    assert len(pool("wide", 32, seeded()).flatten(1).unique(dim=0)) > 60
    things = pool("thing", 64, seeded())
    shares = things.float().mean((1, 2, 3))
    assert len(things) > 64 and 0.004 < shares.min() and shares.max() < 0.5 and 0.02 < shares.mean() < 0.15
    with pytest.raises(KeyError):
        pool("circle", 32, seeded())


def test_kinds_are_edits_of_one_picture_with_a_truth():
    assert set(MIX) == set(KINDS) - {"combine"}


# Where they begin

@SCRIPTS
def test_extra_channels_leave_the_base_as_it_was_before_training(small, base, monkeypatch, script, extra):
    network, _ = begun(monkeypatch, script, small(script, init="base"))
    assert network.unet.config.extra_channels == extra
    x_t, told = (torch.randn(2, channels, 32, 32, generator=seeded()) for channels in (3, extra))
    words = network.text.tokenize(["a red house", ""])
    for level in (0.0, 0.3, 1.0):
        plain = base.unet(x_t, level, *base.text(words))
        assert torch.equal(network.unet(x_t, level, *network.text(words), extra=told), plain)
        assert plain.abs().max() > 0.1
    torch.nn.init.normal_(network.unet.stem_extra.weight, std=0.1)
    assert not torch.equal(network.unet(x_t, level, *network.text(words), extra=told), plain)


def test_a_base_that_lacks_more_or_has_more_is_refused(base):
    tensors, entry = load_weights("base")
    same = {"config": entry["config"]}
    save_weights("poor", {key: value for key, value in tensors.items() if "level" not in key}, same)
    save_weights("rich", {**tensors, "unet.more": torch.ones(1)}, same)
    for name in ("poor", "rich"):
        with pytest.raises(CheckpointError, match=f"{name}: made by another network"):
            warm_start(network_of(4), name)


def test_what_words_mean_is_taken_over_by_the_word():
    """Into a vocabulary in another order, with a word and a sign's character more."""
    before = TextConfig(("red", "car"), "AB", dim=32, layers=0)
    text = TextEncoder(TextConfig(("car", "blue", "red"), "CBA", dim=32, layers=0))
    table, own = torch.randn(3 + 4, 32, generator=seeded()), text.token.weight.detach().clone()
    found = learnt_words(text, asdict(before), table)
    expected = [*table[:3], table[4], own[4], table[3], own[6], table[6], table[5]]    # C, B, A at the end
    assert torch.equal(found, torch.stack(expected)) and torch.equal(text.token.weight, own)
    for wrong, message in ((table[:, :16], "its table of tokens is"), (table[:5], "its table of tokens is")):
        with pytest.raises(ValueError, match=message):
            learnt_words(text, asdict(before), wrong)
    with pytest.raises(ValueError, match="its vocabulary has green: words known here"):
        learnt_words(text, asdict(replace(before, words=("red", "green"))), table)


def test_successes_are_told_as_the_table_of_edits_tells_them():
    edits = val_edits(32, FOLLOWED, 5)
    assert successes(edits, edits.target) == {"success": 1.0, "kept": 60.0}
    assert successes(edits, edits.source) == {"success": 0.0, "kept": 60.0}
    paler = (edits.target + 0.05).clamp(-1, 1)
    found, judgement = successes(edits, paler), judged(paler, edits)
    assert found["success"] == judgement["success"].mean().item()
    assert found["kept"] == pytest.approx(judgement["kept"].nanmedian().item())


# Trainings

@SCRIPTS
def test_a_training_ends_in_weights_that_edit(small, base, tmp_path, script, extra):
    state = script.main(small(script, init="base", export=True))
    assert state.network.unet.stem_extra.weight.any()           # it began to learn
    tensors, entry = load_weights("tiny")
    assert entry["config"]["process"] == {"name": "ddpm-cosine", "T": 1000, "predicts": "x0"}
    assert entry["data"] == "town" and entry["steps"] == 2 and "--init base" in entry["command"]
    assert entry["command"].startswith(f"python -m {script.__name__} ")
    for name, value in state.ema.unet.state_dict().items():
        torch.testing.assert_close(part(tensors, "unet.")[name], value, atol=1e-3, rtol=1e-3)
    assert Image.open(tmp_path / "run/samples/000002.png").size == (64, 96)
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2
    editor, picture = Editor.load("tiny", device="cpu"), to_pil(paint(scenes(1, seed=3), 32))
    assert editor.model.unet.config.extra_channels == extra and editor.model.kind == "denoiser"
    if script is instruct:
        (point,) = entry["curve"]                               # of two steps, so as good as nothing
        assert point["step"] == 2 and 0 <= point["success"] <= 1 and 0 < point["kept"] < 60
        assert editor.edit(picture, "make the car blue", steps=2).network_calls == 6
    else:
        edit_mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
        edit_mask[..., 8:20] = True
        result = editor.inpaint(picture, edit_mask, control="glide", steps=2)
        assert result.network_calls == 2 and result.measures["uncomposited_max_diff"] == 0


@SCRIPTS
def test_an_interrupted_training_resumes_to_the_same_bits(small, tmp_path, monkeypatch, script, extra):
    whole, cut = (small(script, steps=4, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    script.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(script, "save_samples", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        stopped = script.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert script.main(cut).step == 4
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@SCRIPTS
def test_presets_are_complete_and_options_are_checked(script, extra):
    for preset in script.PRESETS:
        config = configure(script.Config, script.PRESETS, preset)
        assert config.minutes > 0 and config.init == "town-ddpm"
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(script.Config, script.PRESETS, "cpu", colour="red")
    with pytest.raises(ValueError, match='predicts = "v"'):
        script.main(script.Config(steps=1, predicts="v", device="cpu"))
