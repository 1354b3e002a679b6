"""Train an instruction editor: a U-Net that sees the picture to edit as extra channels. InstructPix2Pix.

    python -m train.instruct --preset cpu --folder runs/town-instruct --export
    python -m train.instruct --preset gpu --folder runs/town-instruct --export

It starts from the caption model town-ddpm, the extra channels at zero. The same command again resumes. The
folder of the run gets its checkpoints, log.jsonl, samples/STEP.png, and samples/STEP.json: how many edits of
the val split succeed, and how much they keep. These lines go into the manifest, as the curve of the training.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from minidiff.denoisers.unet import UNetConfig
from minidiff.encoders.text import TextConfig
from minidiff.process.ddpm import DDPM
from minidiff.process.guidance import drop_text_and_image
from train.config import from_command_line
from train.data import Town, TownEdits, on_device
from train.denoising import (
    T,
    TextToImage,
    begin_from,
    drawn,
    emphasised,
    export,
    save_picture,
    save_point,
    snr_weight,
    stratified_levels,
    successes,
    val_edits,
    warm_start,
)
from train.loop import generator_of, train
from train.place import Place
from train.supply import Supply, SupplyConfig, paints_on

# Each kind as often as it stands here; "combine" speaks of a second picture, which this network cannot see.
FOLLOWED = ("recolour", "remove", "season", "time")              # through the training, in its curve
MIX = FOLLOWED + ("style", "relational") + ("recolour", "add", "replace", "move", "resize", "text") * 2


@dataclass(frozen=True)
class Config(SupplyConfig):
    """What to learn, from where, and where the result goes.

    size: of the pictures.  predicts: "x0" or "eps".  snr_limit: gamma of the loss weight.  emphasis: how much
    more a pixel counts that truly changes, until the learning rate falls, and with it, to 1.  drop: share of
    edits without text, without picture, and without both.  init: shipped weights to start from, "" = none.
    export: write data/weights/NAME.safetensors at the end.
    """

    name: str = "town-instruct"
    size: int = 64
    predicts: str = "x0"
    snr_limit: float = 5.0
    emphasis: float = 5.0
    drop: float = 0.05
    init: str = "town-ddpm"
    export: bool = False


PRESETS = {
    "cpu": dict(minutes=100, batch=32, learning_rate=1e-3, ema=0.999, decay=0.3),
    "gpu": dict(minutes=9, batch=256, learning_rate=1e-3, ema=0.999, decay=0.3, distinct=2000, every=4,
                workers=14),
}


def main(config):
    """Train, and return the training's State; with config.export the EMA weights go to data/weights."""
    device = Place.find(config.device).device
    draw_edits = TownEdits(MIX, config.size, paints_on(config, device), config.seed)
    process = DDPM.cosine(T, config.predicts)
    torch.manual_seed(config.seed)                              # the random start of the weights
    shape = UNetConfig(size=config.size, extra_channels=3)
    network = TextToImage(shape, TextConfig(Town.words, Town.characters, neighbours=True))
    begin_from(config, partial(warm_start, network))

    def examples(generator, now):
        batch = draw_edits(config.batch, now)
        without_text, without_image = drop_text_and_image(len(batch), generator, config.drop)
        words = ["" if without else text for text, without in zip(batch.instruction, without_text.tolist())]
        return batch.target, batch.source, batch.region, network.text.tokenize(words), without_image

    supply = Supply(examples, config, device)

    def make_batch(generator, now):
        x0, source, region, tokens, without_image = supply(now)
        n, image = len(x0), source * ~without_image.view(-1, 1, 1, 1)
        noise = torch.randn(x0.shape, device=device, generator=on_device(generator, device))
        t = stratified_levels(n, process.T, generator)
        weight = emphasised(snr_weight(process, t, config.snr_limit).to(device), region,
                            1 + (config.emphasis - 1) * now.falling)
        level = process.fraction(t).to(device)
        return process.corrupt(x0, t, noise), level, tokens, process.target(x0, noise), weight, image

    def look(ema, step):
        path = Path(config.folder) / "samples" / f"{step:06d}.png"
        save_samples(ema, process, config.size, device, path)
        edits = val_edits(config.size, FOLLOWED, 64)
        x = edited(ema, process, edits, device, steps=10)
        save_point(path.with_suffix(".json"), {"step": step, **successes(edits, x)})

    state = train(network, make_batch, config, look)
    if config.export and state.done and Place.find(config.device).first:
        export(state, "train.instruct", config, "town")
    return state


@torch.no_grad()
def save_samples(network, process, size, device, path, n=16, steps=20):
    """Sources, edits by the network without guidance, and true targets, of val edits, as PNG."""
    edits = val_edits(size, MIX, n)
    save_picture([edits.source, edited(network, process, edits, device, steps), edits.target], path)


def edited(network, process, edits, device, steps):
    """What the network makes of edits, without guidance: (n, 3, size, size)."""
    source = edits.source.to(device)
    return drawn(network, process, edits.instruction, source, generator_of("samples"), steps, extra=source)


if __name__ == "__main__":
    try:
        main(from_command_line(Config, PRESETS, __doc__))
    except (ValueError, OSError) as error:
        sys.exit(str(error))
