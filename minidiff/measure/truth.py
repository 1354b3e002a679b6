"""Did the edit succeed? The truth is known: every legal answer can be painted, and the output is compared with each."""

import torch
from torch import Tensor

from minidiff.measure.quality import psnr


def success(output: Tensor, answers: Tensor, region: Tensor) -> Tensor:
    """bool (B,): inside the true region, is the output nearer to the requested render than to every other legal answer?

    output: (B, 3, H, W).  answers: (B, K, 3, H, W), the requested render first, then unchanged, other colours, object gone, ...;
    rows of nan stand for fewer than K answers.  region: bool (B, 1, H, W). A tie is no success.
    """
    if answers.ndim != 5 or answers.shape[2:] != output.shape[1:] or len(answers) != len(output) or answers.shape[1] < 2:
        found = f"answers are {tuple(answers.shape)}, output is {tuple(output.shape)}"
        raise ValueError(f"{found}: (B, K, C, H, W) with K >= 2 expected")
    difference = torch.where(region[:, None], output[:, None] - answers, 0)
    distance = difference.square().sum((2, 3, 4)).nan_to_num(torch.inf)                      # (B, K)
    return distance[:, 0] < distance[:, 1:].amin(1)


def truth_psnr(output: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """PSNR against the true result, inside the true region: (B,) dB."""
    return psnr(output, truth, region)


def strict_success(succeeded: Tensor, preserved: Tensor, floor: float = 60.0) -> Tensor:
    """Success, and nothing else changed: preservation of at least the smaller of 35 dB and the codec's floor - 1 dB.

    succeeded: bool (B,).  preserved: (B,) dB, from `preservation`.  floor: dB of the codec's round trip (pixel space: 60).
    """
    return succeeded & (preserved >= min(35.0, floor - 1.0))
