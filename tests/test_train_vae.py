"""train/vae.py: the loss and what pixels count in it, figures of a round trip, a training to its weights."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from minidiff import checkpoint, toytown
from minidiff.checkpoint import load_state, load_weights
from minidiff.encoders.vae import VAE, VAEConfig
from train import vae
from train.config import configure
from train.loop import Now, generator_of


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A config of two steps; few pictures to measure on; data/ is a temporary folder, but for the splits."""
    val, draw = vae.val_pictures(32, "cpu", n=3), vae.pictures
    monkeypatch.setattr(vae, "val_pictures", lambda size, device: val)
    monkeypatch.setattr(vae, "pictures", lambda n, *others: draw(min(n, 8), *others))
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path / "data")
    brief = dict(size=32, channels=16, steps=2, batch=2, warmup=1, log_steps=1, device="cpu", bf16=False)
    return vae.Config(folder=str(tmp_path / "run"), name="tiny", **brief)


def test_the_loss_number_by_number():
    torch.manual_seed(0)
    network = vae.Compression(VAEConfig(latent_channels=2, channels=16), kl=0.3)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    x0, weight = torch.rand(2, 3, 8, 8, generator=seeded()) * 2 - 1, torch.ones(2, 1, 8, 8)
    weight[1, :, 2:4, 5] = 4
    noise = torch.randn(2, 2, 2, 2, generator=seeded(1))
    losses, levels = network(x0, weight, noise)
    x0_hat, mean, log_variance = network.vae(x0, noise)
    for b in range(2):
        squares = [weight[b, 0, y, x].item() * (x0_hat[b, c, y, x] - x0[b, c, y, x]).item() ** 2
                   for c in range(3) for y in range(8) for x in range(8)]
        there = torch.distributions.Normal(mean[b], log_variance[b].exp().sqrt())
        nats = torch.distributions.kl_divergence(there, torch.distributions.Normal(0.0, 1.0)).sum().item()
        assert losses[b].item() == pytest.approx((sum(squares) + 0.3 * nats) / 192, rel=1e-4)
    assert levels.tolist() == [0.5, 0.5]


def batches(config, monkeypatch):
    """What main makes of the step's place in the training: falling -> (x0, weight, noise)."""
    makers = []
    unfinished = SimpleNamespace(done=False)
    monkeypatch.setattr(vae, "train", lambda network, make, *_: makers.append(make) or unfinished)
    vae.main(config)
    return lambda falling, seed=0: makers[0](seeded(seed), Now(seed, 0, falling))


def test_signs_count_more_until_the_learning_rate_falls(quick, monkeypatch):
    batch = batches(replace(quick, size=64, batch=8, sign=2.0), monkeypatch)
    x0, weight, noise = batch(1)
    scenes = toytown.scenes(8, vae.draw_seed(generator_of(0, "again", 0, 0)))
    assert torch.equal(x0, toytown.paint(scenes))
    shown = toytown.masks(scenes)[:, 4:]
    assert 0 < scenes.sign.sum() < 8 and torch.equal(weight, 1 + 2 * shown)
    assert torch.equal(batch(0.25)[1], 1 + 0.5 * shown) and torch.equal(batch(0)[1], torch.ones_like(shown))
    assert noise.shape == (8, 16, 16, 16) and abs(noise.std() - 1) < 0.02
    assert all(torch.equal(one, other) for one, other in zip(batch(1), batch(1), strict=True))
    assert not any(torch.equal(one, other) for one, other in zip(batch(1)[::2], batch(1, seed=1)[::2]))


def test_a_training_ends_in_weights_that_can_be_loaded_and_say_how_they_were_made(quick, tmp_path):
    state = vae.main(replace(quick, export=True))
    _, entry = load_weights("tiny")
    assert (tmp_path / "data/weights/tiny.safetensors").stat().st_size <= 2 * 2**20
    assert entry["steps"] == 2 and entry["data"] == "town" and entry["hardware"]
    assert entry["command"].startswith("python -m train.vae --folder") and "--channels 16" in entry["command"]
    loaded, x0 = VAE.load("tiny"), vae.val_pictures(32, "cpu")[0]
    assert (loaded.round_trip(x0) - state.ema.vae.round_trip(x0)).abs().max() < 0.02
    found = json.loads((tmp_path / "run/samples/000002.json").read_text())
    assert found == entry["curve"][0] and found.keys() == {"step", "psnr", "psnr of signs"}
    assert Image.open(tmp_path / "run/samples/000002.png").size == (96, 64)
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2


def test_exported_latents_are_normalised_on_training_pictures(quick):
    state = vae.main(replace(quick, export=True))
    x0, _ = vae.pictures(8, 32, "cpu", vae.generator_of(0, "normalise"))
    z = VAE.load("tiny").latents(x0)
    assert z.mean((0, 2, 3)).abs().max() < 0.02 and (z.std((0, 2, 3)) - 1).abs().max() < 0.02
    assert state.network.vae.scale.tolist() == [1] * 16         # what goes on training is not touched


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=3, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    vae.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(vae, "save_samples", lambda *_: os.kill(os.getpid(), signal.SIGINT))
        stopped = vae.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert vae.main(cut).step == 3
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_figures_are_means_in_db_and_signs_stand_apart():
    """Off by .2 everywhere is 20 dB; a sign off by .02 is 40 dB; who has no sign does not count there."""
    x0, signs = torch.zeros(3, 3, 16, 16), torch.zeros(3, 1, 16, 16, dtype=torch.bool)
    signs[0, :, 4:8], signs[1, :, :2] = True, True
    off = torch.full_like(x0, 0.2)
    off[0, :, 4:8] = 0.02
    codec = SimpleNamespace(round_trip=lambda x0: x0 + off)
    found = vae.kept(codec, x0, signs)
    assert found["psnr of signs"] == pytest.approx((40 + 20) / 2, abs=1e-3)
    first = 10 * torch.log10(4 / off[0].square().mean()).item()
    assert found["psnr"] == pytest.approx((first + 20 + 20) / 3, abs=1e-3)


def test_val_pictures_and_their_signs():
    x0, signs = vae.val_pictures(64, "cpu", n=6)
    scenes = toytown.load_split("val").scenes[:6]
    assert torch.equal(x0, toytown.paint(scenes)) and signs.dtype == torch.bool
    assert (signs.flatten(1).any(1) <= (scenes.sign == 1)).all() and signs.any()
    assert torch.equal(signs, toytown.masks(scenes)[:, 4:] > 0.5)


def test_samples_show_the_truth_above_the_round_trip(tmp_path):
    x0, path = torch.rand(3, 3, 16, 16, generator=seeded()) * 2 - 1, tmp_path / "samples.png"
    vae.save_samples(SimpleNamespace(round_trip=lambda x0: -x0), x0, path, n=2)
    vae.save_picture([x0[:2], -x0[:2]], tmp_path / "expected.png")
    assert path.read_bytes() == (tmp_path / "expected.png").read_bytes()


def test_presets_are_complete_and_options_are_checked():
    for preset in vae.PRESETS:
        assert configure(vae.Config, vae.PRESETS, preset).minutes > 0
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(vae.Config, vae.PRESETS, "cpu", colour="red")
