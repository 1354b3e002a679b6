"""Train a branch through which a frozen caption model follows maps: depth, segmentation, pose. ControlNet.

    python -m train.control --preset cpu --folder runs/town-control --export
    python -m train.control --preset gpu --folder runs/town-control --export

The base, town-ddpm, does not change: only the branch is trained, and only the branch is exported. The same
command again resumes. The folder of the run gets its checkpoints, log.jsonl, and samples/STEP.png.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from minidiff import toytown
from minidiff.checkpoint import load_weights, save_weights
from minidiff.control.spatial import MAPS, map_picture
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.model import Model
from minidiff.process.guidance import drop_conditions
from train.config import from_command_line
from train.data import draw_seed, on_device
from train.denoising import TextToImage, drawn, made_by, save_picture, snr_weight, stratified_levels
from train.loop import generator_of, train
from train.place import Place
from train.supply import Supply, SupplyConfig, paints_on

MAP_CHANNELS = 3


@dataclass(frozen=True)
class Config(SupplyConfig):
    """What to learn from, beside what, and where the result goes.

    base: shipped weights of the caption model; its process, size and kind of prediction are kept.
    snr_limit: gamma of the loss weight.  drop: share of captions emptied, more than elsewhere, so that the
    branch learns to read from the map alone what the picture shows.  export: write
    data/weights/NAME.safetensors at the end.
    """

    name: str = "town-control"
    base: str = "town-ddpm"
    snr_limit: float = 5.0
    drop: float = 0.3
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=25, batch=32, learning_rate=1e-3, ema=0.999),
    "gpu": dict(minutes=9, batch=256, learning_rate=1e-3, ema=0.999, distinct=2000, every=2, workers=14),
}


def main(config):
    """Train, and return the training's State; with config.export the branch's EMA weights are written."""
    device = Place.find(config.device).device
    base = Model.load(config.base, "cpu")
    process = base.process
    network = TextToImage(base.unet.config, base.text.config)
    network.unet, network.text = ControlledUNet(base.unet, MAP_CHANNELS), base.text

    def examples(generator, now):
        x0, maps, captions = draw_pictures(config.batch, base.size, paints_on(config, device), generator)
        captions = drop_conditions(captions, config.drop, "", generator)
        return x0, maps, network.text.tokenize(captions)

    supply = Supply(examples, config, device)

    def make_batch(generator, now):
        x0, maps, tokens = supply(now)
        t = stratified_levels(len(x0), process.T, generator)
        noise = torch.randn(x0.shape, device=device, generator=on_device(generator, device))
        weight = snr_weight(process, t, config.snr_limit)
        tensors = process.fraction(t), tokens, process.target(x0, noise), weight
        return process.corrupt(x0, t, noise), *(tensor.to(device) for tensor in tensors), maps

    def draw(ema, step):
        save_samples(ema, process, base.size, device, Path(config.folder) / "samples" / f"{step:06d}.png")

    state = train(network, make_batch, config, draw)
    if config.export and state.done and Place.find(config.device).first:
        export_branch(state, config)
    return state


def draw_pictures(n, size, device, generator):
    """n fresh scenes: (x0 (n, 3, size, size), a map of each, of a random kind, n captions)."""
    seed = draw_seed(generator)
    fresh = toytown.scenes(n, seed)
    kinds = torch.randint(len(MAPS), (n,), generator=generator)
    maps = mixed_maps(fresh.to(device), kinds.to(device), size)
    return toytown.paint(fresh.to(device), size), maps, toytown.captions(fresh, seed)


def mixed_maps(scenes, kinds, size):
    """For each scene the map that kinds (n,), indices into MAPS, says: (n, 3, size, size)."""
    maps = torch.empty(len(scenes), MAP_CHANNELS, size, size, device=kinds.device)
    for number, kind in enumerate(MAPS):
        chosen = (kinds == number).nonzero().flatten()
        if len(chosen):
            maps[chosen] = map_picture(kind, scenes[chosen], size)
    return maps


@torch.no_grad()
def save_samples(network, process, size, device, path, n=12, steps=20):
    """Maps, pictures drawn from them and from captions without guidance, and the val scenes, as PNG."""
    val = toytown.load_split("val")
    scenes, generator = val.scenes[:n].to(device), generator_of("samples")
    maps = mixed_maps(scenes, torch.arange(n, device=device) % len(MAPS), size)
    x = drawn(network, process, val.captions[:n], maps, generator, steps, extra=maps)
    save_picture([maps, x, toytown.paint(scenes, size)], path)


def export_branch(state, config):
    """Write the EMA weights of the branch in half precision to data/weights; the base stays where it is."""
    trained = ("unet.branch.", "unet.zero.")
    tensors = {name: tensor for name, tensor in state.ema.state_dict().items() if name.startswith(trained)}
    _, base = load_weights(config.base)
    shape = {"base": config.base, "base_sha256": base["sha256"], "map_channels": MAP_CHANNELS}
    save_weights(config.name, tensors, {
        "config": shape, "data": "town", **made_by(state, "train.control", config)})


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
