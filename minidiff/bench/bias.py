"""Sampler bias: how far RePaint's answers are from the truth, as a distribution

The denoisers are exact, so what is left is the error of the editor itself: 0 would be the true
conditional distribution. One visit is plain replacement; each visit more brings the error down; steps
without fresh noise start further off. "exact conditional" draws from the truth: the floor, for this many
samples. "ignores the known" fills the hole from the world at large. ± is half of a 95 % interval.
"""

from itertools import product
from time import perf_counter

import torch
from tqdm import tqdm

from minidiff.bench.common import seeded
from minidiff.bench.puzzles import counted, distance, gaussian, halves, solve, walks
from minidiff.control.repaint import repaint_path

QUICK = dict(samples=200, visits=(1, 4))


def rows(samples=2000, visits=(1, 2, 5, 10, 20), seed=0):
    """One row for each world, process, step and number of visits, and for each null editor."""
    found = []
    for puzzle in (gaussian(), halves()):
        cases = list(product(walks(puzzle.steps), visits))
        for walk, count in tqdm(cases, f"bias, {puzzle.name}", leave=False, disable=None):
            found.append(repaint_row(puzzle, walk, count, samples, seed))
        found += [null_row(puzzle, name, samples, seed) for name in NULL_EDITORS]
    return found


def repaint_row(puzzle, walk, visits, samples, seed):
    """RePaint's row: its distance to the truth, and what it cost."""
    process, editor, step = walk
    denoise, calls = counted(puzzle.world.denoiser(process))
    path = repaint_path(process.times(puzzle.steps), puzzle.jump, visits)
    start = perf_counter()
    solutions = solve(puzzle, denoise, process, step, path, samples, seed)
    seconds = perf_counter() - start
    return {"world": puzzle.name, "editor": editor, "visits": visits, "measure": puzzle.unit,
            "distance": distance(puzzle, solutions, seed), "network calls": calls[0], "seconds": seconds}


def null_row(puzzle, editor, samples, seed):
    """The row of an editor that asks no network."""
    solutions = NULL_EDITORS[editor](puzzle, samples, seeded(seed))
    return {"world": puzzle.name, "editor": editor, "measure": puzzle.unit,
            "distance": distance(puzzle, solutions, seed), "network calls": 0}


def exact_conditional(puzzle, samples, generator):
    """The oracle: samples of the truth, (K, samples, C, H, W)."""
    return torch.stack([truth.sample(samples, generator) for truth in puzzle.truth()])


def ignores_the_known(puzzle, samples, generator):
    """The re-roll: a fresh picture of the world in the hole, whatever stands around it."""
    fresh = torch.stack([puzzle.world.sample(samples, generator) for _ in puzzle.known])
    return torch.where(puzzle.edit_mask, fresh, puzzle.known[:, None])


NULL_EDITORS = {"exact conditional": exact_conditional, "ignores the known": ignores_the_known}
