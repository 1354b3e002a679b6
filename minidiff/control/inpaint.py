"""GLIDE inpainting: fill a hole with a network that was trained on holes.

The network sees the picture with its hole emptied, and where the hole is, as more input channels. So it knows
at every level what it has to fit to, and one walk down is enough. Its guess of the kept pixels is good, but
no more than a guess: every step pins them to what they are. Nichol et al., 2112.10741, section 4.3.
"""

from itertools import pairwise

import torch

from minidiff.control import register
from minidiff.control.masks import check_mask
from minidiff.process.sample import State, normal_like

CHANNELS = 4                                                    # of hole_channels


def hole_channels(image, edit_mask):
    """What the network sees beside x_t: the picture, 0 in the hole, and the mask, 1 in the hole.

    image: (B, 3, H, W).  edit_mask: bool (B or 1, 1, H, W), True = may change.  Returns (B, 4, H, W).
    """
    check_mask(image, edit_mask)
    edit_mask = edit_mask.expand(len(image), -1, -1, -1)
    return torch.cat([image.where(~edit_mask, 0), edit_mask.to(image.dtype)], dim=1)


def pin_x0(process, x_t, prediction, t, known, edit_mask):
    """The prediction whose x0_hat is the known picture outside the hole, and what it was inside.

    x0_hat <- known where kept. Before the posterior mean, so that x_t itself stays a fair sample of its
    level, kept pixels included; after the last step they are exact, to rounding.
    x_t, prediction, known: (B, C, H, W).  edit_mask: bool (B or 1, 1, H, W), True = may change.  t > 0.
    """
    return torch.where(edit_mask, prediction, process.prediction(x_t, known, t))


def inpaint_step(process, x_t, prediction, t, t_next, known, edit_mask, noise, step=None):
    """One step down: pin what the prediction says of the kept pixels, then step as ever.

    Arguments as for pin_x0; t_next < t, noise (B, C, H, W), step: as in `sample`.
    """
    pinned = pin_x0(process, x_t, prediction, t, known, edit_mask)
    return (step or process.step)(x_t, pinned, t, t_next, noise=noise)


@torch.no_grad()
def inpaint(process, denoise, known, edit_mask, times, generator, step=None):
    """Walk from pure noise down to a filled picture, yielding a State after every step.

    denoise: (x_t, t) -> prediction, by a network that sees hole_channels, or by any other: then the new will
    hardly fit the kept.  known: (B, C, H, W); only its kept pixels matter.
    edit_mask: bool (B or 1, 1, H, W), True = may change.  times, generator, step: as in `sample`.
    """
    check_mask(known, edit_mask)
    x = normal_like(known, generator)
    for t, t_next in pairwise(times):
        prediction = denoise(x, t)
        x0_hat = torch.where(edit_mask, process.predict_x0(x, prediction, t), known)
        noise = normal_like(known, generator)
        x = inpaint_step(process, x, prediction, t, t_next, known, edit_mask, noise, step)
        yield State(t_next, x, x0_hat)


@register("inpaint", "glide", weights="town-inpaint")
def glide_inpaint(model, image, edit_mask, prompt, *, generator, steps=50, scale=2.0):
    """Fill edit_mask in image, yielding every State; the authors' notebook has 100 steps and scale 5.

    image: (B, C, H, W).  prompt: what the whole picture shows; "" = anything.  scale: guidance, 1 = off.
    """
    denoise = model.denoiser([prompt] * len(image), scale, hole_channels(image, edit_mask))
    return inpaint(model.process, denoise, image, edit_mask, model.process.times(steps), generator)
