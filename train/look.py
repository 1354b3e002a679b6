"""What a training of the unified model shows now and then: edits and drawings of the val split."""

import torch

from minidiff import toytown
from minidiff.control.context import context_walk
from train.denoising import save_picture, successes, val_edits
from train.loop import generator_of
from train.tasks import MIX

FOLLOWED = {"": ("recolour", "remove", "season", "time"), "text ": ("text",), "fusion ": ("combine",)}


def edited(model, edits, steps):
    """What the model makes of edits, without guidance: (n, 3, size, size). All have an image 2, or none."""
    pictures = [edits.source, *([edits.reference] if edits.has_reference.any() else [])]
    contexts = [model.latents(picture.to(model.device)) for picture in pictures]
    return drawn(model, edits.instruction, contexts, steps)


def drawn(model, words, contexts, steps):
    """Pictures by the model, without guidance, from pure noise: (n, 3, size, size)."""
    channels, side = model.dit.config.channels, model.size // model.vae.config.factor
    generator = generator_of("samples")
    noise = torch.randn(len(words), channels, side, side, generator=generator).to(model.device)
    *_, last = context_walk(model, list(words), contexts, noise, generator, steps)
    return model.decode(last.x)


def save_samples(model, path, n=8, steps=20):
    """Write a PNG of val edits and fusions: sources, results, truths; then of captions: results, truths."""
    edits, fusions = val_edits(model.size, MIX, n), val_edits(model.size, ("combine",), n)
    val = toytown.load_split("val", model.size)
    rows = [edits.source, edited(model, edits, steps), edits.target,
            fusions.source, fusions.reference, edited(model, fusions, steps), fusions.target,
            drawn(model, val.captions[:n], (), steps), toytown.paint(val.scenes[:n], model.size)]
    save_picture(rows, path)


def figures(model, n=64, steps=10):
    """Success and kept dB over val edits: n of recolour, remove, season, time, half as many of the others."""
    found = {}
    for name, kinds in FOLLOWED.items():
        edits = val_edits(model.size, kinds, n if not name else n // 2)
        values = successes(edits, edited(model, edits, steps))
        found |= {name + key: value for key, value in values.items()}
    return found
