"""Does the edge of the mask show? The step across it, against the step that the truth makes there."""

import torch
from torch import Tensor

from minidiff.measure.quality import check_pictures


def seam(output: Tensor, truth: Tensor, edit_mask: Tensor) -> Tensor:
    """Mean |step across the mask's edge in the output - the same step in the truth|, in 255ths.

    A step is the difference of two neighbouring pixels of which just one may change. A visible seam makes
    steps that the truth does not have; a blur lacks steps that it has: both count.
    output, truth: (B, C, H, W) in [-1, 1].  edit_mask: bool (B or 1, 1, H, W), True = may change, though the
    inverse has the same edge.  Returns (B,), nan where there is no edge.
    Raises ValueError for pictures and masks that do not fit.
    """
    check_pictures(output, truth, edit_mask)
    error, edit_mask = output - truth, edit_mask.expand(len(output), -1, -1, -1)
    total, count = 0, 0
    for axis in (2, 3):
        crossing = edit_mask.diff(dim=axis)                                              # of bools: xor
        step = 127.5 * error.diff(dim=axis).abs().mean(1, keepdim=True)                  # 255ths
        total = total + torch.where(crossing, step, 0).sum((1, 2, 3))
        count = count + crossing.sum((1, 2, 3))
    return total / count
