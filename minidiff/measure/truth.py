"""Did the edit succeed? The truth is known: every legal answer painted and compared with the output."""

import torch
from torch import Tensor

from minidiff.measure.quality import CAP, check_pictures, psnr

ENOUGH = 35.0                                                  # dB of preservation, where the codec allows it


def success(output: Tensor, answers: Tensor, region: Tensor) -> Tensor:
    """Inside the true region, is the output nearer to the requested render than to every other legal answer?

    output: (B, 3, H, W).  answers: (B, K, 3, H, W): the requested render first, then the others (unchanged,
    other colours, object gone, ...), rows of nan for fewer than K.  region: bool (B or 1, 1, H, W), True =
    truly changes.  Returns bool (B,); a tie is no success. Raises ValueError for shapes that do not fit.
    """
    if answers.ndim != 5 or answers.shape[:1] + answers.shape[2:] != output.shape or answers.shape[1] < 2:
        found = f"answers are {tuple(answers.shape)}, output is {tuple(output.shape)}"
        raise ValueError(f"{found}: (B, K, C, H, W) with K >= 2 expected")
    check_pictures(output, answers[:, 0], region)
    difference = torch.where(region[:, None], output[:, None] - answers, 0)              # (B, K, C, H, W)
    distance = difference.square().sum((2, 3, 4)).nan_to_num(torch.inf)                  # (B, K)
    return distance[:, 0] < distance[:, 1:].amin(1)


def truth_psnr(output: Tensor, truth: Tensor, region: Tensor) -> Tensor:
    """PSNR against the true result, inside the true region: (B,) dB."""
    return psnr(output, truth, region)


def strict_success(succeeded: Tensor, preserved: Tensor, floor: Tensor | float = CAP) -> Tensor:
    """Local edits: success, and preservation >= the smaller of 35 dB and the codec's floor - 1 dB.

    succeeded: bool (B,).  preserved: (B,) dB, from `preservation`.  floor: dB that the codec's round trip
    keeps, one number or (B,); pixels have no codec, so 60.  Returns bool (B,).
    """
    floor = torch.as_tensor(floor, dtype=preserved.dtype, device=preserved.device)
    return succeeded & (preserved >= (floor - 1).clamp(max=ENOUGH))


def strict_success_global(succeeded: Tensor, survived: Tensor) -> Tensor:
    """Global edits: success, and every attribute that can be seen survives.

    succeeded: bool (B,).  survived: (B, K), from `survival`.  Returns bool (B,).
    """
    return succeeded & (survived != 0).all(1)
