"""Paint scenes: backdrop, then the objects back to front, then the style. Batched torch, on CPU or GPU, at any size.

With opacities a_i and colours c_i (already multiplied by a_i) of the objects, and j in front of i where j stands lower in the picture,

    picture = backdrop prod_i (1 - a_i)  +  sum_i c_i prod_{j in front of i} (1 - a_j)

so nothing is sorted, and a_i prod_j (1 - a_j) is the object's mask, occlusion included.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.toytown.backdrop import paint_backdrop
from minidiff.toytown.objects import PAINTERS
from minidiff.toytown.scene import EXTENT, OBJECTS, Scenes
from minidiff.toytown.shapes import Canvas
from minidiff.toytown.styles import restyle

CHUNK_PIXELS = 128 * 64 * 64                                    # more at once gains no speed and costs memory
MARGIN = 0.05                                                   # room round an object for its shadow and a waving hand


def paint(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """Paint scenes as x0, float (n, 3, H, W) in [-1, 1], on the device of the scenes.

    size: pixels a side of the square that the scene's numbers speak of, 32 to 2048.
    border: further pixels (left, right, top, bottom) round it: the world goes on beyond the square.
    """
    return paint_with_masks(scenes, size, border)[0]


def masks(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """How much of each pixel shows each object, float (n, 5, H, W) in 0..1 in the order of OBJECTS, occlusion included."""
    return paint_with_masks(scenes, size, border)[1]


def paint_with_masks(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> tuple[Tensor, Tensor]:
    """`paint` and `masks` at the price of one."""
    if not 32 <= size <= 2048:
        raise ValueError(f"size is {size}: 32 to 2048 pixels expected")
    if size < 64:                                               # a dot of the writing is smaller than a pixel: average four
        doubled = paint_with_masks(scenes, 2 * size, [2 * edge for edge in border])
        return F.avg_pool2d(doubled[0], 2), F.avg_pool2d(doubled[1], 2)
    canvas = Canvas.of_size(size, border, scenes.season.device)
    pictures, shown = zip(*[_paint_chunk(part, canvas) for part in chunks(scenes, canvas)], strict=True)
    return torch.cat(pictures), torch.cat(shown)


def visibility(scenes: Scenes, size: int = 32) -> Tensor:
    """The share of each object's silhouette that no other object hides, (n, 5) in the order of OBJECTS; 1 where it is absent."""
    canvas = Canvas.of_size(size, device=scenes.season.device)
    shares = []
    for part in chunks(scenes, canvas):
        layers = paint_layers(part, canvas)
        whole = torch.cat([layer[:, 3:] for layer in layers.values()], 1).sum((2, 3))
        shown = torch.cat([behind_others(layer[:, 3:], name, layers, part) for name, layer in layers.items()], 1).sum((2, 3))
        shares.append(torch.where(whole > 0, shown / whole.clamp(min=1e-6), 1.0))
    return torch.cat(shares)


def chunks(scenes, canvas):
    """Yield the scenes in batches that fit the machine at this size of canvas."""
    step = max(1, CHUNK_PIXELS // (canvas.x.numel() * canvas.y.numel())) if canvas.x.device.type == "cpu" else 4096
    for start in range(0, len(scenes), step):
        yield scenes[start:start + step]


def _paint_chunk(scenes, canvas):
    picture, light = paint_backdrop(scenes.shaped(), canvas)
    layers = paint_layers(scenes, canvas, light)
    shown = [behind_others(layer, name, layers, scenes) for name, layer in layers.items()]
    for layer in layers.values():
        picture.mul_(1 - layer[:, 3:])
    picture = (picture + sum(shown))[:, :3].clamp_(0, 1)
    return restyle(picture, scenes.style, canvas) * 2 - 1, torch.cat([layer[:, 3:] for layer in shown], 1)


def paint_layers(scenes, canvas, light=None):
    """Each object alone, name -> (n, 4, H, W), colours premultiplied; without a `light` as by day."""
    light = torch.ones(len(scenes), 3, 1, 1, device=canvas.x.device) if light is None else light
    return {name: _paint_object(name, scenes, canvas, light) for name in OBJECTS}


def behind_others(layer, name, layers, scenes):
    """What remains of a layer (n, C, H, W) at the named object's depth behind all that stands in front of it."""
    for other, cover in layers.items():
        in_front = (getattr(scenes, other + "_y") > getattr(scenes, name + "_y")) & (getattr(scenes, other) == 1)
        if other != name and in_front.any():
            layer = layer * (1 - cover[:, 3:] * in_front.view(-1, 1, 1, 1))
    return layer


def _paint_object(name, scenes, canvas, light):
    """(n, 4, H, W): painted only where the object is present, in a window round it, which saves most of the work."""
    high, wide = canvas.y.shape[2], canvas.x.shape[3]
    full = torch.zeros(len(scenes), 4, high * wide + 1, device=light.device)               # one cell for all that falls outside
    present = (getattr(scenes, name) == 1).nonzero().flatten()
    if len(present):
        window, cells = _window(name, scenes[present], canvas)
        rgba = PAINTERS[name](scenes[present].shaped(), window, light[present]).rgba.flatten(2)
        full[present] = full[present].scatter_(2, cells.expand_as(rgba), rgba)
    return full[..., :-1].view(len(scenes), 4, high, wide)


def _window(name, scenes, canvas):
    """The part of the canvas round an object: a Canvas with its own x (n, 1, 1, w), y (n, 1, h, 1), and its cells (n, 1, h w)."""
    extent = [side * float(getattr(scenes, name + "_size").max()) + 2 * MARGIN for side in EXTENT[name]]
    columns, rows = (torch.arange(math.ceil(side / canvas.pixel), device=canvas.x.device) for side in extent)
    left = getattr(scenes, name + "_x") - extent[0] / 2 - canvas.x[0, 0, 0, 0]
    top = getattr(scenes, name + "_y") - extent[1] + MARGIN - canvas.y[0, 0, 0, 0]
    columns = (left / canvas.pixel).ceil().long()[:, None] + columns                       # (n, w)
    rows = (top / canvas.pixel).ceil().long()[:, None] + rows                              # (n, h)
    high, wide = canvas.y.shape[2], canvas.x.shape[3]
    x = canvas.x.flatten()[columns.clamp(0, wide - 1)][:, None, None, :]
    y = canvas.y.flatten()[rows.clamp(0, high - 1)][:, None, :, None]
    outside = ((rows < 0) | (rows >= high))[:, :, None] | ((columns < 0) | (columns >= wide))[:, None, :]
    cells = (rows[:, :, None] * wide + columns[:, None, :]).masked_fill(outside, high * wide)
    return Canvas(x, y, canvas.pixel), cells.flatten(1)[:, None]
