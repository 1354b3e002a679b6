"""Fixtures that tests share: the smallest editor, saved and loaded as the shipped ones are."""

from dataclasses import asdict

import pytest
import torch

from minidiff.checkpoint import load_weights, save_weights
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.denoisers.dit import DiT, DiTConfig
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.editor import Editor
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.encoders.vae import VAE, VAEConfig
from minidiff.model import Model
from minidiff.toytown import VOCABULARY
from train import flow


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory):
    """The path of an untrained network's weights, small and quick, that knows Toytown's words."""
    torch.manual_seed(0)
    text = TextConfig(VOCABULARY, "ABC123木林", dim=32, layers=1)
    unet = UNetConfig(channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=32)
    networks = torch.nn.ModuleDict({"unet": UNet(unet), "text": TextEncoder(text)})
    for parameter in networks.parameters():
        torch.nn.init.normal_(parameter, std=0.05)         # also what starts at zero: the text matters
    process = {"name": "ddpm-cosine", "T": 1000, "predicts": "x0"}
    config = {"unet": asdict(unet), "text": asdict(text), "process": process}
    entry = {"config": config, "data": "town", "command": "untrained", "steps": 0}
    return save_weights("tiny", networks.state_dict(), entry, tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def tiny_control_weights(tiny_weights, tmp_path_factory):
    """The path of a branch's weights, which reads maps for that network: untrained, but it adds something."""
    torch.manual_seed(1)
    network = ControlledUNet(Model.load(tiny_weights, "cpu").unet)
    for parameter in [*network.branch.parameters(), *network.zero.parameters()]:
        torch.nn.init.normal_(parameter, std=0.2)
    own = {f"unet.{name}": value for name, value in network.state_dict().items() if name[:5] != "base."}
    digest = load_weights(tiny_weights)[1]["sha256"]
    config = {"base": str(tiny_weights), "base_sha256": digest, "map_channels": 3}
    entry = {"config": config, "data": "town"}
    return save_weights("tiny-control", own, entry, tmp_path_factory.mktemp("control"))


@pytest.fixture(scope="session")
def tiny_latent_weights(tmp_path_factory):
    """The path of weights of an untrained unified model, beside those of the VAE that it works with."""
    torch.manual_seed(2)
    folder = tmp_path_factory.mktemp("latent")
    shape = VAEConfig(8, channels=16, encoder_blocks=0, decoder_blocks=1)
    vae = save_weights("tiny-vae", VAE(shape).state_dict(), {"config": {"vae": asdict(shape)}}, folder)
    dit = DiTConfig(8, dim=32, blocks=("double", "single"), condition_dim=32, text_dim=32)
    text = TextConfig(VOCABULARY, "ABC123木林", dim=32, layers=1)
    networks = torch.nn.ModuleDict({"dit": DiT(dit), "text": TextEncoder(text)})
    for parameter in networks.parameters():
        torch.nn.init.normal_(parameter, std=0.2)          # also what starts at zero
    config = {"dit": asdict(dit), "text": asdict(text), "process": {"name": "flow"}, "size": 32,
              "vae": str(vae), "vae_sha256": load_weights(vae)[1]["sha256"]}
    return save_weights("tiny-context", networks.state_dict(), {"config": config, "data": "town"}, folder)


@pytest.fixture
def small_flow(monkeypatch):
    """train.flow begins with small networks."""
    monkeypatch.setattr(flow, "TextConfig", lambda *words, **_: TextConfig(*words, dim=32, layers=1))
    monkeypatch.setattr(flow, "DiTConfig", lambda *shape: DiTConfig(*shape, condition_dim=32, text_dim=32))


@pytest.fixture
def tiny_editor(tiny_weights):
    """An Editor with those weights, on the CPU."""
    return Editor.load(tiny_weights, device="cpu")
