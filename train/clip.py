"""Train CLIP in miniature: which of many Toytown pictures belongs to this caption, and which caption to it?

    python -m train.clip --preset cpu --folder runs/town-clip --export
    python -m train.clip --preset gpu --folder runs/town-clip --export

The same command again resumes. The folder of the run gets its checkpoints, log.jsonl, and samples/STEP.json:
how often a scene of the val split and its caption find each other among 64. These lines go into the
manifest, as the curve of the training.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from minidiff import toytown
from minidiff.checkpoint import save_weights
from minidiff.encoders.clip import CLIP, CLIPConfig
from minidiff.encoders.text import TextConfig
from train.config import LoopConfig, from_command_line
from train.data import Town
from train.denoising import made_by, save_point
from train.loop import train
from train.place import Place


@dataclass(frozen=True)
class Config(LoopConfig):
    """What to learn, and where the result goes.

    size: of the pictures.  layers: of the text encoder.  batch, here: the choice that each caption has, so
    larger is harder; passes and processes do not add to it.  export: write data/weights/NAME.safetensors at
    the end.
    """

    name: str = "town-clip"
    size: int = 64
    layers: int = 2
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=8, batch=128, learning_rate=1e-3, ema=0.99, warmup=50, decay=0.4),
    "gpu": dict(minutes=5, batch=256, learning_rate=1e-3, ema=0.999, decay=0.4, compile=True),
}


class Matching(nn.Module):
    """The network and its training loss."""

    def __init__(self, config):
        super().__init__()
        self.clip = CLIP(config)

    def forward(self, x0, tokens):
        """((B,) contrastive losses, (B,) levels): there is no noise here, so all count as one level, .5."""
        losses = self.clip(x0, tokens)
        return losses, torch.full_like(losses, 0.5)


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    pictures = Town(config.size, device)
    torch.manual_seed(config.seed)                              # the random start of the weights
    text = TextConfig(
        pictures.words, pictures.characters, dim=96, layers=config.layers, neighbours=True)
    network = Matching(CLIPConfig(text, size=config.size))

    def make_batch(generator, now):
        x0, captions = pictures(config.batch, generator)
        return x0, network.clip.text.tokenize(captions).to(device)

    def look_up(ema, step):
        found = retrieval(ema.clip, *val_scenes(config.size, device))
        save_point(Path(config.folder) / "samples" / f"{step:06d}.json", {"step": step, **found})

    state = train(network, make_batch, config, look_up)
    if config.export and state.done and Place.find(config.device).first:
        save_weights(config.name, state.ema.clip.state_dict(), {
            "config": {"clip": asdict(state.ema.clip.config)}, "data": "town",
            **made_by(state, "train.clip", config)})
    return state


def val_scenes(size, device, n=64):
    """n pictures (n, 3, size, size) of the val split, and their captions, worded as in training."""
    val = toytown.load_split("val")
    return toytown.paint(val.scenes[:n].to(device), size), list(val.captions[:n])


@torch.no_grad()
def retrieval(clip, pictures, captions):
    """How often each finds its other half among all: shares of 1, both ways. A same caption is right, too."""
    fit = clip.image_features(pictures) @ clip.text_features(captions).T             # (pictures, captions)
    same = torch.tensor([[one == other for other in captions] for one in captions], device=fit.device)
    found = {"caption of a picture": same.gather(1, fit.argmax(1)[:, None]),
             "picture of a caption": same.gather(1, fit.argmax(0)[:, None])}
    return {what: right.double().mean().item() for what, right in found.items()}


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
