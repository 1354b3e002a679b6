"""The six masks in latents: RePaint by number of visits, pinning, blending, and what the codec alone costs

The scenes, holes and columns of the table "masks", by editors that work in the latents of a VAE. All are
composited in pixels at the end, and "truth" and "seam" are of that picture; "raw kept" is PSNR outside the
hole before. The round trip shows the truth to the codec, hole and all: about the best that an editor in
latents can do. RePaint with one visit is plain replacement; blended latents are the same by steps without
noise of their own. A cell is lost if one of its pixels is: thin holes are as hard as wide ones. ± is half of
a 95 % interval over scenes.
"""

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import held_out, last, seeded
from minidiff.bench.masks import NULL_EDITORS, REPAINT, SIX, judged, kept_psnr, repainter, row
from minidiff.control import controls
from minidiff.measure import seam, truth_psnr

WEIGHTS = "town-context"
QUICK = dict(scenes=2, samples=2, visits=(1, 2), steps=6)
ONE_PASS = {"pinned": "latent-pin", "blended latents": "latent-blend"}          # and their controls
ROUND_TRIP = "round trip"


def composited_seam(output, truth, edit_mask):
    """The seam of what is left once kept pixels are put back, in 255ths: (B,)."""
    return seam(torch.where(edit_mask, output, truth), truth, edit_mask)


MEASURES = {"truth (dB)": truth_psnr, "seam": composited_seam, "raw kept (dB)": kept_psnr}


def rows(model, scenes=5, samples=8, visits=(1, 5), steps=20, seed=0):
    """One row for each mask, editor and picture, which is one sample or the mean of `samples`."""
    editors = {**NULL_EDITORS, ROUND_TRIP: round_trip(model)}
    editors |= {name: inpainter(model, control, samples, steps=steps) for name, control in ONE_PASS.items()}
    for count in visits:
        editors[repainter(count)] = inpainter(model, "latent-repaint", samples, steps=steps, visits=count)
    truths = toytown.paint(held_out(scenes)[0], model.size).to(model.device)
    measured = [judged(truths[i : i + 1], editors, seeded(seed + i), MEASURES)
                for i in tqdm(range(scenes), "latent-masks", leave=False, disable=None)]
    cases = sorted(measured[0], key=lambda case: SIX.index(case[0]))
    return [row(case, measured, MEASURES) for case in cases]


def chief(rows):
    """Mask -> truth PSNR in dB, of RePaint with most visits the mean of samples."""
    thorough = [row for row in rows if row["editor"].startswith(REPAINT)]      # the last row of a mask counts
    return {WEIGHTS: {row["mask"]: round(row["truth (dB)"].value, 2) for row in thorough}}


def inpainter(model, control, samples, **options):
    """As in bench.masks: a registered editor, `samples` times. Its pictures are decoded, not composited."""

    def edit(known, edit_mask, truth, generator):
        many = [tensor.repeat(samples, 1, 1, 1) for tensor in (known, edit_mask)]
        with model.counted() as calls:
            z = last(controls("inpaint")[control](model, *many, "", generator=generator, **options))
        return model.decode(z).unflatten(0, (samples, len(known))), calls[0]

    return edit


def round_trip(model):
    """The editor that knows the truth, but has to send it through the codec."""
    return lambda known, edit_mask, truth, generator: (model.decode(model.latents(truth))[None], 0)
