"""train/ddpm.py: the loss and its weights, computed another way; a training, from start to weights."""

import os
import signal
from dataclasses import replace
from functools import partial
from math import cos, pi

import pytest
import torch
from PIL import Image

from minidiff import checkpoint
from minidiff.checkpoint import CheckpointError, fill, load_state, load_weights
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.process.ddpm import DDPM
from train import ddpm
from train.config import configure
from train.state import part


def snr(t):
    """Of the cosine schedule, in closed form, away from its clipped end."""
    def angle(t):
        return (t / 1000 + 0.008) / 1.008 * pi / 2

    alpha_bar = (cos(angle(t)) / cos(angle(0))) ** 2
    return alpha_bar / (1 - alpha_bar)


def test_weights_of_the_loss():
    t = torch.tensor([1, 100, 300, 499, 600, 900, 999])
    x0 = ddpm.snr_weight(DDPM.cosine(1000, "x0"), t, limit=5)
    eps = ddpm.snr_weight(DDPM.cosine(1000, "eps"), t, limit=5)
    assert x0.tolist() == pytest.approx([min(max(snr(k), 1), 5) for k in t.tolist()], rel=1e-5)
    assert eps.tolist() == pytest.approx([min(snr(k), 5) / snr(k) for k in t.tolist()], rel=1e-4)
    assert eps.max() == 1 and len(set(x0.tolist())) == 3         # at the limit, below it, and at the floor


def test_both_predictions_weigh_the_same_error_alike_where_there_is_more_signal_than_noise():
    t = torch.tensor([5, 50, 200, 350])
    generator = torch.Generator().manual_seed(0)
    x0, x0_hat, noise = (torch.randn(4, 3, 8, 8, generator=generator, dtype=torch.float64) for _ in range(3))
    losses = {}
    for predicts in ("x0", "eps"):
        process = DDPM.cosine(1000, predicts)
        x_t = process.corrupt(x0, t, noise)
        error = process.prediction(x_t, x0_hat, t) - process.target(x0, noise)
        losses[predicts] = ddpm.snr_weight(process, t, 5) * error.square().mean((1, 2, 3))
    torch.testing.assert_close(losses["x0"], losses["eps"], rtol=1e-6, atol=0)


def test_levels_are_one_in_each_part_of_the_range_and_uniform():
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([ddpm.stratified_levels(8, 1000, generator) for _ in range(4000)])
    assert draws.min() == 1 and draws.max() == 1000
    for k, column in enumerate(draws.T):
        assert 125 * k + 1 <= column.min() and column.max() <= 125 * (k + 1)
    share = draws.flatten().bincount(minlength=1001)[1:] / draws.numel()
    assert (share - 1e-3).abs().max() < 8e-4                     # 5 standard deviations


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A config of two steps; samples are few, and data/ is a temporary folder."""
    monkeypatch.setattr(ddpm, "save_samples", partial(ddpm.save_samples, n=2, steps=2))
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path / "data")
    brief = dict(size=32, steps=2, batch=2, warmup=1, log_steps=1, device="cpu", bf16=False)
    return ddpm.Config(folder=str(tmp_path / "run"), name="tiny", **brief)


def test_the_loss_of_an_untrained_network_is_that_of_predicting_nothing():
    network = ddpm.TextToImage(UNetConfig(size=32), TextConfig(("a", "b")))
    generator = torch.Generator().manual_seed(0)
    x_t, target = (torch.randn(2, 3, 32, 32, generator=generator) for _ in range(2))
    weight, level = torch.tensor([1.0, 3.0]), torch.tensor([0.2, 0.7])
    losses, levels = network(x_t, level, network.text.tokenize(["a b", ""]), target, weight)
    torch.testing.assert_close(losses, torch.stack([(target[0]**2).mean(), 3 * (target[1]**2).mean()]))
    assert torch.equal(levels, level)


def test_a_training_ends_in_weights_that_can_be_loaded_and_say_how_they_were_made(quick, tmp_path):
    state = ddpm.main(replace(quick, export=True))
    tensors, entry = load_weights("tiny")
    assert (tmp_path / "data/weights/tiny.safetensors").stat().st_size < 10 * 2**20
    assert entry["config"]["process"] == {"name": "ddpm-cosine", "T": 1000, "predicts": "x0"}
    assert entry["steps"] == 2 and entry["data_seed"] == 0 and entry["hardware"]
    assert entry["command"].startswith("python -m train.ddpm --folder") and "--size 32" in entry["command"]
    unet = UNet(UNetConfig.from_dict(entry["config"]["unet"]))
    text = TextEncoder(TextConfig.from_dict(entry["config"]["text"]))
    fill(unet, part(tensors, "unet."), "tiny")
    fill(text, part(tensors, "text."), "tiny")
    for name, value in state.ema.unet.state_dict().items():
        torch.testing.assert_close(unet.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert Image.open(tmp_path / "run/samples/000002.png").size == (32, 64)
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=3, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    ddpm.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(ddpm, "save_samples", lambda *arguments: os.kill(os.getpid(), signal.SIGINT))
        stopped = ddpm.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert ddpm.main(cut).step == 3
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_it_starts_from_shipped_weights(quick, tmp_path):
    first = ddpm.main(replace(quick, export=True))
    network = ddpm.TextToImage(first.ema.unet.config, first.ema.text.config)
    ddpm.warm_start(network, "tiny")
    torch.testing.assert_close(network.unet.stem.weight, first.ema.unet.stem.weight, atol=1e-3, rtol=1e-3)
    wider = ddpm.TextToImage(replace(first.ema.unet.config, extra_channels=4), first.ema.text.config)
    ddpm.warm_start(wider, "tiny")                              # an editor's extra channels begin at zero
    assert torch.equal(wider.unet.stem.weight, network.unet.stem.weight)
    assert not wider.unet.stem_extra.weight.any()
    with pytest.raises(CheckpointError, match="tiny: its configuration does not fit:\nits vocabulary has"):
        ddpm.warm_start(ddpm.TextToImage(first.ema.unet.config, TextConfig(("other",))), "tiny")


def test_presets_are_complete_and_options_are_checked():
    for preset in ddpm.PRESETS:
        assert configure(ddpm.Config, ddpm.PRESETS, preset).minutes > 0
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(ddpm.Config, ddpm.PRESETS, "cpu", colour="red")
    with pytest.raises(ValueError, match='predicts = "v"'):
        ddpm.main(ddpm.Config(steps=1, predicts="v"))
