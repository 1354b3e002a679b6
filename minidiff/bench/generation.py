"""Things of a caption: does a picture that was drawn from words show them, and in their colours?

Pictures drawn from captions of the frozen test split are read by town-reader, a network that says what is
there. It errs, too: "true render" is how often it finds what is truly in the scene, the most that any editor
can reach here; "through the codec": the same, after a round trip. "named": the share of the things, kinds of
trees and colours a caption names that are found, the mean over captions; "things" and "colours" are apart,
"whole caption" is the share of pictures where all are. "invented": of the things that a caption leaves out,
the share that is there all the same. "setting": season, time of day and style, all three. "grain": how far a
pixel of the sky is from the mean of its four neighbours, in 255ths, the median over the upper fifth of a
picture, the mean over those asked for in the plain style, about half of them, whose sky is smooth. "a fresh
scene" ignores the caption. The unified model is guided down to level .3; "to the end": down to 0. Not
measured: places, sizes, and writing. ± is half of a 95 % interval over pictures.
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
from minidiff.toytown.scene import STYLES

WEIGHTS, BEFORE = "town-context", "town-ddpm"
QUICK = dict(n=4, steps=2, ddpm_steps=2)
SETTING = ("season", "time", "style")
PLAIN, CODED = STYLES.index("plain"), "true render, through the codec"
UNIFIED, PIXELS, TO_THE_END = "town-context, scale {}", "town-ddpm, scale {}", ", to the end"


def rows(model, n=128, steps=20, ddpm_steps=50, scales=(1, 2, 3, 5), seed=0):
    """One row for each editor, of n captions.  scales: of guidance, for the unified model."""
    scenes, captions = held_out(n)
    before, reader = load_model(BEFORE, model.device), Reader.load(device=model.device)
    asked, side = named(captions), reader.config.size // model.vae.config.factor
    editors = {"true render": (before, true_render, 0), CODED: (model, partial(coded_render, side=side), 0),
               "a fresh scene": (before, a_fresh_scene, 0),
               PIXELS.format(3): (before, partial(sampled, scale=3), ddpm_steps)}
    editors |= {UNIFIED.format(scale): (model, partial(in_latents, scale=scale, side=side), steps)
                for scale in scales}
    to_the_end = partial(in_latents, scale=scales[-1], side=side, guided_above=0.0)
    editors[UNIFIED.format(scales[-1]) + TO_THE_END] = model, to_the_end, steps
    found = []
    for name, (network, edit, count) in editors.items():
        pictures, costs = drawn(edit, network, scenes, captions, count, seed)
        figures = shares(asked, reader.read(pictures))
        if edit is not a_fresh_scene:                           # it has another style
            figures["grain"] = bootstrap(grain(pictures, scenes))
        found.append({"editor": name, **figures, **costs})
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


def grain(pictures, scenes):
    """(n,) float64, how far a pixel of the sky is from the mean of its four neighbours, 255ths: the median.

    pictures: (n, 3, H, W), H at least 15, of these scenes. nan for other styles than plain.
    """
    grey = pictures.cpu()[..., : pictures.shape[2] // 5, :].mean(1)                # (n, H/5, W)
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    off = (grey[:, 1:-1, 1:-1] - around / 4).abs().flatten(1).median(1).values
    return (127.5 * off.double()).masked_fill(scenes.style.cpu() != PLAIN, torch.nan)


def true_render(model, scenes, captions, steps, generator):
    """The scenes that the captions describe."""
    return toytown.paint(scenes, model.size)


def coded_render(model, scenes, captions, steps, generator, side):
    """The scenes that the captions describe, as the codec makes them.  side: of them, in cells."""
    return model.round_trip(toytown.paint(scenes, side * model.factor).to(model.device))


def in_latents(model, scenes, captions, steps, generator, scale, side, guided_above=None):
    """The unified model's pictures of the captions, at a scale of guidance.  side: of them, in cells.

    guided_above: as context_walk has it.
    """
    like = torch.empty(len(captions), model.dit.config.channels, side, side, device=model.device)
    noise = normal_like(like, generator)
    walk = context_walk(model, captions, (), noise, generator, steps, scale, guided_above=guided_above)
    return model.decode(last(walk))
