"""Fixtures that tests share: the smallest editor, saved and loaded as the shipped ones are."""

from dataclasses import asdict

import pytest
import torch

from minidiff.checkpoint import save_weights
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.editor import Editor
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.toytown import VOCABULARY


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


@pytest.fixture
def tiny_editor(tiny_weights):
    """An Editor with those weights, on the CPU."""
    return Editor.load(tiny_weights, device="cpu")
