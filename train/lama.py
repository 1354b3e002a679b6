"""Train LaMa: a network that fills holes in one pass, on Toytown.

    python -m train.lama --preset cpu --folder runs/town-lama --export
    python -m train.lama --global-share 0 --blocks 3 --folder runs/lama-local --name town-lama-local --export
    python -m train.lama --masks narrow --folder runs/lama-narrow --name town-lama-narrow --export

The last two take away what the paper's ablations do: the global path (and a block, or the 3x3 convolutions in
its place would make the network half as large again), and the wide holes. The same command again resumes. The
folder of the run gets its checkpoints, log.jsonl, and samples/STEP.png.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import nn

from minidiff.checkpoint import save_weights
from minidiff.control.lama import lama_step
from minidiff.control.masks import MASKS
from minidiff.denoisers.lama import LaMa, LaMaConfig
from train.config import LoopConfig, from_command_line
from train.data import Town
from train.denoising import made_by, save_picture
from train.holes import Holes
from train.loop import generator_of, train
from train.place import Place

MIXES = {"wide": ("wide", "box", "half"), "narrow": ("narrow",), "all": tuple(MASKS)}


@dataclass(frozen=True)
class Config(LoopConfig):
    """What to learn, from which holes, and where the result goes.

    size: of the pictures.  blocks, global_share: of the network.  masks: "wide" (as the paper trains),
    "narrow" or "all", with each kind of hole in them as often.  kept: what the error at kept pixels counts
    beside that in the hole.  export: write data/weights/NAME.safetensors at the end.
    """

    name: str = "town-lama"
    size: int = 64
    blocks: int = 4
    global_share: float = 0.75
    masks: str = "wide"
    kept: float = 0.1
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=40, batch=32, learning_rate=1e-3, ema=0.999, decay=0.3),
    "gpu": dict(minutes=6, batch=256, learning_rate=1e-3, ema=0.999, decay=0.3),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    if config.masks not in MIXES:
        raise ValueError(f'masks = "{config.masks}": one of {", ".join(MIXES)} expected')
    pictures, holes = Town(config.size, device), Holes(MIXES[config.masks], config.size, config.seed)
    torch.manual_seed(config.seed)                              # the random start of the weights
    shape = LaMaConfig(size=config.size, blocks=config.blocks, global_share=config.global_share)
    network = Filler(shape, config.kept)

    def make_batch(generator, now):
        x0, _ = pictures(config.batch, generator)
        return x0, holes(config.batch, generator).to(device)

    def draw(ema, step):
        save_samples(ema, pictures, holes, Path(config.folder) / "samples" / f"{step:06d}.png")

    state = train(network, make_batch, config, draw)
    if config.export and state.done and Place.find(config.device).first:
        made = made_by(state, "train.lama", config)
        entry = {"config": {"lama": asdict(shape)}, "data": "town", **made}
        save_weights(config.name, state.ema.lama.state_dict(), entry)
    return state


class Filler(nn.Module):
    """The network, lama, and its training loss: the distance in the hole, and a little of that around it.

    Departure: the paper has this distance at kept pixels only, and leaves holes to a perceptual loss and an
    adversary, which make one sharp answer. The distance alone makes the median of all answers, blurred where
    there are many; but no other network has to be trained for it, or against it.
    """

    def __init__(self, config, kept=0.1):
        super().__init__()
        self.lama, self.kept = LaMa(config), kept

    def forward(self, image, edit_mask):
        """mean |filled - image| in the hole + kept times that outside it: ((B,) losses, (B,) shares of hole).

        image: (B, 3, H, W), whole.  edit_mask: bool (B, 1, H, W), True = hole.
        """
        error = (self.lama(image, edit_mask).float() - image).abs().mean(1, keepdim=True)  # (B, 1, H, W)
        losses = mean_where(edit_mask, error) + self.kept * mean_where(~edit_mask, error)
        return losses, edit_mask.float().mean((1, 2, 3))


def mean_where(chosen, values):
    """The mean of each picture's chosen values: bool and float (B, 1, H, W) -> (B,); 0 where none is."""
    return (values * chosen).sum((1, 2, 3)) / chosen.sum((1, 2, 3)).clamp(min=1)


@torch.no_grad()
def save_samples(network, pictures, holes, path, n=16):
    """Pictures with holes, as the network fills them, and whole: the same through the run, as PNG."""
    generator = generator_of("samples")
    x0, _ = pictures(n, generator)
    edit_mask = holes(n, generator).to(x0.device)
    filled = lama_step(x0, network.lama(x0, edit_mask), edit_mask)
    save_picture([x0.masked_fill(edit_mask, 0), filled, x0], path)


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
