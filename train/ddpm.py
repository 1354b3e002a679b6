"""Train a text-to-image DDPM: a U-Net and a text encoder, on Toytown or other pictures.

    python -m train.ddpm --preset cpu --folder runs/town-ddpm --name town-ddpm --export
    python -m train.ddpm --data mnist --download --size 32 --minutes 10 --folder runs/mnist
    torchrun --nproc-per-node 2 -m train.ddpm --preset gpu --folder runs/town-ddpm

The same command again resumes. The folder of the run gets its checkpoints, log.jsonl, and samples/STEP.png.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from minidiff.denoisers.unet import UNetConfig
from minidiff.encoders.text import TextConfig
from minidiff.process.ddpm import DDPM
from minidiff.process.guidance import drop_conditions
from train.config import from_command_line
from train.data import on_device, source
from train.denoising import (
    T,
    TextToImage,
    begin_from,
    drawn,
    export,
    save_picture,
    snr_weight,
    stratified_levels,
    warm_start,
)
from train.loop import generator_of, train
from train.place import Place
from train.supply import Supply, SupplyConfig, paints_on


@dataclass(frozen=True)
class Config(SupplyConfig):
    """What to learn from, what to predict, and where the result goes.

    data: "town", "mnist", "cifar10" or a folder; download: may MNIST and CIFAR-10 be fetched?  size: of the
    pictures.  predicts: "x0" or "eps".  snr_limit: gamma of the loss weight.  drop: share of captions
    emptied, so that the network also learns to draw without one.  init: shipped weights to start from.
    export: write data/weights/NAME.safetensors at the end.
    """

    name: str = "town-ddpm"
    data: str = "town"
    download: bool = False
    size: int = 64
    predicts: str = "x0"
    snr_limit: float = 5.0
    drop: float = 0.15
    init: str = ""
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=85, batch=32, learning_rate=1e-3, ema=0.999),
    "gpu": dict(minutes=9, batch=256, learning_rate=1e-3, ema=0.999, distinct=3000, every=2, workers=14),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    pictures = source(config.data, config.size, paints_on(config, device), config.download)
    process = DDPM.cosine(T, config.predicts)
    torch.manual_seed(config.seed)                              # the random start of the weights
    text = TextConfig(pictures.words, pictures.characters, neighbours=True)
    network = TextToImage(UNetConfig(size=config.size), text)
    begin_from(config, partial(warm_start, network))

    def examples(generator, now):
        x0, captions = pictures(config.batch, generator)
        return x0, network.text.tokenize(drop_conditions(captions, config.drop, "", generator))

    supply = Supply(examples, config, device)

    def make_batch(generator, now):
        x0, tokens = supply(now)
        t = stratified_levels(len(x0), process.T, generator)
        noise = torch.randn(x0.shape, device=device, generator=on_device(generator, device))
        weight = snr_weight(process, t, config.snr_limit)
        tensors = process.fraction(t), tokens, process.target(x0, noise), weight
        return process.corrupt(x0, t, noise), *(tensor.to(device) for tensor in tensors)

    def draw(ema, step):
        save_samples(ema, process, pictures, Path(config.folder) / "samples" / f"{step:06d}.png")

    state = train(network, make_batch, config, draw)
    if config.export and state.done and Place.find(config.device).first:
        export(state, "train.ddpm", config, config.data)
    return state


@torch.no_grad()
def save_samples(network, process, pictures, path, n=16, scale=2.0, steps=30):
    """A grid of n samples, from captions that stay the same through the run, as PNG."""
    generator = generator_of("samples")
    like, captions = pictures(n, generator)
    like = like.to(network.text.token.weight.device)
    x = drawn(network, process, captions, like, generator, steps, scale)
    save_picture(x.split(n // 2), path)


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
