"""Start from the picture itself: SDEdit noises it part of the way, DDIM inversion finds its own noise.

No mask, no training: what is kept is what the start still holds. Meng et al. (2108.01073); Song et al.
(2010.02502), section 4.3.
"""

from itertools import pairwise

import torch

from minidiff.control import register
from minidiff.process.sample import State, normal_like, sample


def sdedit(process, denoise, image, times, strength, generator, step=None):
    """Noise the picture up to a share `strength` of the levels, and walk down from there: SDEdit, section 3.

    Little strength keeps the picture and changes little; full strength forgets it. Yields every State.
    image: (B, C, H, W).  times: as from process.times; the last round(strength n) of its n steps are walked.
    0 < strength <= 1.  denoise, generator, step: as in `sample`.  Raises ValueError for other strengths.
    """
    rest = restart_times(times, strength)
    x = process.corrupt(image, rest[0], normal_like(image, generator))
    return sample(process, denoise, x, rest, generator, step)


def restart_times(times, strength):
    """The levels still to be walked from `strength` of the way up: the last round(strength n) steps of n."""
    steps = round(strength * (len(times) - 1)) if 0 < strength <= 1 else 0
    if steps < 1:
        found = f"strength = {strength}, {len(times) - 1} steps"
        raise ValueError(f"{found}: a share of the steps, at most 1 and enough for one of them, expected")
    return times[-steps - 1 :]


def invert_step(process, x_t, eps_hat, t, t_up):
    """One deterministic step *up*: the DDIM step, eq. 13 of 2010.02502, from a level to a noisier one.

    r x_t + (s_up - r s_t) eps_hat,  r = a_up / a_t.
    x_t, eps_hat: (B, C, H, W).  t < t_up, t = 0 allowed.  It takes eps_hat at t for that at t_up: that is
    what makes the round trip inexact, by an error of order 1 in the step.
    """
    a_t, s_t = process.signal_noise(t, x_t)
    a_up, s_up = process.signal_noise(t_up, x_t)
    r = a_up / a_t
    return r * x_t + (s_up - r * s_t) * eps_hat


@torch.no_grad()
def ddim_invert(process, denoise, image, times):
    """Walk a picture up to the noise that the deterministic sampler would draw it from, yielding every State.

    image: (B, C, H, W).  times: descending, as for sampling; they are walked backwards.  denoise: as in
    `sample`, best without guidance, which this walk cannot undo. At level 0 there is no noise to tell of, and
    networks are not trained there: the first step asks at the level just above, in place of 0.
    """
    x = image
    for t, t_up in pairwise(reversed(times)):
        asked = t if t > 0 else t_up
        x0_hat = process.predict_x0(x, denoise(x, asked), asked)
        a, s = process.signal_noise(asked, x)
        eps_hat = (x - a * x0_hat) / s
        x = invert_step(process, x, eps_hat, t, t_up)
        yield State(t_up, x, x0_hat)


def deterministic_step(process):
    """The step without noise: DDIM's for DDPM, Euler's for a flow, of which DDIM's is the same thing."""
    return getattr(process, "ddim_step", None) or process.euler_step


@register("edit", "sdedit")
def sdedit_edit(model, image, edit_mask, prompt, *, generator, steps=50, strength=0.6, scale=3.0):
    """Noise image, and walk down to a picture of the prompt, which says what the result shows.

    image: (B, 3, H, W).  edit_mask: not looked at.  strength: 0..1, how far up to start.  scale: guidance.
    """
    denoise = model.denoiser([prompt] * len(image), scale)
    return sdedit(model.process, denoise, image, model.process.times(steps), strength, generator)


@register("edit", "invert")
def invert_edit(model, image, edit_mask, prompt, *, generator, steps=50, source="", scale=2.0):
    """Find the noise that image comes from under the caption `source`, and walk down from it to the prompt.

    image: (B, 3, H, W).  edit_mask: not looked at.  source: what image shows.  scale: guidance, going down.
    """
    up, down = model.denoiser([source] * len(image), 1.0), model.denoiser([prompt] * len(image), scale)
    times, x = model.process.times(steps), image
    for state in ddim_invert(model.process, up, image, times):
        x = state.x
        yield state
    yield from sample(model.process, down, x, times, generator, deterministic_step(model.process))
