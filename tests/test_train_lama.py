"""train/lama.py: the loss and the holes, computed another way; a training, from start to weights."""

import os
import signal
from dataclasses import replace
from functools import partial

import pytest
import torch
from PIL import Image

from minidiff import checkpoint
from minidiff.checkpoint import load_state, load_weights
from minidiff.denoisers.lama import LaMaConfig
from minidiff.model import LaMaModel, load_model
from train import lama
from train.config import configure


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A config of two steps; holes and samples are few, and data/ is a temporary folder."""
    monkeypatch.setattr("train.holes.COUNT", 4)
    monkeypatch.setattr(lama, "save_samples", partial(lama.save_samples, n=2))
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path / "data")
    brief = dict(size=32, blocks=1, steps=2, batch=2, warmup=1, log_steps=1, device="cpu", bf16=False)
    return lama.Config(folder=str(tmp_path / "run"), name="tiny", **brief)


def test_the_loss_pixel_by_pixel():
    torch.manual_seed(0)
    network = lama.Filler(LaMaConfig(size=8, blocks=1), kept=0.3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = torch.rand(3, 3, 8, 8, generator=seeded()) * 2 - 1
    edit_mask = torch.zeros(3, 1, 8, 8, dtype=torch.bool)
    edit_mask[0, :, :2], edit_mask[1, :, 1:, 3:] = True, True                      # the third has no hole
    losses, levels = network(image, edit_mask)
    filled = network.lama(image, edit_mask)
    for b in range(3):
        error = {True: [], False: []}
        for y in range(8):
            for x in range(8):
                pairs = zip(filled[b, :, y, x].tolist(), image[b, :, y, x].tolist(), strict=True)
                error[edit_mask[b, 0, y, x].item()].append(sum(abs(one - other) for one, other in pairs) / 3)
        hole, kept = (sum(error[side]) / max(len(error[side]), 1) for side in (True, False))
        assert losses[b].item() == pytest.approx(hole + 0.3 * kept, abs=1e-5)
        assert levels[b].item() == pytest.approx(len(error[True]) / 64)


def test_an_untrained_network_loses_what_grey_does():
    image, edit_mask = torch.full((1, 3, 8, 8), 0.5), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    edit_mask[..., :3] = True
    losses, _ = lama.Filler(LaMaConfig(size=8), kept=0.1)(image.masked_fill(edit_mask, -1), edit_mask)
    assert losses.tolist() == pytest.approx([1 + 0.1 * 0.5])


def test_a_training_ends_in_weights_that_can_be_loaded_and_say_how_they_were_made(quick, tmp_path):
    state = lama.main(replace(quick, export=True))
    _, entry = load_weights("tiny")
    assert (tmp_path / "data/weights/tiny.safetensors").stat().st_size < 2 * 2**20
    assert entry["steps"] == 2 and entry["data_seed"] == 0 and entry["hardware"] and entry["data"] == "town"
    assert entry["command"].startswith("python -m train.lama --folder") and "--size 32" in entry["command"]
    model = load_model("tiny", "cpu")
    assert isinstance(model, LaMaModel) and model.size == 32 and model.data == "town"
    for name, value in state.ema.lama.state_dict().items():
        torch.testing.assert_close(model.lama.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    picture = Image.open(tmp_path / "run/samples/000002.png")
    assert picture.size == (64, 96) and picture.getcolors(9999)
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2


def test_samples_show_the_hole_the_filling_and_the_truth(tmp_path):
    white, grey, path = torch.ones(2, 3, 16, 16), torch.zeros(2, 3, 16, 16), tmp_path / "samples.png"
    edit_mask = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    edit_mask[..., :4] = True
    network = lama.Filler(LaMaConfig(size=16, blocks=1))
    network.lama.head[2].bias.data.fill_(-10)                   # fills with black
    lama.save_samples(network, lambda n, generator: (white, None), lambda n, generator: edit_mask, path, n=2)
    filled = torch.where(edit_mask, -white, white)
    lama.save_picture([torch.where(edit_mask, grey, white), filled, white], tmp_path / "expected.png")
    assert path.read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=3, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    lama.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(lama, "save_samples", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        stopped = lama.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert lama.main(cut).step == 3
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_ablations_are_options(quick):
    state = lama.main(replace(quick, global_share=0.0, masks="narrow", export=True))
    assert not any("global" in name for name in state.ema.state_dict())
    assert load_model("tiny", "cpu").lama.config.global_share == 0
    assert "--global-share 0.0 --masks narrow" in load_weights("tiny")[1]["command"]


def test_presets_are_complete_and_options_are_checked():
    for preset in lama.PRESETS:
        assert configure(lama.Config, lama.PRESETS, preset).minutes > 0
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(lama.Config, lama.PRESETS, "cpu", colour="red")
    with pytest.raises(ValueError, match='masks = "broad": one of wide, narrow, all expected'):
        lama.main(lama.Config(steps=1, masks="broad"))
    with pytest.raises(ValueError, match="global_share = 0.8: 102 of 128 channels, a multiple of 32"):
        LaMaConfig(global_share=lama.Config(steps=1, global_share=0.8).global_share)
