"""train/reader.py: from start to weights and figures; what it learns from, its loss, and its accuracy."""

import json
import os
import signal
from dataclasses import replace
from math import log
from types import SimpleNamespace

import pytest
import torch

from minidiff import checkpoint, toytown
from minidiff.checkpoint import load_state, load_weights
from minidiff.encoders.reader import Reader, ReaderConfig
from minidiff.toytown.named import ATTRIBUTES, COLORED, THINGS, UNKNOWN, truth
from minidiff.toytown.scene import COLORS, HELD_OUT, STYLES
from train import reader
from train.config import configure

TINY = ReaderConfig(size=32, channels=(16,), blocks=1)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A config of two steps; data/ is a temporary folder, but for the splits: 40 scenes of each."""
    splits = {name: toytown.load_split(name) for name in ("val", "test")}
    few = {name: SimpleNamespace(scenes=split.scenes[:40], captions=split.captions[:40])
           for name, split in splits.items()}
    monkeypatch.setattr(toytown, "load_split", few.__getitem__)
    monkeypatch.setattr(reader, "FRESH", 30)
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path / "data")
    brief = dict(size=32, steps=2, batch=3, warmup=1, log_steps=1, device="cpu", bf16=False)
    return reader.Config(folder=str(tmp_path / "run"), name="tiny", **brief)


def test_a_training_ends_in_weights_that_can_be_loaded_and_say_how_they_were_made(quick, tmp_path):
    state = reader.main(replace(quick, export=True))
    _, entry = load_weights("tiny")
    assert (tmp_path / "data/weights/tiny.safetensors").stat().st_size <= 2 * 2**20
    assert entry["steps"] == 2 and entry["data"] == "town" and entry["hardware"]
    assert entry["command"].startswith("python -m train.reader --folder") and "--size 32" in entry["command"]
    pictures = torch.rand(2, 3, 32, 32, generator=seeded())
    loaded = Reader.load("tiny")
    found, wanted = (network.log_probabilities(pictures) for network in (loaded, state.ema.reader))
    assert max((found[name] - wanted[name]).abs().max() for name in ATTRIBUTES) < 0.02
    point = json.loads((tmp_path / "run/samples/000002.json").read_text())
    assert entry["curve"] == [point] and set(entry["figures"]) == {"test", "fresh"}
    test = entry["figures"]["test"]
    for where, network, figures in (("val", state.ema.reader, point), ("test", loaded, test)):
        split = toytown.load_split(where)
        found = reader.accuracy(network, split.scenes, split.captions)
        assert figures == pytest.approx({**found, "step": 2} if where == "val" else found, abs=1e-4)
    assert entry["figures"]["fresh"].keys() == test.keys()
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=3, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    reader.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(reader, "accuracy", lambda *_: os.kill(os.getpid(), signal.SIGINT) or {})
        stopped = reader.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert reader.main(cut).step == 3
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# What it learns from

def test_a_batch_holds_renders_with_their_truth_and_cover(monkeypatch):
    """Seen without spoiling: the pictures are those of scenes whose truth is given, cell by cell."""
    kept = []
    monkeypatch.setattr(reader, "paint_with_masks", lambda drawn, size: (
        kept.append(drawn), toytown.paint(drawn, size), toytown.masks(drawn, size))[1:])
    monkeypatch.setattr(reader, "spoil", lambda x0, amount, generator: x0)
    x0, values, cover = reader.batch_of(6, 32, "cpu", seeded())
    assert torch.equal(x0, toytown.paint(kept[0], 32))
    for k, (name, wanted) in enumerate(truth(kept[0]).items()):
        assert torch.equal(values[:, k], wanted), name
    shown = toytown.masks(kept[0], 32)
    by_hand = torch.stack([shown[:, :, 8 * row:8 * row + 8, 8 * column:8 * column + 8].mean((2, 3))
                           for row in range(4) for column in range(4)], 2)
    assert (cover.flatten(2) - by_hand).abs().max() < 1e-6 and cover.shape == (6, 5, 4, 4)


def test_batches_hold_every_pair_of_thing_and_colour_and_every_style():
    values = reader.batch_of(400, 32, "cpu", seeded(1))[1]
    columns = dict(zip(ATTRIBUTES, values.unbind(1), strict=True))
    for name in COLORED:
        assert set(columns[name].tolist()) == {UNKNOWN, *range(len(COLORS))}
        assert (columns[name] == COLORS.index(HELD_OUT[name])).any()
    shares = columns["style"].bincount() / 400
    assert shares[0] > 0.3 and shares[1:].min() > 0.1 and len(shares) == len(STYLES)


def test_half_of_a_batch_is_spoilt_by_any_amount(monkeypatch):
    kept = []
    monkeypatch.setattr(reader, "spoil", lambda x0, amount, generator: kept.append(amount) or x0)
    reader.batch_of(200, 32, "cpu", seeded(2))
    spoilt = kept[0][kept[0] > 0]
    assert 70 < len(spoilt) < 130 and spoilt.max() > 0.9 and spoilt.min() < 0.1 and kept[0].max() <= 1


def test_spoiling_by_nothing_changes_nothing_and_by_more_changes_more():
    x0 = toytown.paint(toytown.scenes(4, seed=1), 32)
    assert torch.equal(reader.spoil(x0, torch.zeros(4), seeded()), x0)
    errors = [(reader.spoil(x0, torch.full((4,), amount), seeded()) - x0).square().mean()
              for amount in (0.2, 0.5, 1)]
    assert 0 < errors[0] < errors[1] < errors[2] < 0.1
    mixed = reader.spoil(x0, torch.tensor([0.0, 1, 0, 0.5]), seeded())
    assert [torch.equal(one, other) for one, other in zip(mixed, x0)] == [True, False, True, False]
    assert torch.equal(mixed, reader.spoil(x0, torch.tensor([0.0, 1, 0, 0.5]), seeded()))
    assert mixed.abs().max() <= 1


# The loss

def test_the_loss_by_hand():
    torch.manual_seed(0)
    network = reader.Reading(TINY).eval()
    x0, values, cover = reader.batch_of(4, 32, "cpu", seeded(3))
    losses, levels = network(x0, values, cover[..., :1, :1].expand(4, 5, 8, 8))
    logits, cover_logits = network.reader(x0)
    for i in range(4):
        wanted = 0.0
        for k, rows in enumerate(logits.values()):
            odds = rows[i].double().exp().tolist()
            wanted -= log(odds[values[i, k]] / sum(odds)) if values[i, k] != UNKNOWN else 0
        chance = cover_logits[i].double().sigmoid()
        share = cover[i, :, :1, :1].double()
        wanted -= (share * chance.log() + (1 - share) * (1 - chance).log()).mean().item()
        assert abs(losses[i].item() - wanted) < 1e-4
    assert (values == UNKNOWN).any() and levels.tolist() == [0.5] * 4


def test_gradients_reach_every_parameter():
    torch.manual_seed(0)
    network = reader.Reading(replace(TINY, channels=(16, 16)))
    batch = reader.batch_of(8, 32, "cpu", seeded())
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
    for _ in range(3):                                          # what starts at zero hides what feeds it
        optimizer.zero_grad()
        network(*batch)[0].mean().backward()
        optimizer.step()
    assert [name for name, p in network.named_parameters() if not p.grad.abs().max() > 0] == []


# Its accuracy

def fake(table):
    """A reader that gives this table, whatever it is shown."""
    return SimpleNamespace(config=TINY, read=lambda x0: table)


def test_accuracy_has_known_answers():
    drawn = toytown.scenes(60, seed=4)
    said, seen = toytown.captions(drawn), truth(drawn)
    assert set(reader.accuracy(fake(seen), drawn, said).values()) == {1.0}
    nothing = {**seen, **dict.fromkeys(THINGS, torch.zeros_like(seen["car"]))}
    nothing = reader.accuracy(fake(nothing), drawn, said)
    assert nothing["named"] == nothing["car_color"] == nothing["tree"] == 0 and nothing["left out"] == 1
    everything = {**seen, **dict.fromkeys(THINGS, torch.ones_like(seen["car"]))}
    found = reader.accuracy(fake(everything), drawn, said)
    assert found["left out"] == 0 and found["named"] == found["season"] == 1


def test_accuracy_by_hand_where_one_colour_is_wrong():
    drawn = toytown.scenes(60, seed=4).with_(style=0)
    said, seen = toytown.captions(drawn), truth(drawn)
    i = drawn.car.tolist().index(1)
    wrong = seen["car_color"].clone()
    wrong[i] = (wrong[i] + 1) % len(COLORS)
    found = reader.accuracy(fake({**seen, "car_color": wrong}), drawn, said)
    of = sum(one.count(word) for one in said for word in ("jacket", " roof", "pine", "round tree"))
    of += sum(getattr(drawn, thing).sum().item() for thing in (*THINGS, "house", "car"))  # with colours
    assert found["car_color"] == pytest.approx(1 - 1 / drawn.car.sum().item())
    assert found["all of a caption"] == pytest.approx(59 / 60)
    assert found["named"] == pytest.approx(1 - 1 / of) and found["house_color"] == 1


def test_presets_are_complete_and_options_are_checked():
    for preset in reader.PRESETS:
        assert configure(reader.Config, reader.PRESETS, preset).minutes > 0
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(reader.Config, reader.PRESETS, "cpu", colour="red")
