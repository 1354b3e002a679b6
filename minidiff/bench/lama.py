"""What the global path of LaMa is for: narrow holes against wide ones

Two networks of one training each, of as many steps and on the same wide holes: with fast Fourier
convolutions, and with none, all channels local. Both fill the same holes of test scenes. "with" and "without"
are PSNR in the hole, "gain" their difference picture by picture, "median gain" its median. A step with the
global path takes twice as long on a CPU: in the same minutes the local network makes twice as many. One
training each: what another random start would give is not in the intervals, which are over pictures. ± is
half of a 95 % interval.
"""

import torch

from minidiff import toytown
from minidiff.bench.common import held_out, seeded
from minidiff.control.masks import MASKS
from minidiff.measure import bootstrap, truth_psnr
from minidiff.model import load_model

WEIGHTS, LOCAL = "town-lama", "town-lama-local"
QUICK = dict(scenes=4)
HOLES = ("narrow", "scribble", "box", "wide", "half")           # from thin to wide


def rows(model, scenes=256, seed=0):
    """One row for each sort of hole."""
    local, generator = load_model(LOCAL, model.device), seeded(seed)
    truth, found = toytown.paint(held_out(scenes)[0], model.size), []
    for name in HOLES:
        edit_mask = torch.cat([MASKS[name](*truth.shape[2:], generator) for _ in range(scenes)])
        pictures = [filled(network, truth, edit_mask) for network in (model, local)]
        dB = [truth_psnr(picture, truth, edit_mask) for picture in pictures]
        gain = dB[0] - dB[1]
        found.append({"hole": name, "share of the picture": edit_mask.double().mean().item(),
                      "with (dB)": bootstrap(dB[0]), "without (dB)": bootstrap(dB[1]),
                      "gain (dB)": bootstrap(gain), "median gain": bootstrap(gain, "median")})
    return found


def chief(rows):
    """Hole -> gain of the global path in dB."""
    return {WEIGHTS: {f"gain, {row['hole']}": round(row["gain (dB)"].value, 2) for row in rows}}


def filled(network, truth, edit_mask, batch=64):
    """The network's pictures, `batch` at a time."""
    parts = zip(truth.to(network.device).split(batch), edit_mask.to(network.device).split(batch))
    return torch.cat([network.fill(*part).cpu() for part in parts])
