"""Things of a caption: does a picture that was drawn from words show them, and in their colours?

Pictures drawn from captions of the frozen test split are read by town-reader, a network that says what is
there. It errs, too: "true render" is how often it finds what is truly in the scene, the most that any editor
can reach here. "named": the share of the things, kinds of trees and colours a caption names that are found,
the mean over captions; "things" and "colours" are apart, "whole caption" is the share of pictures where all
are. "invented": of the things that a caption leaves out, the share that is there all the same. "setting":
season, time of day and style, all three. "a fresh scene" ignores the caption. Not measured: places, sizes,
and writing. ± is half of a 95 % interval over pictures.
"""

from functools import partial

import torch

from minidiff import toytown
from minidiff.bench.captions import a_fresh_scene, drawn, sampled
from minidiff.bench.common import held_out, last
from minidiff.control.context import context_walk
from minidiff.encoders.reader import Reader
from minidiff.measure import bootstrap
from minidiff.model import load_model
from minidiff.process.sample import normal_like
from minidiff.toytown.named import COLORED, THINGS, absent_and_invented, named, named_and_found

WEIGHTS, BEFORE = "town-context", "town-ddpm"
QUICK = dict(n=4, steps=2, ddpm_steps=2)
SETTING = ("season", "time", "style")
UNIFIED, PIXELS = "town-context, scale {}", "town-ddpm, scale {}"


def rows(model, n=128, steps=20, ddpm_steps=50, scales=(1, 2, 3, 5), seed=0):
    """One row for each editor, of n captions.  scales: of guidance, for the unified model."""
    scenes, captions = held_out(n)
    before, reader = load_model(BEFORE, model.device), Reader.load(device=model.device)
    asked, side = named(captions), reader.config.size // model.vae.config.factor
    editors = {"true render": (before, true_render, 0), "a fresh scene": (before, a_fresh_scene, 0),
               PIXELS.format(3): (before, partial(sampled, scale=3), ddpm_steps)}
    editors |= {UNIFIED.format(scale): (model, partial(in_latents, scale=scale, side=side), steps)
                for scale in scales}
    found = []
    for name, (network, edit, count) in editors.items():
        pictures, costs = drawn(edit, network, scenes, captions, count, seed)
        found.append({"editor": name, **shares(asked, reader.read(pictures)), **costs})
    return found


def chief(rows):
    """Editor -> the share of named things and colours that it draws."""
    chosen = [row for row in rows if row["editor"].startswith(WEIGHTS)]
    return {WEIGHTS: {row["editor"]: round(row["named"].value, 3) for row in chosen}}


def shares(asked, read):
    """Columns with intervals: tables as `named` and `Reader.read` give them -> cells."""
    def share(of, found):
        return bootstrap(torch.where(of > 0, found / of, torch.nan).double())

    of, found = named_and_found(asked, read)
    setting = torch.stack([read[name] == asked[name] for name in SETTING]).all(0)
    return {"named": share(of, found), "things": share(*named_and_found(asked, read, THINGS)),
            "colours": share(*named_and_found(asked, read, COLORED)),
            "whole caption": bootstrap((of == found).double()),
            "invented": share(*absent_and_invented(asked, read)), "setting": bootstrap(setting.double())}


def true_render(model, scenes, captions, steps, generator):
    """The scenes that the captions describe."""
    return toytown.paint(scenes, model.size)


def in_latents(model, scenes, captions, steps, generator, scale, side):
    """The unified model's pictures of the captions, at a scale of guidance.  side: of them, in cells."""
    like = torch.empty(len(captions), model.dit.config.channels, side, side, device=model.device)
    walk = context_walk(model, captions, (), normal_like(like, generator), generator, steps, scale)
    return model.decode(last(walk))
