"""train/clip.py: a training from start to weights, and how often pictures and captions find each other."""

import json
import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from minidiff import checkpoint
from minidiff.checkpoint import load_state, load_weights
from minidiff.encoders.clip import CLIP, CLIPConfig
from minidiff.encoders.text import TextConfig
from train import clip
from train.config import configure


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A config of two steps; data/ is a temporary folder, but for the splits."""
    scenes = clip.val_scenes(32, "cpu", n=3)
    monkeypatch.setattr(clip, "val_scenes", lambda size, device: scenes)
    monkeypatch.setattr(checkpoint, "data_folder", lambda: tmp_path / "data")
    brief = dict(size=32, steps=2, batch=3, warmup=1, log_steps=1, device="cpu", bf16=False)
    return clip.Config(folder=str(tmp_path / "run"), name="tiny", **brief)


def test_a_training_ends_in_weights_that_can_be_loaded_and_say_how_they_were_made(quick, tmp_path):
    state = clip.main(replace(quick, export=True))
    _, entry = load_weights("tiny")
    assert (tmp_path / "data/weights/tiny.safetensors").stat().st_size <= 2 * 2**20
    assert entry["steps"] == 2 and entry["data"] == "town" and entry["hardware"]
    assert entry["command"].startswith("python -m train.clip --folder") and "--size 32" in entry["command"]
    loaded, picture = CLIP.load("tiny"), torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for features in ("image_features", "text_features"):
        given = picture if features == "image_features" else ["a red car at night", ""]
        found, wanted = (getattr(network, features)(given) for network in (loaded, state.ema.clip))
        assert (found - wanted).abs().max() < 0.02
    found = json.loads((tmp_path / "run/samples/000002.json").read_text())
    assert found["step"] == 2 and 0 <= found["caption of a picture"] <= 1 and len(found) == 3
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 2


def test_an_interrupted_training_resumes_to_the_same_bits(quick, tmp_path, monkeypatch):
    whole, cut = (replace(quick, steps=3, folder=str(tmp_path / name)) for name in ("whole", "cut"))
    clip.main(whole)
    with monkeypatch.context() as patched:
        patched.setattr(clip, "retrieval", lambda *_: os.kill(os.getpid(), signal.SIGINT) or {})
        stopped = clip.main(replace(cut, sample_minutes=0, export=True))
    assert stopped.step == 2 and not (tmp_path / "data").exists()          # nothing unfinished is exported
    assert clip.main(cut).step == 3
    one, other = (load_state(tmp_path / name / "state.safetensors")[0] for name in ("whole", "cut"))
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_every_picture_counts_as_one_level():
    text = TextConfig(("a", "b"), dim=32, layers=1)
    network = clip.Matching(CLIPConfig(text, size=32, dim=8, channels=(16,), cell=4))
    x0, tokens = torch.zeros(3, 3, 32, 32), network.clip.text.tokenize(["a", "b", "a b"])
    losses, levels = network(x0, tokens)
    assert torch.equal(losses, network.clip(x0, tokens)) and levels.tolist() == [0.5] * 3


def looked_up(image, text, captions):
    """The retrieval of a network that gives these features."""
    image, text = (torch.tensor(features, dtype=torch.float64) for features in (image, text))
    network = SimpleNamespace(image_features=lambda pictures: image, text_features=lambda captions: text)
    return list(clip.retrieval(network, None, captions).values())


def test_retrieval_has_known_answers():
    axes = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert looked_up(axes, axes, ["a", "b", "c"]) == [1, 1]
    assert looked_up(axes, [axes[1], axes[2], axes[0]], ["a", "b", "c"]) == [0, 0]
    assert looked_up(axes, [axes[0], axes[0], axes[2]], ["a", "b", "c"]) == pytest.approx([2 / 3] * 2)
    assert looked_up(axes, [axes[1], axes[0], axes[2]], ["a", "a", "c"]) == [1, 1]      # twins are right, too
    one_way = looked_up(axes, [[1, 0, 0], [0.9, 0.5, 0], [0.9, 0, 0.5]], ["a", "b", "c"])
    assert one_way == pytest.approx([1, 1 / 3])


def test_val_scenes_are_worded_as_in_training():
    pictures, captions = clip.val_scenes(32, "cpu", n=5)
    assert pictures.shape == (5, 3, 32, 32) and len(captions) == 5
    assert captions == list(clip.toytown.load_split("val").captions[:5])
    assert not clip.toytown.load_split("val").held_out_phrasing[:64].any()


def test_presets_are_complete_and_options_are_checked():
    for preset in clip.PRESETS:
        assert configure(clip.Config, clip.PRESETS, preset).minutes > 0
    with pytest.raises(ValueError, match="Config does not know colour"):
        configure(clip.Config, clip.PRESETS, "cpu", colour="red")
