"""How near two pictures are: PSNR, over all pixels or some of them, and SSIM."""

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0                                                     # pictures run from -1 to 1
CAP = 60.0                                                      # dB: nearer than 8-bit pixels can tell


def psnr(output: Tensor, truth: Tensor, where: Tensor | None = None, cap: float = CAP) -> Tensor:
    """Peak signal-to-noise ratio of each picture, at most `cap` dB: 10 log10(range^2 / mean squared error).

    output, truth: (B, 3, H, W) in [-1, 1].  where: bool (B or 1, 1, H, W), the pixels that count (None: all).
    Returns (B,), nan where no pixel counts. Raises ValueError for pictures and masks that do not fit.
    """
    check_pictures(output, truth, where)
    squared = (output - truth).square().mean(1, keepdim=True)                            # (B, 1, H, W)
    if where is None:
        error = squared.mean((1, 2, 3))
    else:
        where = where.expand_as(squared)
        error = torch.where(where, squared, 0).sum((1, 2, 3)) / where.sum((1, 2, 3))
    return (10 * torch.log10(RANGE**2 / error)).clamp(max=cap)


def ssim(output: Tensor, truth: Tensor) -> Tensor:
    """Structural similarity of each picture, 1 = equal: means, variances, covariance in 11 x 11 windows.

    (2 m_a m_b + c1)(2 s_ab + c2) / ((m_a^2 + m_b^2 + c1)(s_a^2 + s_b^2 + c2)), c1 = (.01 range)^2 and
    c2 = (.03 range)^2. Wang et al., "Image quality assessment: from error visibility to structural
    similarity", IEEE TIP 2004. The windows are Gaussian, sigma 1.5; pictures are mirrored at borders and
    counted from black = 0: with negative means, a picture would be like its own negative.
    output, truth: (B, C, H, W) in [-1, 1], sides at least 6.  Returns (B,). Raises ValueError for others.
    """
    check_pictures(output, truth)
    if min(output.shape[2:]) < 6:
        raise ValueError(f"pictures are {tuple(output.shape[2:])}: sides of at least 6 expected")
    position = torch.arange(11, dtype=output.dtype, device=output.device) - 5
    bell = torch.exp(-(position / 1.5) ** 2 / 2)
    window = (bell / bell.sum()).outer(bell / bell.sum())[None, None]                    # (1, 1, 11, 11)

    def mean(values):
        padded = F.pad(values, (5, 5, 5, 5), mode="reflect")                         # (B, C, H + 10, W + 10)
        return F.conv2d(padded.flatten(0, 1)[:, None], window).view(values.shape)

    a, b = output + 1, truth + 1
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b, both = mean(a**2) - mean_a**2, mean(b**2) - mean_b**2, mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2
    light = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * both + c2) / (var_a + var_b + c2)
    return (light * structure).mean((1, 2, 3))


def check_pictures(a: Tensor, b: Tensor, where: Tensor | None = None):
    """Raise ValueError unless a and b are float pictures of one shape, and `where` a bool mask for them."""
    if a.ndim != 4 or a.shape != b.shape or not a.is_floating_point() or not b.is_floating_point():
        found = f"pictures are {tuple(a.shape)} {a.dtype} and {tuple(b.shape)} {b.dtype}"
        raise ValueError(f"{found}: the same float (B, C, H, W) expected")
    if where is None:
        return
    fits = where.ndim == 4 and where.shape[0] in (1, len(a)) and where.shape[1:] == (1, *a.shape[2:])
    if where.dtype != torch.bool or not fits:
        found = f"mask is {tuple(where.shape)} {where.dtype}, pictures are {tuple(a.shape)}"
        raise ValueError(f"{found}: torch.bool (B, 1, H, W), same height and width expected")
