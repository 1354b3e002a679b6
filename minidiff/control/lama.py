"""LaMa: fill a hole in one pass. No noise, no levels, no walk. Suvorov et al., 2109.07161.

It stands beside the diffusion editors for comparison: it is fast, and it knows one answer. Where many things
could stand in the hole, a network that was asked for the nearest one to all of them paints their median.
"""

import torch

from minidiff.control import register
from minidiff.process.sample import State


def lama_step(image, filled, edit_mask):
    """The only step: the network's picture in the hole, the known one around it.

    image, filled: (B, C, H, W).  edit_mask: bool (B or 1, 1, H, W), True = may change.
    """
    return torch.where(edit_mask, filled, image)


def lama(fill, image, edit_mask):
    """Fill the hole, yielding the one State: level 0, and as x0_hat the network's own picture of the whole.

    fill: any callable (image, edit_mask) -> (B, C, H, W).  image, edit_mask: as in lama_step.
    """
    filled = fill(image, edit_mask)
    yield State(0, lama_step(image, filled, edit_mask), filled)


@register("inpaint", "lama", weights="town-lama", kind="one-pass network")
def lama_inpaint(model, image, edit_mask, prompt, *, generator):
    """Fill edit_mask in image by one pass of LaMa, yielding its one State.

    image: (B, C, H, W).  generator: not asked, as nothing is drawn.  Raises ValueError for a prompt.
    """
    if prompt:
        raise ValueError(f'prompt "{prompt}": none expected, LaMa reads no text')
    return lama(model.fill, image, edit_mask)
