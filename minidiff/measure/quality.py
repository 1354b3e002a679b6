"""How near two pictures are: PSNR, over all pixels or some of them, and SSIM."""

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0                                                     # pictures run from -1 to 1


def psnr(output: Tensor, truth: Tensor, where: Tensor | None = None, cap: float = 60.0) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, at most `cap`: 10 log10(range^2 / mean squared error).

    output, truth: (B, 3, H, W) in [-1, 1].  where: bool (B or 1, 1, H, W), the pixels that count (None: all).
    Returns (B,), nan where no pixel counts. Raises ValueError for shapes that do not fit.
    """
    check_pictures(output, truth, where)
    squared = (output - truth).square().mean(1, keepdim=True)                                # (B, 1, H, W)
    if where is None:
        error = squared.mean((1, 2, 3))
    else:
        where = where.expand_as(squared)
        error = torch.where(where, squared, 0).sum((1, 2, 3)) / where.sum((1, 2, 3))
    return (10 * torch.log10(RANGE**2 / error)).clamp(max=cap)


def ssim(output: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture, 1 = equal: means, variances and covariance in Gaussian windows of 11 x 11.

    (2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a^2 + s_b^2 + c2)),  c1 = (.01 range)^2, c2 = (.03 range)^2.
    Wang et al., "Image quality assessment", IEEE TIP 2004, eq. 13, sigma 1.5, pictures mirrored at their borders.
    output, truth: (B, C, H, W) in [-1, 1], sides at least 6.  Returns (B,).
    """
    check_pictures(output, truth)
    if min(output.shape[2:]) < 6:
        raise ValueError(f"pictures are {tuple(output.shape[2:])}: sides of at least 6 expected, half the window of SSIM")
    position = torch.arange(11, dtype=output.dtype, device=output.device) - 5
    bell = torch.exp(-(position / 1.5) ** 2 / 2)
    window = (bell / bell.sum()).outer(bell / bell.sum())[None, None]                        # (1, 1, 11, 11)

    def mean(values):
        padded = F.pad(values, (5, 5, 5, 5), mode="reflect").flatten(0, 1)[:, None]          # (B C, 1, H + 10, W + 10)
        return F.conv2d(padded, window).view(values.shape)

    mean_a, mean_b = mean(output), mean(truth)
    var_a, var_b = mean(output**2) - mean_a**2, mean(truth**2) - mean_b**2
    both = mean(output * truth) - mean_a * mean_b
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    likeness = (2 * mean_a * mean_b + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return likeness.mean((1, 2, 3))


def check_pictures(a: Tensor, b: Tensor, where: Tensor | None = None):
    """Raise ValueError unless a and b are pictures of one shape, and where a bool mask for them."""
    if a.ndim != 4 or a.shape != b.shape:
        raise ValueError(f"pictures are {tuple(a.shape)} and {tuple(b.shape)}: the same (B, C, H, W) expected")
    if where is not None:
        fits = where.ndim == 4 and where.shape[0] in (1, len(a)) and where.shape[1] == 1 and where.shape[2:] == a.shape[2:]
        if where.dtype != torch.bool or not fits:
            found = f"mask is {tuple(where.shape)} {where.dtype}, pictures are {tuple(a.shape)}"
            raise ValueError(f"{found}: torch.bool (B, 1, H, W), same height and width expected")
