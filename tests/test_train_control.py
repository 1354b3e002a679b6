"""train/control.py: each picture with its map, a base that stays as it is, a branch that loads."""

import os
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from minidiff import checkpoint, toytown
from minidiff.checkpoint import CheckpointError, load_state, load_weights
from minidiff.control.spatial import MAPS, map_picture
from minidiff.model import Model
from train import control
from train.config import configure
from train.loop import Now, generator_of
from train.supply import as_bytes, as_floats

pytestmark = pytest.mark.filterwarnings("ignore:unknown")       # the tiny network cannot read every sign


@pytest.fixture
def quick(monkeypatch, tmp_path, tiny_weights):
    """A config of two steps beside the tiny base; samples are few, and data/weights is a temporary folder."""
    monkeypatch.setattr(control, "save_samples", partial(control.save_samples, n=3, steps=2))
    save_here = partial(checkpoint.save_weights, folder=tmp_path / "weights")
    monkeypatch.setattr(control, "save_weights", save_here)
    brief = dict(steps=2, batch=2, warmup=1, log_steps=1, learning_rate=0.01, device="cpu", bf16=False)
    return control.Config(folder=str(tmp_path / "run"), name="tiny-control", base=str(tiny_weights), **brief)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_each_scene_gets_the_map_that_is_asked_for():
    scenes, kinds = toytown.scenes(5, 0), torch.tensor([2, 0, 1, 1, 0])
    found = control.mixed_maps(scenes, kinds, 32)
    for i, number in enumerate(kinds.tolist()):
        assert torch.equal(found[i : i + 1], map_picture(list(MAPS)[number], scenes[i], 32))


def test_pictures_maps_and_captions_are_of_the_same_scenes_and_all_kinds_come():
    x0, maps, captions = control.draw_pictures(24, 32, torch.device("cpu"), seeded(3))
    scenes = toytown.scenes(24, seed := control.draw_seed(seeded(3)))
    assert torch.equal(x0, toytown.paint(scenes, 32)) and captions == toytown.captions(scenes, seed)
    kinds = {kind: map_picture(kind, scenes, 32) for kind in MAPS}
    found = [[kind for kind, truth in kinds.items() if torch.equal(truth[i], maps[i])] for i in range(24)]
    assert all(found) and {kind for one in found if len(one) == 1 for kind in one} == set(MAPS)
    again, other = (control.draw_pictures(24, 32, torch.device("cpu"), seeded(seed))[1] for seed in (3, 4))
    assert torch.equal(again, maps) and not torch.equal(other, maps)


def test_a_training_exports_the_branch_alone_and_it_can_be_loaded(quick, tmp_path, tiny_weights):
    state = control.main(replace(quick, export=True))
    path = tmp_path / "weights/tiny-control.safetensors"
    tensors, entry = load_weights(path)
    assert {name.split(".")[1] for name in tensors} == {"branch", "zero"}
    digest = load_weights(tiny_weights)[1]["sha256"]
    assert entry["config"] == {"base": str(tiny_weights), "base_sha256": digest, "map_channels": 3}
    assert (entry["data"], entry["steps"], entry["data_seed"]) == ("town", 2, 0)
    assert entry["command"].startswith("python -m train.control --folder") and entry["hardware"]
    model = Model.load(path, "cpu")
    for name, tensor in state.ema.unet.state_dict().items():
        torch.testing.assert_close(model.unet.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    assert any(tensor.abs().max() > 0 for name, tensor in tensors.items() if ".zero." in name)
    assert Image.open(tmp_path / "run/samples/000002.png").size == (3 * 64, 3 * 64)
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2


def test_training_leaves_the_base_and_its_text_encoder_as_they_are(quick, tiny_weights):
    state, base = control.main(quick), Model.load(tiny_weights, "cpu")
    for network in (state.network, state.ema):
        for own, theirs in ((network.unet.base, base.unet), (network.text, base.text)):
            own, theirs = own.state_dict(), theirs.state_dict()
            assert own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)
    learnt = state.network.unet.branch.stem.weight - base.unet.stem.weight
    assert learnt.abs().max() > 0 and state.network.unet.branch.stem_extra.weight.abs().max() > 0


def test_batches_are_made_as_the_base_was_trained(quick, monkeypatch, tiny_weights):
    """Half of the captions dropped; levels, noised pictures and target put together by hand."""
    asked = {}

    def note(network, make_batch, config, draw):
        asked.update(network=network, make_batch=make_batch)
        return type("Untrained", (), {"done": False})

    monkeypatch.setattr(control, "train", note)
    control.main(replace(quick, batch=40, drop=0.5))
    x_t, level, tokens, target, weight, maps = asked["make_batch"](seeded(1), Now(5, 0, 1.0))
    base = Model.load(tiny_weights, "cpu")
    generator = generator_of(0, "ahead", 5, 0)
    x0, expected, captions = control.draw_pictures(40, 64, torch.device("cpu"), generator)
    x0, expected = (as_floats(as_bytes(pictures)) for pictures in (x0, expected))
    assert base.process.predicts == "x0" and torch.equal(target, x0) and torch.equal(maps, expected)
    a, s = base.process.coefficients((level.double() * 1000).round())
    eps = (x_t - a.view(-1, 1, 1, 1) * x0) / s.view(-1, 1, 1, 1)
    assert eps[level > 0.1].std().item() == pytest.approx(1, abs=0.02)
    snr = (a / s) ** 2
    torch.testing.assert_close(weight.double(), snr.clamp(1, 5), rtol=1e-5, atol=0)
    without = (tokens[:, 1:] == 0).all(1)                       # only the start token is left
    assert 10 <= without.sum() <= 30
    kept = base.text.tokenize([caption for caption, gone in zip(captions, without.tolist()) if not gone])
    assert torch.equal(tokens[~without][:, : kept.shape[1]], kept)
    losses, levels = asked["network"](x_t[:2], level[:2], tokens[:2], target[:2], weight[:2], maps[:2])
    text = base.text(tokens[:2])
    error = (base.unet(x_t[:2], level[:2], *text) - target[:2]).square().mean((1, 2, 3))
    torch.testing.assert_close(losses, weight[:2] * error)      # the untrained branch adds nothing


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=3, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    control.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(control, "save_samples", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        stopped = control.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "weights").exists()       # nothing unfinished is exported
    assert control.main(cut).step == 3
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_presets_are_complete_and_options_are_checked(quick):
    for preset in control.PRESETS:
        assert configure(control.Config, control.PRESETS, preset).minutes > 0
    with pytest.raises(ValueError, match="Config does not know size"):
        configure(control.Config, control.PRESETS, "cpu", size=32)
    with pytest.raises(CheckpointError, match="there is none of this name"):
        control.main(replace(quick, base="no-such-base"))
