"""What else changed? In local edits, pixels outside the region; in global ones, attributes."""

from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.measure.quality import CAP, check_pictures, psnr

NOTICEABLE = 4                                                  # 255ths; less than this the eye hardly finds
ROUNDING = 1e-3                                                 # 255ths, which float32 adds to whole ones


class Preservation(NamedTuple):
    """What happened to the kept pixels of each picture, four times (B,).

    psnr: dB, at most 60.  max_diff: the largest difference in 255ths.  changed: the share of kept pixels
    that changed by more than 4/255 in some channel.  pie_psnr: as PIE-Bench has it, the mean taken over *all*
    pixels, the region's counting as equal; it flatters an edit, the more so the larger its region.
    """

    psnr: Tensor
    max_diff: Tensor
    changed: Tensor
    pie_psnr: Tensor


def preservation(source: Tensor, output: Tensor, region: Tensor) -> Preservation:
    """Compare the output with the source outside `region`, bool (B or 1, 1, H, W), True = may change.

    source, output: (B, 3, H, W) in [-1, 1]. With nothing outside the region nothing can be lost: 60 dB, 0, 0.
    Raises ValueError for pictures and masks that do not fit.
    """
    check_pictures(source, output, region)
    keep = ~region.expand(len(source), -1, -1, -1)                                       # (B, 1, H, W)
    difference = 127.5 * (output - source).abs().amax(1, keepdim=True)
    difference = torch.where(keep, difference, 0)                                   # (B, 1, H, W), 255ths
    kept = keep.sum((1, 2, 3)).clamp(min=1)
    return Preservation(
        psnr=torch.where(keep.flatten(1).any(1), psnr(output, source, keep), CAP),
        max_diff=difference.amax((1, 2, 3)),
        changed=(difference > NOTICEABLE + ROUNDING).sum((1, 2, 3)) / kept,
        pie_psnr=psnr(torch.where(keep, output, 0), torch.where(keep, source, 0)))


def survival(output: Tensor, requested: Tensor, others: Tensor) -> Tensor:
    """Attribute k survives a global edit if the output is nearer to the request than to others[:, k].

    output, requested: (B, 3, H, W).  others: (B, K, 3, H, W), the requested render with attribute k changed;
    rows of nan stand for fewer than K attributes.  Returns (B, K): 1 = survived, 0 = lost, nan = cannot be
    seen, both renders being equal to the last of 8 bits. The nanmean over K is the share of identity and
    geometry that the edit left alone. Raises ValueError for shapes that do not fit.
    """
    check_pictures(output, requested)
    if others.ndim != 5 or others.shape[:1] + others.shape[2:] != output.shape:
        found = f"others are {tuple(others.shape)}, output is {tuple(output.shape)}"
        raise ValueError(f"{found}: (B, K, C, H, W) of the same B, C, H, W expected")
    to_requested = (output - requested).square().sum((1, 2, 3))                          # (B,)
    to_others = (output[:, None] - others).square().sum((2, 3, 4))                       # (B, K)
    visible = (127.5 * (others - requested[:, None]).abs() > 1).flatten(2).any(2)        # nan is not > 1
    return torch.where(visible, (to_requested[:, None] < to_others).to(output.dtype), torch.nan)
