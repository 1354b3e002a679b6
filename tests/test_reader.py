"""The reader of pictures: its looks computed another way, what it returns, learns and refuses."""

from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F

from minidiff.checkpoint import CheckpointError, save_weights
from minidiff.encoders import reader as module
from minidiff.encoders.reader import Reader, ReaderConfig
from minidiff.toytown import paint, scenes
from minidiff.toytown.named import ATTRIBUTES, absent_and_invented, named, named_and_found, truth
from minidiff.toytown.splits import load_split

CONFIG = ReaderConfig(size=32, channels=(16, 32), blocks=1)


@pytest.fixture
def reader():
    """Untrained; also what starts at zero has weights."""
    torch.manual_seed(0)
    reader = Reader(CONFIG).eval()
    for parameter in reader.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return reader


@pytest.fixture
def pictures():
    return paint(scenes(5, seed=3), 32)


def features(reader, x0):
    """The cells that the looks look at, (B, C, h, w)."""
    kept = []
    handle = reader.cover.register_forward_hook(lambda layer, inputs, output: kept.append(inputs[0]))
    with torch.no_grad():
        reader(x0)
    handle.remove()
    return kept[0]


def test_a_look_by_hand(reader, pictures):
    """Each attribute's weighted mean over the cells, one picture and cell after the other, in float64."""
    h = features(reader, pictures).double().flatten(2)                             # (B, C, cells)
    logits = reader(pictures)[0]
    for k, (name, layer) in enumerate(reader.values.items()):
        for i in range(len(pictures)):
            weight, bias = reader.look.weight[k].double().flatten(), reader.look.bias[k].double()
            scores = [weight @ cell + bias for cell in h[i].T]
            weights = torch.stack(scores).exp()
            seen = sum(weight * cell for weight, cell in zip(weights / weights.sum(), h[i].T))
            wanted = layer.weight.double() @ seen + layer.bias
            assert (logits[name][i] - wanted).abs().max() < 1e-5


def test_looks_differ_between_attributes_and_start_as_the_mean(pictures):
    torch.manual_seed(0)
    fresh = Reader(CONFIG).eval()
    mean = features(fresh, pictures).mean((2, 3))
    for name, layer in fresh.values.items():
        assert (fresh(pictures)[0][name] - layer(mean)).abs().max() < 1e-5
    torch.nn.init.normal_(fresh.look.weight)
    looks = fresh.look(features(fresh, pictures)).flatten(2).softmax(2)
    assert (looks[:, 0] - looks[:, 1]).abs().max() > 0.01


def test_a_look_finds_a_thing_wherever_it_stands():
    """Far from the borders, the same square two cells further on is seen as it was."""
    torch.manual_seed(0)
    reader = Reader(ReaderConfig(size=128, channels=(16, 32), blocks=1)).eval()
    for layer in reader.modules():
        if isinstance(layer, torch.nn.GroupNorm):               # it sees the whole picture, borders included
            layer.forward = lambda x: x
    torch.nn.init.normal_(reader.look.weight)
    here, there = -torch.ones(2, 1, 3, 128, 128)
    here[..., 50:60, 50:60] = 1
    there[..., 66:76, 66:76] = 1
    one, other = reader(torch.cat([here, there]))[0]["car_color"]
    blank = reader(-torch.ones(1, 3, 128, 128))[0]["car_color"][0]
    assert (one - other).abs().max() < 1e-4 < 1e-3 < (one - blank).abs().max()


def test_what_it_returns(reader, pictures):
    sure, read = reader.log_probabilities(pictures), reader.read(pictures)
    logits, cover = reader(pictures)
    assert list(sure) == list(read) == list(logits) == list(ATTRIBUTES) and cover.shape == (5, 5, 4, 4)
    for name, values in ATTRIBUTES.items():
        assert sure[name].shape == (5, len(values)) and sure[name].dtype == torch.float32
        assert (sure[name].double().exp().sum(1) - 1).abs().max() < 1e-6
        assert (sure[name] - (logits[name] - logits[name].logsumexp(1, keepdim=True))).abs().max() < 1e-5
        by_hand = [max(range(len(values)), key=row.__getitem__) for row in sure[name].tolist()]
        assert read[name].tolist() == by_hand


def test_pictures_are_read_apart(reader, pictures, monkeypatch):
    whole = reader.log_probabilities(pictures)
    monkeypatch.setattr(module, "AT_ONCE", 2)
    parts, alone = reader.log_probabilities(pictures), reader.log_probabilities(pictures[3:4])
    for name in ATTRIBUTES:
        assert (parts[name] - whole[name]).abs().max() < 1e-5
        assert (alone[name] - whole[name][3]).abs().max() < 1e-5


def test_bf16_reads_the_same(reader, pictures):
    with torch.autocast("cpu", torch.bfloat16):
        rough = reader.log_probabilities(pictures)
    sharp = reader.log_probabilities(pictures)
    assert all(rough[name].dtype == torch.float32 for name in ATTRIBUTES)
    assert max((rough[name] - sharp[name]).abs().max() for name in ATTRIBUTES) < 0.1


def test_it_learns_what_is_there():
    torch.manual_seed(0)
    drawn = scenes(8, seed=0)
    reader, x0, wanted = Reader(CONFIG), paint(drawn, 32), truth(drawn)
    optimizer = torch.optim.Adam(reader.parameters(), lr=3e-3)
    for _ in range(80):
        optimizer.zero_grad()
        logits = reader(x0)[0]
        sum(F.cross_entropy(logits[name], wanted[name], ignore_index=-1) for name in ATTRIBUTES).backward()
        optimizer.step()
    for table in (named(["nothing"] * 8), wanted):
        asked = {**table, **{name: wanted[name] for name in ("season", "time", "style")}}
        of, found = named_and_found(asked, reader.read(x0), tuple(ATTRIBUTES))
        assert torch.equal(of, found) and of.min() >= 3


# Shipped weights, files and refusals

def test_the_shipped_reader_reads_true_renders_and_not_another_captions_things():
    test = load_split("test")
    asked, read = named(list(test.captions[:96])), Reader.load().read(paint(test.scenes[:96]))
    of, found = named_and_found(asked, read)
    absent, invented = absent_and_invented(asked, read)
    assert found.sum() / of.sum() > 0.98 and invented.sum() / absent.sum() < 0.02
    others = {name: values.roll(1) for name, values in read.items()}
    assert named_and_found(asked, others)[1].sum() / of.sum() < 0.6


def test_the_default_network_is_small_enough_to_ship():
    assert sum(parameter.numel() for parameter in Reader(ReaderConfig()).parameters()) <= 1_000_000


def test_weights_come_back(reader, pictures, tmp_path):
    entry = {"config": {"reader": asdict(reader.config)}}
    loaded = Reader.load(save_weights("tiny-reader", reader.state_dict(), entry, tmp_path))
    assert loaded.config == reader.config and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    found, wanted = (network.log_probabilities(pictures) for network in (loaded, reader))
    assert max((found[name] - wanted[name]).abs().max() for name in ATTRIBUTES) < 0.02


def test_weights_of_another_network_are_refused(reader, tiny_weights, tmp_path):
    with pytest.raises(CheckpointError, match="its configuration does not fit") as error:
        Reader.load(tiny_weights)
    assert str(error.value).count("\n") < 2
    entry = {"config": {"reader": {**asdict(reader.config), "blocks": 2}}}
    with pytest.raises(CheckpointError, match="made by another network"):
        Reader.load(save_weights("deep", reader.state_dict(), entry, tmp_path))


def test_configuration():
    assert ReaderConfig.from_dict({**asdict(CONFIG), "channels": [16, 32]}) == CONFIG
    with pytest.raises(ValueError, match="ReaderConfig does not know depth"):
        ReaderConfig.from_dict({**asdict(CONFIG), "depth": 2})
    with pytest.raises(ValueError, match=r"channels = \(24,\): multiples of 16 expected"):
        ReaderConfig(channels=(24,))
    with pytest.raises(ValueError, match="size = 44: a multiple of 8 expected"):
        ReaderConfig(size=44)


@pytest.mark.parametrize("shape", [(4, 3, 64, 64), (4, 1, 32, 32), (3, 32, 32)])
def test_pictures_of_another_shape_are_refused(reader, shape):
    with pytest.raises(ValueError, match=r"pictures are \(.*\): \(B, 3, 32, 32\) expected"):
        reader.read(torch.zeros(shape))
