"""Slowing down or going back: the same network calls, spent on finer steps or on resampling

The worlds and measures are those of `bias`, with ancestral steps. Finer steps gain nothing: what one step
leaves inconsistent, no later one mends, however small it is. Going back mends it. RePaint (2201.09865),
table 2, asks the same of a learned network. ± is half of a 95 % interval.
"""

from itertools import product

from tqdm import tqdm

from minidiff.bench.puzzles import counted, distance, gaussian, halves, solve, walks
from minidiff.control.repaint import repaint_path

QUICK = dict(samples=200, visits=(3,))
ANCESTRAL = (0, 2)                                                  # of the walks


def rows(samples=2000, visits=(2, 5, 10), seed=0):
    """One row for each world, process and number of network calls: the distance to the truth, both ways."""
    cases = list(product((gaussian(), halves()), ANCESTRAL, visits))
    return [row(*case, samples, seed) for case in tqdm(cases, "slow", leave=False, disable=None)]


def row(puzzle, which, visits, samples, seed):
    """Resampling with `visits`, and one visit in as many steps as the first took network calls."""

    def measured(levels, visits):
        process, editor, step = walks(levels)[which]
        denoise, calls = counted(puzzle.world.denoiser(process))
        path = repaint_path(process.times(levels), puzzle.jump, visits)
        solutions = solve(puzzle, denoise, process, step, path, samples, seed)
        return editor, distance(puzzle, solutions, seed), calls[0]

    editor, resampling, calls = measured(puzzle.steps, visits)
    _, slowing_down, _ = measured(calls, 1)
    return {"world": puzzle.name, "editor": editor, "network calls": calls, "measure": puzzle.unit,
            "slowing down": slowing_down, "resampling": resampling, "visits": visits}
