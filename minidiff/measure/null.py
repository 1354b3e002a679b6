"""Editors that everybody must beat, or that nobody can: a measure that ranks them wrongly is wrong.

identity returns the source, oracle the exact render, re-roll a fresh scene: the benchmark has those pictures at hand.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.measure.quality import check_pictures


def harmonic_fill(image: Tensor, edit_mask: Tensor, tolerance: float = 1e-6) -> Tensor:
    """Fill the hole as smoothly as possible: Laplace's equation inside, the kept pixels as boundary, by conjugate gradients.

    Each filled pixel is the mean of its neighbours inside the picture.  image: (B, C, H, W).  edit_mask: bool (B or 1, 1, H, W),
    True = to fill.  tolerance: of the residual, relative. Kept pixels come back as they were; a hole without an edge is 0 (grey).
    """
    check_pictures(image, image, edit_mask)
    hole = edit_mask.expand(len(image), -1, -1, -1)
    known = torch.where(hole, 0, image.double())
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
    return torch.where(hole, x.to(image), image)


def laplacian(x: Tensor) -> Tensor:
    """For each pixel the sum of its differences to the neighbours that lie inside the picture: (B, C, H, W)."""
    down, across = F.pad(x.diff(dim=2), (0, 0, 1, 1)), F.pad(x.diff(dim=3), (1, 1))
    return -down.diff(dim=2) - across.diff(dim=3)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """The inner product of each channel of each picture: (B, C, 1, 1)."""
    return (a * b).sum((2, 3), keepdim=True)
