"""Antialiased shapes as coverage: for every pixel the share of it, 0..1, that lies inside.

Axis-aligned boxes and bitmaps are exact (the overlap of two intervals, once across and once down); round and
slanted shapes come from signed distance functions, cut off over the width of one pixel.
"""

import torch
from torch import Tensor


class Canvas:
    """A grid of pixels: x (n|1, 1, 1, W) and y (n|1, 1, H, 1) are pixel centres, `pixel` is one pixel's side.

    All arguments of the shapes are numbers or (n, 1, 1, 1) tensors in the same unit; every result is
    (n|1, 1, H, W) or, where a shape does not depend on one direction, smaller and ready to broadcast.
    """

    def __init__(self, x: Tensor, y: Tensor, pixel: float):
        self.x, self.y, self.pixel = x, y, pixel

    @classmethod
    def of_size(cls, size: int, border=(0, 0, 0, 0), device=None) -> "Canvas":
        """The unit square at size x size pixels, widened by (left, right, top, bottom) pixels."""
        left, right, top, bottom = border
        x = (torch.arange(-left, size + right, device=device) + 0.5) / size
        y = (torch.arange(-top, size + bottom, device=device) + 0.5) / size
        return cls(x.view(1, 1, 1, -1), y.view(1, 1, -1, 1), 1 / size)

    def inside(self, distance):
        """Coverage from a signed distance, negative inside."""
        return (0.5 - distance / self.pixel).clamp_(0, 1)

    def span_x(self, left, right):
        """Exact share of each pixel's width between left and right."""
        half = self.pixel / 2
        last = (self.x + half).minimum(_tensor(right, self.x))
        first = (self.x - half).maximum(_tensor(left, self.x))
        return (last - first).clamp(min=0) / self.pixel

    def span_y(self, top, bottom):
        """Exact share of each pixel's height between top and bottom."""
        half = self.pixel / 2
        last = (self.y + half).minimum(_tensor(bottom, self.y))
        first = (self.y - half).maximum(_tensor(top, self.y))
        return (last - first).clamp(min=0) / self.pixel

    def box(self, left, right, top, bottom):
        """An axis-aligned box, exact."""
        return self.span_x(left, right) * self.span_y(top, bottom)

    def circle(self, x, y, radius):
        """A disc."""
        return self.inside(torch.hypot(self.x - x, self.y - y) - radius)

    def ellipse(self, x, y, wide, high):
        """An ellipse with half axes wide and high; its distance is exact on the edge and good near it."""
        across, down = (self.x - x) / wide, (self.y - y) / high
        length = torch.hypot(across, down)
        slope = torch.hypot(across / wide, down / high) / length.clamp(min=1e-6)
        return self.inside((length - 1) / slope.clamp(min=1e-6))

    def rounded(self, left, right, top, bottom, radius):
        """A box with round corners."""
        across = (self.x - (left + right) / 2).abs() - (right - left) / 2 + radius
        down = (self.y - (top + bottom) / 2).abs() - (bottom - top) / 2 + radius
        outside = torch.hypot(across.clamp(min=0), down.clamp(min=0))
        return self.inside(outside + torch.maximum(across, down).clamp(max=0) - radius)

    def wedge(self, x, top, bottom, wide_top, wide_bottom):
        """A symmetric trapezium round x of half widths wide_top and wide_bottom: 0 makes a triangle."""
        high = bottom - top
        lean = (wide_bottom - wide_top) / high
        half = wide_top + lean * (self.y - top)
        side = ((self.x - x).abs() - half) / (1 + lean**2) ** 0.5
        return self.inside(side) * self.span_y(top, bottom)

    def stroke(self, x0, y0, x1, y1, radius):
        """A line with round ends from (x0, y0) to (x1, y1), `radius` half thick."""
        along_x, along_y = x1 - x0, y1 - y0
        share = ((self.x - x0) * along_x + (self.y - y0) * along_y) / (along_x**2 + along_y**2)
        share = share.clamp_(0, 1)
        return self.inside(torch.hypot(self.x - x0 - share * along_x, self.y - y0 - share * along_y) - radius)

    def stripes_x(self, period, width, phase=0.0):
        """Upright stripes of a width, repeated; antialiased by their distance."""
        return self.inside(_to_stripe(self.x, period, width, phase))

    def stripes_y(self, period, width, phase=0.0):
        """Level stripes of a width, repeated."""
        return self.inside(_to_stripe(self.y, period, width, phase))

    def stripes_diagonal(self, period, width):
        """Stripes that fall from the right to the left at 45 degrees, `period` apart as counted along x."""
        return self.inside(_to_stripe(self.x + self.y, period, width, 0.0) / 2**0.5)

    def bitmap(self, bits, left, top, cell):
        """Pictures of dots (n, h, w), each `cell` wide, exact: down-cover @ bits @ across-cover."""
        across = torch.arange(bits.shape[2], device=bits.device).view(1, 1, -1, 1) * cell
        down = torch.arange(bits.shape[1], device=bits.device).view(1, -1, 1, 1) * cell
        across_cover = self.span_x(left + across, left + across + cell)                    # (n, 1, w, W)
        down_cover = self.span_y(top + down, top + down + cell)                            # (n, h, H, 1)
        with torch.autocast(bits.device.type, enabled=False):    # exact, also while a network trains in bf16
            return (down_cover[..., 0].mT @ bits.to(across_cover) @ across_cover[:, 0])[:, None]


def _to_stripe(position, period, width, phase):
    nearest = (position - phase) - period * torch.round((position - phase) / period)
    return nearest.abs() - width / 2


def _tensor(value, like):
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=like.dtype, device=like.device)
