"""Editors that everybody must beat, or that nobody can: a measure that ranks them wrongly is wrong.

identity returns the source, oracle the exact render, re-roll a fresh scene: who measures has those at hand.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.measure.quality import check_pictures


def harmonic_fill(image: Tensor, edit_mask: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Fill the hole as smoothly as can be: each filled pixel is the mean of its neighbours in the picture.

    That is Laplace's equation with the kept pixels as its boundary, solved by conjugate gradients on the CPU.
    image: (B, C, H, W); what stands in the hole does not matter.  edit_mask: bool (B or 1, 1, H, W), True =
    to fill.  tolerance: of the residual, relative. Kept pixels come back as they were; a hole without an edge
    becomes 0, grey. Raises ValueError for pictures and masks that do not fit.
    """
    check_pictures(image, image, edit_mask)
    hole = edit_mask.expand(len(image), -1, -1, -1).cpu()
    known = torch.where(hole, 0, image.cpu().double())                                   # MPS has no float64
    x = torch.zeros_like(known)
    residual = torch.where(hole, -laplacian(known), 0)
    direction, squared = residual, inner(residual, residual)
    goal = tolerance**2 * squared.amax()
    while squared.amax() > goal:
        bent = torch.where(hole, laplacian(direction), 0)
        length = squared / inner(direction, bent).clamp(min=1e-300)
        x = x + length * direction
        residual = residual - length * bent
        before, squared = squared, inner(residual, residual)
        direction = residual + squared / before.clamp(min=1e-300) * direction
    return torch.where(edit_mask, x.to(image), image)


def laplacian(x: Tensor) -> Tensor:
    """For each pixel the sum of its differences to its neighbours inside the picture: (B, C, H, W)."""
    down, across = F.pad(x.diff(dim=2), (0, 0, 1, 1)), F.pad(x.diff(dim=3), (1, 1))
    return -down.diff(dim=2) - across.diff(dim=3)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each channel of each picture: (B, C, 1, 1)."""
    return (a * b).sum((2, 3), keepdim=True)
