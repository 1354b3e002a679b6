"""How many steps does an edit need? The unified editor, by Euler's steps and by Heun's

The same edits of the frozen test split, every kind of the grammar equally often, from the same noise. The
columns are those of `grammar`. The levels are moved towards the noise by the number of steps; "FLUX.1's
levels": by 1.6, as FLUX.1 moves them for so few tokens. Guidance is off from the level on where the last step
begins: in that step, and where Heun's step before it looks ahead. Heun's step asks the network twice, but for
the last one, and follows the mean of both velocities. Calls are those of one edit, with both branches where
guidance is on, and with what is prepared once for all steps; seconds those of one edit alone on this machine,
not of many in a batch. ± is half of a 95 % interval.
"""

from functools import partial

import torch
from tqdm import tqdm

from minidiff.bench.common import seeded
from minidiff.bench.edits import edited, row
from minidiff.bench.grammar import KINDS, WITH_FLOOR, by_context, judged_in_latents
from minidiff.bench.judging import held_out_edits
from minidiff.control.context import SCALE, context_walk, planned
from minidiff.latent import usual_shift
from minidiff.process.sample import heun, sample

WEIGHTS = "town-context"
QUICK = dict(each=1, euler=(1, 2), others=2, heun_steps=2, alone=1)


def rows(model, each=12, euler=(1, 4, 8, 20, 50), others=20, heun_steps=10, alone=3, seed=0):
    """One row for each number of steps.

    each: edits of a kind; alone: how many are timed, one at a time.  others, heun_steps: of the other walks.
    """
    edits = held_out_edits(each, model.size, KINDS)
    everything = torch.ones(len(edits), dtype=torch.bool)
    walks = [("Euler", context_walk, SCALE, count) for count in euler]
    walks += [("Heun", heun_walk, SCALE, heun_steps), ("Euler, guidance off", context_walk, 1.0, others),
              ("Euler, FLUX.1's levels, guidance off", usual_walk, 1.0, others)]
    found = []
    for name, walk, scale, count in tqdm(walks, "steps", leave=False, disable=None):
        edit = partial(by_context, steps=count, scale=scale, walk=walk)
        outputs, costs = edited(edit, model, edits, seeded(seed), name)
        _, timed = edited(edit, model, edits[:alone], seeded(seed), "one alone", batch=1)
        costs = {"network calls": costs["network calls"], "seconds": timed["seconds"]}
        figures = judged_in_latents(outputs, edits, model)
        cells = row(name, "all", everything, figures, costs, WITH_FLOOR)
        found.append({"steps": f"{count} of {cells.pop('editor')}", **cells})
    return found


def chief(rows):
    """Steps -> success."""
    return {WEIGHTS: {row["steps"]: round(row["success"].value, 3) for row in rows}}


def heun_walk(model, prompts, contexts, noise, generator, steps, scale):
    """As context_walk, by Heun's steps."""
    denoise, times = planned(model, prompts, contexts, noise, steps, scale)
    step = heun(model.process, denoise)
    return sample(model.process, denoise, noise, times, generator, step)


def usual_walk(model, prompts, contexts, noise, generator, steps, scale):
    """As context_walk, in FLUX.1's levels."""
    shift = usual_shift(noise, model.dit.config.patch)
    return context_walk(model, prompts, contexts, noise, generator, steps, scale, shift=shift)
