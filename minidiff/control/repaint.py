"""RePaint: fill a hole with a network that never heard of holes. Lugmayr et al., 2201.09865.

At every level, the kept pixels are the noised truth, and only the others come from the network. The network
fits the two together a little at each step, but a step that has gone by cannot be mended. So the walk goes
back: it climbs a few levels, which forgets a little, and comes down again to agree better: resampling.
"""

from itertools import pairwise

import torch

from minidiff.control import register
from minidiff.control.masks import check_mask
from minidiff.process.sample import State, normal_like


def repaint_path(times, jump=10, visits=10):
    """The staircase: down `times`, but from every jump-th level up and down jump levels, visits - 1 times.

    times: n + 1 descending levels, as from process.times.  jump < n.  visits >= 1; 1 = no climbs.
    Returns levels, each a neighbour in `times` of the one before. The landings are the levels 1, 1 + jump,
    1 + 2 jump, ... above data that have room for a climb, as in the authors' code, whose k is k + 1 here.
    """
    steps = len(times) - 1
    if visits < 1 or jump < 1 or (visits > 1 and jump >= steps):
        found = f"jump = {jump}, visits = {visits}, {steps} steps"
        raise ValueError(f"{found}: visits >= 1, and jump >= 1 and below the steps expected")
    landings = range(1, steps - jump + 1, jump)
    heights = []
    for height in range(steps, -1, -1):
        heights.append(height)
        if height in landings:
            up, down = range(height + 1, height + jump + 1), range(height + jump - 1, height - 1, -1)
            heights += [*up, *down] * (visits - 1)
    return [times[steps - height] for height in heights]


def repaint_step(process, x_t, prediction, t, t_next, known, edit_mask, noise, step=None):
    """One step down: denoise inside the mask, put the noised truth outside it. RePaint, eq. 8, algorithm 1.

    Both halves land on the *same* level t_next; the paper prints level t for the truth, and no root in
    s = sqrt(1 - alpha_bar). One noise serves both, since each pixel uses it once. At t_next = 0 it is exact.
    x_t, prediction, known, noise: (B, C, H, W).  edit_mask: bool (B or 1, 1, H, W), True = may change.
    step: as in `sample`.
    """
    painted = (step or process.step)(x_t, prediction, t, t_next, noise=noise)
    truth = process.corrupt(known, t_next, noise)
    return torch.where(edit_mask, painted, truth)


@torch.no_grad()
def repaint(process, denoise, known, edit_mask, path, generator, step=None):
    """Walk the path from pure noise, yielding a State after every step; the last one holds the picture.

    denoise: any callable (x_t, t) -> prediction.  known: (B, C, H, W); only its kept pixels matter.
    edit_mask: bool (B or 1, 1, H, W), True = may change.  path: from repaint_path.
    generator, step: as in `sample`.  After a climb, x0_hat is still what the network last saw.
    """
    check_mask(known, edit_mask)
    x = normal_like(known, generator)
    for t, t_next in pairwise(path):
        noise = normal_like(known, generator)
        if t_next > t:                                             # climb: forget a little, to agree better
            x = process.renoise(x, t, t_next, noise)
        else:
            prediction = denoise(x, t)
            x0_hat = process.predict_x0(x, prediction, t)
            x = repaint_step(process, x, prediction, t, t_next, known, edit_mask, noise, step)
        yield State(t_next, x, x0_hat)


@register("inpaint", "repaint")
def repaint_inpaint(model, image, edit_mask, prompt, *, generator, steps=50, jump=5, visits=5, scale=1.0):
    """Fill edit_mask in image by RePaint, yielding every State; visits=1 is plain replacement.

    image: (B, C, H, W).  prompt: what the whole picture shows; "" = anything.  scale: guidance, 1 = off.
    """
    path = repaint_path(model.process.times(steps), jump, visits)
    denoise = model.denoiser([prompt] * len(image), scale)
    return repaint(model.process, denoise, image, edit_mask, path, generator)
