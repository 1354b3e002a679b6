"""Train a network that fills holes: a U-Net that also sees what is kept, and where the hole is. GLIDE.

    python -m train.inpaint --preset cpu --folder runs/town-inpaint --export
    python -m train.inpaint --preset gpu --folder runs/town-inpaint --export

It starts from the caption model town-ddpm, the extra channels at zero. The same command again resumes. The
folder of the run gets its checkpoints, log.jsonl, and samples/STEP.png.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from minidiff.control.inpaint import CHANNELS, hole_channels, inpaint
from minidiff.denoisers.unet import UNetConfig
from minidiff.encoders.text import TextConfig
from minidiff.model import Model
from minidiff.process.ddpm import DDPM
from minidiff.process.guidance import drop_conditions
from train.config import from_command_line
from train.data import Town, on_device
from train.denoising import (
    T,
    TextToImage,
    begin_from,
    export,
    save_picture,
    snr_weight,
    stratified_levels,
    warm_start,
)
from train.holes import Holes
from train.loop import generator_of, train
from train.place import Place
from train.supply import Supply, SupplyConfig, paints_on

SORTS = ("wide", "narrow", "box", "scribble", "thing", "half", "expand", "everything", "super_resolve",
         "alternating_lines")


@dataclass(frozen=True)
class Config(SupplyConfig):
    """What to learn, from where, and where the result goes.

    size: of the pictures.  predicts: "x0" or "eps".  snr_limit: gamma of the loss weight.  kept: how much a
    kept pixel counts, where one of the hole counts 1: little, since every step pins it.  drop: share of
    captions emptied.  init: shipped weights to start from, "" = none.  export: write
    data/weights/NAME.safetensors at the end.
    """

    name: str = "town-inpaint"
    size: int = 64
    predicts: str = "x0"
    snr_limit: float = 5.0
    kept: float = 0.1
    drop: float = 0.2
    init: str = "town-ddpm"
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=30, batch=32, learning_rate=1e-3, ema=0.999, decay=0.3),
    "gpu": dict(minutes=9, batch=256, learning_rate=1e-3, ema=0.999, decay=0.3, distinct=3000, every=2,
                workers=14),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    pictures = Town(config.size, paints_on(config, device))
    holes = Holes(SORTS, config.size, config.seed)
    process = DDPM.cosine(T, config.predicts)
    torch.manual_seed(config.seed)                              # the random start of the weights
    shape = UNetConfig(size=config.size, extra_channels=CHANNELS)
    network = TextToImage(shape, TextConfig(Town.words, Town.characters, neighbours=True))
    begin_from(config, partial(warm_start, network))

    def examples(generator, now):
        x0, captions = pictures(config.batch, generator)
        captions = drop_conditions(captions, config.drop, "", generator)
        return x0, network.text.tokenize(captions), holes(len(x0), generator)

    supply = Supply(examples, config, device)

    def make_batch(generator, now):
        x0, tokens, edit_mask = supply(now)
        noise = torch.randn(x0.shape, device=device, generator=on_device(generator, device))
        t = stratified_levels(len(x0), process.T, generator)
        weight = snr_weight(process, t, config.snr_limit).to(device).view(-1, 1, 1, 1)
        weight = weight * of_the_hole(edit_mask, config.kept)
        level = process.fraction(t).to(device)
        seen = hole_channels(x0, edit_mask)
        return process.corrupt(x0, t, noise), level, tokens, process.target(x0, noise), weight, seen

    def draw(ema, step):
        path = Path(config.folder) / "samples" / f"{step:06d}.png"
        save_samples(ema, process, pictures, holes, path)

    state = train(network, make_batch, config, draw)
    if config.export and state.done and Place.find(config.device).first:
        export(state, "train.inpaint", config, "town")
    return state


def of_the_hole(edit_mask, kept):
    """Weights of pixels, 1 in the hole and `kept` outside, brought to a mean of 1 a picture: (B, 1, H, W)."""
    weight = torch.where(edit_mask, 1.0, kept)
    return weight / weight.mean((1, 2, 3), keepdim=True)


@torch.no_grad()
def save_samples(network, process, pictures, holes, path, n=16, steps=20):
    """Pictures with holes, filled without guidance, and as they were, as PNG; always the same ones."""
    generator = generator_of("samples")
    truth, captions = pictures(n, generator)
    truth = truth.to(network.text.token.weight.device)
    edit_mask = holes(n, generator).to(truth.device)
    seen = hole_channels(truth, edit_mask)
    denoise = Model(process, network.unet, network.text, truth.device).denoiser(captions, extra=seen)
    for state in inpaint(process, denoise, truth, edit_mask, process.times(steps), generator):
        x = state.x
    save_picture([seen[:, :3], x, truth], path)


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
