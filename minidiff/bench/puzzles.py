"""Two exact worlds with something to fill in: the true answers are known, as a distribution.

A puzzle is solved well if the solutions are spread as the truth is, not if each one is likely.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from minidiff.bench.common import last, seeded
from minidiff.control.repaint import repaint
from minidiff.denoisers.exact import FiniteSet, Gaussian, World
from minidiff.measure import Interval
from minidiff.measure.distribution import frequencies, gaussian_wasserstein2, mean_and_cov, total_variation
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow


@dataclass(frozen=True)
class Puzzle:
    """A world, what is known of some of its pictures, and how to judge solutions.

    known: (K, C, H, W), K situations.  edit_mask: bool (1, 1, H, W).  steps, jump: of the walks through it.
    gap: (samples, true conditional world) -> float, 0 where they agree; unit: what that measures.
    """

    name: str
    world: World
    known: torch.Tensor
    edit_mask: torch.Tensor
    steps: int
    jump: int
    gap: Callable
    unit: str

    def truth(self):
        """The exact conditional worlds, one a situation."""
        return [self.world.given(known[None], self.edit_mask) for known in self.known]


def gaussian():
    """16 pixels in a row, normal with covariance .9^|i-j|; 5..10 are to be filled, the others are 1.5."""
    index = torch.arange(16).double()
    world = Gaussian(torch.zeros(1, 1, 16), 0.9 ** (index[:, None] - index).abs())
    edit_mask = ((index >= 5) & (index <= 10)).view(1, 1, 1, 16)
    known = torch.full((1, 1, 1, 16), 1.5).double()
    return Puzzle("Gaussian, 16 pixels", world, known, edit_mask, 250, 10, wasserstein, "Wasserstein-2")


def halves():
    """16 pictures: one of 4 left halves, which is known, beside one of 4 right ones, in black and white.

    They agree (first with first, ...) with probability .85, so that one answer is likely and three are rare.
    """
    parts = torch.where(torch.rand(8, 1, 4, 4, generator=seeded(0)) < 0.5, -1.0, 1.0)
    images = torch.stack([torch.cat([left, right], dim=-1) for left in parts[:4] for right in parts[4:]])
    world = FiniteSet(images, torch.where(torch.eye(4) == 1, 0.85 / 4, 0.15 / 12).flatten())
    edit_mask = torch.zeros(1, 1, 4, 8, dtype=torch.bool)
    edit_mask[..., 4:] = True
    known = world.images[::4]
    return Puzzle("16 pictures of halves", world, known, edit_mask, 50, 5, variation, "total variation")


def wasserstein(samples, truth):
    """Wasserstein-2 between a normal distribution fitted to the samples and the true one."""
    return gaussian_wasserstein2(*mean_and_cov(samples), truth.mean.flatten(), truth.cov)


def variation(samples, truth):
    """Total variation between how often each possible picture came and how often it should have."""
    return total_variation(frequencies(samples, truth.images), truth.weights)


def walks(levels):
    """(process, name, step): DDPM with this many levels, and Flow; with ancestral and deterministic steps."""
    ddpm, flow = DDPM.linear(levels), Flow()
    return [(ddpm, "RePaint, DDPM", None), (ddpm, "RePaint, DDPM, DDIM steps", ddpm.ddim_step),
            (flow, "RePaint, Flow", None), (flow, "RePaint, Flow, Euler steps", flow.euler_step)]


def solve(puzzle, denoise, process, step, path, samples, seed):
    """Solutions by RePaint, `samples` of each situation: (K, samples, C, H, W)."""
    known = puzzle.known.repeat_interleave(samples, 0)
    states = repaint(process, denoise, known, puzzle.edit_mask, path, seeded(seed), step)
    return last(states).unflatten(0, (len(puzzle.known), samples))


def distance(puzzle, solutions, seed, draws=100):
    """The mean distance to the truth over situations, with its 95 % interval: the bootstrap over solutions.

    solutions: (K, samples, C, H, W).  Samples drawn again are further from the truth than the samples are,
    since noise comes twice; the mean of that excess is taken off.
    """
    truth, generator = puzzle.truth(), seeded(seed)

    def mean_gap(pick):
        gaps = [puzzle.gap(samples[pick], world) for samples, world in zip(solutions, truth)]
        return sum(gaps) / len(gaps)

    n = solutions.shape[1]
    value = mean_gap(slice(None))
    again = torch.tensor([mean_gap(torch.randint(n, (n,), generator=generator)) for _ in range(draws)])
    low, high = (value + (again - again.mean()).quantile(q).item() for q in (0.025, 0.975))
    return Interval(value, max(low, 0.0), high)


def counted(denoise):
    """(denoise, calls): the same callable, and a list whose one number grows by 1 with each call of it."""
    calls = [0]

    def counting(x_t, t):
        calls[0] += 1
        return denoise(x_t, t)

    return counting, calls
