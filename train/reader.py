"""Train the reader of pictures: which things of Toytown, which colours, season, time of day and style?

    python -m train.reader --preset cpu --folder runs/town-reader --export
    python -m train.reader --preset gpu --folder runs/town-reader --export

The same command again resumes. The folder of the run gets its checkpoints, log.jsonl, and samples/STEP.json:
how much of what captions of the val split name is found in their renders. These lines go into the manifest,
as the curve of the training; with --export the same of the test split and of fresh scenes, as its figures.

A judge of what others draw must know more than they were taught, and bear with their brush. So it learns
from every pair of thing and colour, also those that no other training shows, from more pictures in the four
drawn styles than Toytown has, and half of its pictures are spoilt a little.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from minidiff import toytown
from minidiff.checkpoint import add_figures, save_weights
from minidiff.encoders.reader import Reader, ReaderConfig
from minidiff.toytown.named import (
    ATTRIBUTES,
    UNKNOWN,
    absent_and_invented,
    named,
    named_and_found,
    truth,
)
from minidiff.toytown.paint import paint_with_masks
from minidiff.toytown.scene import STYLES
from train.config import LoopConfig, from_command_line
from train.data import draw_seed
from train.denoising import made_by, save_point
from train.loop import train
from train.place import Place

FRESH, FRESH_SEED = 2000, 4_000_000_003                         # scenes beside those of the splits
SHIFT, GAIN, NOISE, BLOTCHES = 0.06, 0.06, 0.10, 0.10           # the worst that `spoil` does


@dataclass(frozen=True)
class Config(LoopConfig):
    """What to learn, and where the result goes.

    size: of the pictures.  export: write data/weights/NAME.safetensors at the end.
    """

    name: str = "town-reader"
    size: int = 64
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=8, batch=64, learning_rate=2e-3, ema=0.995, warmup=100, decay=0.4),
    "gpu": dict(minutes=5, batch=256, learning_rate=2e-3, ema=0.999, decay=0.4, compile=True),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    torch.manual_seed(config.seed)                              # the random start of the weights
    network = Reading(ReaderConfig(size=config.size))

    def make_batch(generator, now):
        return batch_of(config.batch, config.size, device, generator)

    def look_up(ema, step):
        val = toytown.load_split("val")
        path = Path(config.folder) / "samples" / f"{step:06d}.json"
        save_point(path, {"step": step, **accuracy(ema.reader, val.scenes, val.captions)})

    state = train(network, make_batch, config, look_up)
    if config.export and state.done and Place.find(config.device).first:
        path = save_weights(config.name, state.ema.reader.state_dict(), {
            "config": {"reader": asdict(state.ema.reader.config)}, "data": "town",
            **made_by(state, "train.reader", config)})
        add_figures(config.name, figures(Reader.load(path)))
    return state


class Reading(nn.Module):
    """The network and its training loss."""

    def __init__(self, config):
        super().__init__()
        self.reader = Reader(config)

    def forward(self, x0, values, cover):
        """((B,) losses, (B,) levels): there is no noise here, so all count as one level, .5.

        The sum over the attributes of -log p(value), where it is known, and the mean over cells and objects
        of the cross-entropy of cover.  x0: (B, 3, H, W).  values: (B, attributes), as `truth`.
        cover: (B, 5, h, w), 0..1, the share of a cell that shows each object.
        """
        logits, cover_logits = self.reader(x0)
        losses = F.binary_cross_entropy_with_logits(cover_logits, cover, reduction="none").mean((1, 2, 3))
        for rows, value in zip(logits.values(), values.unbind(1), strict=True):
            losses = losses + F.cross_entropy(rows, value, ignore_index=UNKNOWN, reduction="none")
        return losses, torch.full_like(losses, 0.5)


def batch_of(n, size, device, generator):
    """n pictures of fresh scenes, (n, 3, size, size), half of them spoilt; their values and cover."""
    drawn = toytown.scenes(n, draw_seed(generator), held_out=True)
    style = torch.randint(len(STYLES), (n,), generator=generator)
    anew = torch.rand(n, generator=generator) < 0.5
    drawn = drawn.with_(style=torch.where(anew, style, drawn.style))
    x0, shown = paint_with_masks(drawn.to(device), size)
    values = torch.stack(list(truth(drawn).values()), 1)                           # (n, attributes)
    amount = torch.rand(n, generator=generator) * (torch.rand(n, generator=generator) < 0.5)
    cover = F.avg_pool2d(shown, ReaderConfig(size=size).cell)                      # (n, 5, h, w)
    return spoil(x0, amount, generator), values.to(device), cover


def spoil(x0, amount, generator):
    """Pictures as a network that still learns may draw them: washed out, off in colour, blotched, noisy.

    x0: (n, 3, H, W).  amount: (n,) 0..1, 0 = the picture as it is.  By as much, at most: the place of a
    blurred picture of half the size, a shift and a gain of each channel, blotches of 8 pixels and grain.
    """
    def normal(*shape):
        return torch.randn(len(x0), 3, *shape, generator=generator).to(x0)

    amount = amount.to(x0).view(-1, 1, 1, 1)
    smear = F.interpolate(F.avg_pool2d(x0, 2), scale_factor=2, mode="bilinear")
    blotches = F.interpolate(normal(x0.shape[2] // 8, x0.shape[3] // 8), x0.shape[2:], mode="bilinear")
    worst = smear * (1 + GAIN * normal(1, 1)) + SHIFT * normal(1, 1) + BLOTCHES * blotches
    worst = worst + NOISE * normal(*x0.shape[2:])
    return x0.lerp(worst, amount).clamp(-1, 1)


def accuracy(reader, scenes, captions):
    """How right is the reader about true renders? Shares of 1.

    Of the things and colours that captions name, together and one by one, those that it finds; of the things
    that they leave out, those that it does not see; of all seasons, times of day and styles, the right ones.
    """
    asked, read = named(captions), reader.read(toytown.paint(scenes, reader.config.size))
    of, found = named_and_found(asked, read)
    absent, invented = absent_and_invented(asked, read)
    shares = {"named": (found.sum() / of.sum()).item(),
              "all of a caption": (found == of).double().mean().item(),
              "left out": 1 - (invented.sum() / absent.sum()).item()}
    for attribute in ATTRIBUTES:
        of, found = named_and_found(asked, read, (attribute,))
        shares[attribute] = (found.sum() / of.sum()).item()
    return shares


def figures(reader):
    """For the manifest: `accuracy` on the test split, and on FRESH scenes in all colours."""
    test, fresh = toytown.load_split("test"), toytown.scenes(FRESH, FRESH_SEED, held_out=True)
    found = {"test": accuracy(reader, test.scenes, test.captions),
             "fresh": accuracy(reader, fresh, toytown.captions(fresh, FRESH_SEED))}
    return {data: {name: round(share, 4) for name, share in shares.items()} for data, shares in found.items()}


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
