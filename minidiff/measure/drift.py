"""Edits in a chain: what is left of the first picture after each turn?"""

from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.measure.preservation import preservation
from minidiff.measure.quality import psnr


class Drift(NamedTuple):
    """After each turn, each (T, B).

    preserved: dB against the *first* picture, where no turn so far may have changed anything.
    max_diff: the largest difference there, in 255ths.  truth: dB of the whole picture against the true one.
    """

    preserved: Tensor
    max_diff: Tensor
    truth: Tensor


def drift(source: Tensor, outputs: Tensor, truths: Tensor, regions: Tensor) -> Drift:
    """Follow a chain of edits, in which every turn edits the output of the turn before.

    source: (B, 3, H, W).  outputs, truths: (T, B, 3, H, W), what came and what should have come each turn.
    regions: bool (T, B, 1, H, W), True = truly changes in that turn. Turns that undo others are turns, too:
    their truths are pictures that were there before, and the last one's may be the source.
    Raises ValueError for shapes that do not fit.
    """
    pictures = (len(outputs), *source.shape)
    masks = (len(outputs), len(source), 1, *source.shape[2:])
    if outputs.shape != pictures or truths.shape != pictures or regions.shape != masks:
        found = ", ".join(str(tuple(part.shape)) for part in (outputs, truths, regions))
        raise ValueError(f"outputs, truths, regions are {found}:\n{pictures}, {pictures}, {masks} expected")
    if regions.dtype != torch.bool:
        raise ValueError(f"regions are {regions.dtype}: torch.bool, True = truly changes, expected")
    touched = regions.cumsum(0) > 0                                              # so far, (T, B, 1, H, W)
    kept = [preservation(source, output, region) for output, region in zip(outputs, touched)]
    return Drift(torch.stack([turn.psnr for turn in kept]), torch.stack([turn.max_diff for turn in kept]),
                 torch.stack([psnr(output, truth) for output, truth in zip(outputs, truths)]))
