"""Rotary positions: queries and keys turn with their place, so that scores know how far apart two are."""

import torch

THETA = 100


def text_positions(length):
    """A text's tokens all stand at (0, 0, 0), where nothing turns: (length, 3) float64. So does FLUX.1."""
    return torch.zeros(length, 3, dtype=torch.float64)


def picture_positions(i, height, width):
    """(i, h, w) of each of height x width tokens, row by row: (height width, 3) float64.

    i = 0: the picture that is being made; 1, 2, ...: those it is made from. FLUX.1 Kontext (2506.15742).
    """
    axes = torch.tensor([i]), torch.arange(height), torch.arange(width)
    return torch.cartesian_prod(*axes).double()


def rotary_table(positions, channels):
    """The cosines and sines that turn a head's pairs of channels, for each token.

    angle = position THETA^(-2 j / n), j = 0 .. n / 2 - 1, n = channels[axis]: each axis turns channels of its
    own. RoFormer (2104.09864) for several axes. Departure: THETA is 100, not 10,000, which is made for
    thousands of positions: the sides here have 8 to 64, and most pairs would never turn.
    positions: (N, axes), channels: an even number an axis.  Returns (2, N, sum(channels) / 2) float64.
    """
    angles = []
    for position, n in zip(positions.unbind(1), channels, strict=True):
        frequency = THETA ** (-torch.arange(0, n, 2, dtype=torch.float64) / n)     # (n / 2,)
        angles.append(position[:, None] * frequency)                               # (N, n / 2)
    angle = torch.cat(angles, dim=1)
    return torch.stack([angle.cos(), angle.sin()])


def rotate(x, table):
    """Turn each pair of channels, one from the first half and one from the second, by its token's angle.

    (a, b) -> (a cos - b sin, a sin + b cos).  x: (B, heads, N, D), table: (2, N, D / 2) -> (B, heads, N, D).
    """
    cos, sin = table.to(x.dtype)
    a, b = x.chunk(2, dim=3)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)
