"""Train a text-to-image DDPM: a U-Net and a text encoder, on Toytown or other pictures.

    python -m train.ddpm --preset cpu --folder runs/town-ddpm --name town-ddpm --export
    python -m train.ddpm --data mnist --download --size 32 --minutes 10 --folder runs/mnist
    torchrun --nproc-per-node 2 -m train.ddpm --preset gpu --folder runs/town-ddpm

The same command again resumes. The folder of the run gets its checkpoints, log.jsonl, and samples/STEP.png.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from minidiff.checkpoint import fill, load_weights, save_weights
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.process.ddpm import DDPM
from minidiff.process.guidance import cfg, drop_conditions
from minidiff.process.sample import clamped, sample
from train.config import LoopConfig, command_line, from_command_line
from train.data import on_device, source
from train.loop import generator_of, train
from train.place import Place

T = 1000


@dataclass(frozen=True)
class Config(LoopConfig):
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
    "gpu": dict(minutes=9, batch=256, learning_rate=1e-3, ema=0.999, compile=True),
}


class TextToImage(nn.Module):
    """The two networks, unet and text, and their training loss."""

    def __init__(self, unet, text):
        super().__init__()
        self.unet, self.text = UNet(unet), TextEncoder(text)

    def forward(self, x_t, level, tokens, target, weight):
        """weight |prediction - target|^2, the mean over a picture's pixels: ((B,) losses, (B,) levels 0..1).

        x_t, target: (B, 3, H, W).  level, weight: (B,).  tokens: (B, L).
        """
        prediction = self.unet(x_t, level, *self.text(tokens))
        return weight * (prediction.float() - target).square().mean((1, 2, 3)), level


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    pictures = source(config.data, config.size, device, config.download)
    process = DDPM.cosine(T, config.predicts)
    torch.manual_seed(config.seed)                              # the random start of the weights
    network = TextToImage(UNetConfig(size=config.size), TextConfig(pictures.words, pictures.characters))
    if config.init:
        warm_start(network, config.init)

    def make_batch(generator):
        x0, captions = pictures(config.batch, generator)
        captions = drop_conditions(captions, config.drop, "", generator)
        t = stratified_levels(len(x0), process.T, generator)
        noise = torch.randn(x0.shape, device=device, generator=on_device(generator, device))
        weight = snr_weight(process, t, config.snr_limit)
        tensors = process.fraction(t), network.text.tokenize(captions), process.target(x0, noise), weight
        return process.corrupt(x0, t, noise), *(tensor.to(device) for tensor in tensors)

    def draw(ema, step):
        save_samples(ema, process, pictures, Path(config.folder) / "samples" / f"{step:06d}.png")

    state = train(network, make_batch, config, draw)
    if config.export and state.done and Place.find(config.device).first:
        export(state, config)
    return state


def stratified_levels(n, T, generator):
    """n whole levels in 1..T, uniform, one in each n-th part of the range, which steadies the mean loss."""
    return (1 + T * (torch.arange(n) + torch.rand(n, generator=generator)) / n).long().clamp(max=T)


def snr_weight(process, t, limit):
    """The weight of each level in the loss, with SNR = a^2 / s^2.

    x0 predicted: max(1, min(SNR, limit)).  eps predicted: min(SNR, limit) / SNR.
    The limit, so that almost clean pictures do not crowd out the rest: "Min-SNR", Hang et al. (2303.09556).
    At least 1, so that what stands where is learnt from the caption in good time: "truncated SNR", Salimans &
    Ho (2202.00512); not for eps, where it would divide by almost 0.
    t: (B,) levels.  limit: at least 1.  Returns (B,) float32.
    """
    a, s = process.coefficients(t)
    snr = (a / s) ** 2
    return (snr.clamp(1, limit) if process.predicts == "x0" else snr.clamp(max=limit) / snr).float()


def warm_start(network, name):
    """Begin from shipped weights; extra input channels that they lack begin at zero.

    Raises CheckpointError if they lack anything else, or have more.
    """
    tensors, _ = load_weights(name)
    extra = {key: tensor for key, tensor in network.state_dict().items() if "stem_extra" in key}
    fill(network, {**extra, **tensors}, name)


@torch.no_grad()
def save_samples(network, process, pictures, path, n=16, scale=2.0, steps=30):
    """A grid of n samples, from captions that stay the same through the run, as PNG."""
    generator = generator_of("samples")
    like, captions = pictures(n, generator)
    tokens = network.text.tokenize(captions + [""] * n).to(like.device)                      # (2n, L)
    text = network.text(tokens)

    def denoise(x_t, t):
        level = torch.full((2 * n,), process.fraction(t), device=x_t.device)
        cond, uncond = network.unet(torch.cat([x_t, x_t]), level, *text).chunk(2)
        return cfg(uncond, cond, scale)

    x = torch.randn(like.shape, generator=generator).to(like)
    for state in sample(process, clamped(process, denoise), x, process.times(steps), generator):
        x = state.x
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = torch.cat([torch.cat(list(row), 2) for row in x.cpu().split(n // 2)], 1)          # (3, 2 H, n/2 W)
    Image.fromarray(((grid.permute(1, 2, 0).clamp(-1, 1) + 1) * 127.5).round().byte().numpy()).save(path)


def export(state, config):
    """Write the EMA weights in half precision to data/weights, with what made them."""
    shapes = {"unet": asdict(state.ema.unet.config), "text": asdict(state.ema.text.config)}
    save_weights(config.name, state.ema.state_dict(), {
        "config": {**shapes, "process": {"name": "ddpm-cosine", "T": T, "predicts": config.predicts}},
        "command": command_line("train.ddpm", config),
        "data": config.data, "data_seed": config.seed, "steps": state.step, "seconds": round(state.seconds),
        "hardware": Place.find(config.device).hardware(), "figures": {}})


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
