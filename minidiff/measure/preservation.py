"""What else changed? For local edits by pixels outside the true region, for global ones by attributes nobody asked about."""

from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.measure.quality import check_pictures, psnr

NOTICEABLE = 4                                                  # in 255ths: less than the eye finds in a flat surface


class Preservation(NamedTuple):
    """Each (B,). psnr: dB outside the region, at most 60.  max_diff: 255ths.  changed: share of the kept pixels that
    changed by more than 4/255 in some channel.  pie_psnr: as PIE-Bench has it, the mean taken over *all* pixels, of which
    the region's count as equal; it flatters an edit, the more so the larger its region."""

    psnr: Tensor
    max_diff: Tensor
    changed: Tensor
    pie_psnr: Tensor


def preservation(source: Tensor, output: Tensor, region: Tensor) -> Preservation:
    """Compare the output with the source outside `region`, bool (B or 1, 1, H, W), True = may change.

    source, output: (B, 3, H, W) in [-1, 1]. With nothing outside the region there is nothing to preserve: 60 dB, 0, 0.
    """
    check_pictures(source, output, region)
    keep = ~region.expand(len(source), -1, -1, -1)                                           # (B, 1, H, W)
    difference = 127.5 * (output - source).abs().amax(1, keepdim=True) * keep                # 255ths
    kept = keep.sum((1, 2, 3)).clamp(min=1)
    return Preservation(
        psnr=psnr(output, source, keep).nan_to_num(60.0),
        max_diff=difference.amax((1, 2, 3)),
        changed=(difference > NOTICEABLE).sum((1, 2, 3)) / kept,
        pie_psnr=psnr(output * keep, source * keep))


def survival(output: Tensor, requested: Tensor, others: Tensor) -> Tensor:
    """Global edits: which attributes survive? bool (B, K), the output being nearer to the requested render than to others[:, k].

    output, requested: (B, 3, H, W).  others: (B, K, 3, H, W), the requested render with attribute k changed.
    The mean over K is the share of identity and geometry that the edit left alone.
    """
    to_requested = (output - requested).square().mean((1, 2, 3))                             # (B,)
    to_others = (output[:, None] - others).square().mean((2, 3, 4))                          # (B, K)
    return to_requested[:, None] < to_others
