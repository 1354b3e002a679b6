"""The one loop: from noise to picture, step by step, as a generator that shows every state."""

from itertools import pairwise
from typing import NamedTuple

import torch


class State(NamedTuple):
    """Where a sampling is: level t, x at that level, and the clean picture the network last saw in it.

    x, x0_hat: (B, C, H, W).
    """

    t: float
    x: torch.Tensor
    x0_hat: torch.Tensor


@torch.no_grad()
def sample(process, denoise, x, times, generator, step=None):
    """Walk x down the levels `times`, yielding a State after every step; the last one holds the picture.

    denoise: any callable (x_t, t) -> prediction.  x: (B, C, H, W), at level times[0].  times: descending.
    generator: a CPU torch.Generator; noise is drawn on the CPU, so that a seed means the same noise anywhere.
    step: any (x_t, prediction, t, t_next, noise=noise) -> x; process.step, the ancestral one, unless given.
    """
    step = step or process.step
    for t, t_next in pairwise(times):
        prediction = denoise(x, t)
        x0_hat = process.predict_x0(x, prediction, t)
        x = step(x, prediction, t, t_next, noise=normal_like(x, generator))
        yield State(t_next, x, x0_hat)


def normal_like(x, generator):
    """Standard normal noise of x's shape and dtype, drawn on the CPU, then moved to x's device."""
    return torch.randn(x.shape, dtype=x.dtype, generator=generator).to(x.device)


def heun(flow, denoise):
    """Heun's step for the loop: it asks denoise once more, where Euler's step lands.

    The last step is Euler's, as in 2206.00364, algorithm 1: networks are not trained at level 0.
    """

    def step(x_t, v, t, t_next, noise=None):
        x_next = flow.euler_step(x_t, v, t, t_next)
        return flow.heun_step(x_t, v, denoise(x_next, t_next), t, t_next) if t_next > 0 else x_next

    return step


def clamp_x0(process, x_t, prediction, t, limit=1.0):
    """The nearest prediction whose x0_hat stays within -limit..limit: pixels cannot be whiter than white.

    x_t, prediction: (B, C, H, W).  t > 0.
    """
    x0_hat = process.predict_x0(x_t, prediction, t).clamp(-limit, limit)
    return process.prediction(x_t, x0_hat, t)


def clamped(process, denoise, limit=1.0):
    """Wrap denoise so that its x0_hat stays within -limit..limit."""
    return lambda x_t, t: clamp_x0(process, x_t, denoise(x_t, t), t, limit)
