"""Paint scenes: backdrop, then the objects back to front, then the style. Batched torch, on CPU or GPU.

With opacities a_i and colours c_i (already multiplied by a_i) of the objects, and j in front of i where j
stands lower in the picture,

    picture = backdrop prod_i (1 - a_i)  +  sum_i c_i prod_{j in front of i} (1 - a_j)

so nothing is sorted, and a_i prod_j (1 - a_j) is the object's mask, occlusion included.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from minidiff.toytown.backdrop import paint_backdrop
from minidiff.toytown.objects import PAINTERS
from minidiff.toytown.scene import BACKDROP, EXTENT, LOOKS, OBJECTS, Scenes
from minidiff.toytown.shapes import Canvas
from minidiff.toytown.styles import restyle

CHUNK_PIXELS = {"cpu": 128 * 64 * 64, "gpu": 4096 * 64 * 64}    # more at once gains no speed, costs memory
MARGIN = 0.05                                                   # room for a shadow and a waving hand


def paint(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """Paint scenes as x0, float (n, 3, H, W) in [-1, 1], on the device of the scenes.

    size: pixels a side of the square that the scene's numbers speak of, 32 to 2048.
    border: further pixels (left, right, top, bottom) round it: the world goes on beyond the square.
    """
    return paint_with_masks(scenes, size, border)[0]


def paint_pairs(source: Scenes, target: Scenes, size: int = 64) -> tuple[Tensor, Tensor]:
    """`paint` of both, faster: what the pictures of a pair share is painted once."""
    pairs = paint(_side_by_side(source, target), size)
    return pairs[0::2], pairs[1::2]


def change(source: Tensor, target: Tensor, least: float = 0.0) -> Tensor:
    """The true region of an edit, bool (n, 1, H, W): where any channel differs by more than `least`."""
    return ((target - source).abs() > least).any(1, keepdim=True)


def masks(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> Tensor:
    """How much of a pixel shows each object, occlusion included: float 0..1, (n, 5, H, W) as in OBJECTS."""
    return paint_with_masks(scenes, size, border)[1]


def paint_with_masks(scenes: Scenes, size: int = 64, border=(0, 0, 0, 0)) -> tuple[Tensor, Tensor]:
    """`paint` and `masks` at the price of one."""
    check_size(size)
    if size < 64:                                               # writing is finer than a pixel: average four
        doubled = paint_with_masks(scenes, 2 * size, [2 * edge for edge in border])
        return F.avg_pool2d(doubled[0], 2), F.avg_pool2d(doubled[1], 2)
    canvas = Canvas.of_size(size, border, scenes.season.device)
    pictures, shown = zip(*[_paint_chunk(part, canvas) for part in chunks(scenes, canvas)], strict=True)
    return torch.cat(pictures), torch.cat(shown)


def check_size(size: int):
    """Raise ValueError unless the painter paints pictures of this size."""
    if not 32 <= size <= 2048:
        raise ValueError(f"size is {size}: 32 to 2048 pixels expected")


def visibility(scenes: Scenes, size: int = 32) -> Tensor:
    """The share of each object's silhouette that no other object hides, (n, 5) as in OBJECTS; 1 if absent."""
    canvas = Canvas.of_size(size, device=scenes.season.device)
    shares = []
    for part in chunks(scenes, canvas):
        layers = paint_layers(part, canvas)
        whole = torch.cat([layer[:, 3:] for layer in layers.values()], 1).sum((2, 3))
        shown = shown_covers(layers, part).sum((2, 3))
        shares.append(torch.where(whole > 0, shown / whole.clamp(min=1e-6), 1.0))
    return torch.cat(shares)


def visibility_pairs(source: Scenes, target: Scenes) -> tuple[Tensor, Tensor]:
    """`visibility` of both, faster."""
    pairs = visibility(_side_by_side(source, target))
    return pairs[0::2], pairs[1::2]


def _side_by_side(source, target):
    """s0, t0, s1, t1, ...: so that both pictures of a pair are painted in one chunk."""
    order = torch.arange(2 * len(source)).view(2, -1).mT.flatten()
    return Scenes.cat([source, target])[order]


def chunks(scenes, canvas):
    """Yield the scenes in batches that fit the machine at this size of canvas."""
    pixels = CHUNK_PIXELS["cpu" if canvas.x.device.type == "cpu" else "gpu"]
    step = max(1, pixels // (canvas.x.numel() * canvas.y.numel()))
    for start in range(0, len(scenes), step):
        yield scenes[start:start + step]


def _paint_chunk(scenes, canvas):
    first, copies = _distinct(scenes, BACKDROP)
    picture, light = (part[copies] for part in paint_backdrop(scenes[first].shaped(), canvas))
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


def shown_covers(layers, scenes):
    """The opacity of each object behind all that stands in front of it, (n, 5, H, W): its mask."""
    return torch.cat([behind_others(layer[:, 3:], name, layers, scenes) for name, layer in layers.items()], 1)


def behind_others(layer, name, layers, scenes):
    """What remains of a layer (n, C, H, W) at the named object's place, behind all that is in front of it."""
    layer = layer.clone()
    for other, cover in layers.items():
        rows = (_in_front(scenes, other, name) & _windows_meet(scenes, other, name)).nonzero().flatten()
        if len(rows):
            layer[rows] = layer[rows] * (1 - cover[rows, 3:])
    return layer


def _in_front(scenes, other, name):
    there = (getattr(scenes, other) == 1) & (getattr(scenes, name) == 1)
    return there & (getattr(scenes, other + "_y") > getattr(scenes, name + "_y"))


def _windows_meet(scenes, other, name):
    """bool (n,): can the two objects share a pixel? Most pairs cannot, which saves their product."""
    extents = [_extent(one, getattr(scenes, one + "_size")) for one in (other, name)]
    across = (getattr(scenes, other + "_x") - getattr(scenes, name + "_x")).abs()
    middle, other_middle = (getattr(scenes, one + "_y") - high / 2
                            for one, (_, high) in zip((name, other), extents[::-1], strict=True))
    wide, high = ((extents[0][i] + extents[1][i]) / 2 for i in (0, 1))
    return (across < wide) & ((middle - other_middle).abs() < high)


def _extent(name, size):
    """Width and height of the window in which an object of this size is painted."""
    return [side * size + 2 * MARGIN for side in EXTENT[name]]


def _paint_object(name, scenes, canvas, light):
    """(n, 4, H, W): painted only where the object is, in a window round it, which saves most of the work."""
    high, wide = canvas.y.shape[2], canvas.x.shape[3]
    full = torch.zeros(len(scenes), 4, high, wide, device=light.device)
    present = (getattr(scenes, name) == 1).nonzero().flatten()
    if len(present):
        first, copies = _distinct(scenes[present], (f"{name}_x", f"{name}_y", *LOOKS[name]))
        first = present[first]
        window, cells = _window(name, scenes[first], canvas)
        rgba = PAINTERS[name](scenes[first].shaped(), window, light[first]).rgba.flatten(2)
        painted = torch.zeros(len(first), 4, high * wide + 1, device=light.device)  # one cell for all outside
        painted.scatter_(2, cells.expand_as(rgba), rgba)
        full[present] = painted[copies, :, :-1].view(-1, 4, high, wide)
    return full


def _distinct(scenes, columns):
    """(a row of each distinct combination of season, time and these columns; the combination of each scene).

    The two pictures of an edit share most of what they show: each distinct part is painted once.
    """
    values = [getattr(scenes, name).float().view(len(scenes), -1) for name in ("season", "time", *columns)]
    combinations, copies = torch.unique(torch.cat(values, 1), dim=0, return_inverse=True)
    rows = torch.arange(len(scenes), device=copies.device)
    first = rows.new_zeros(len(combinations)).scatter_reduce_(0, copies, rows, "amin", include_self=False)
    return first, copies


def _window(name, scenes, canvas):
    """The part of the canvas round an object: a Canvas with its own x and y, and its cells.

    x: (n, 1, 1, w).  y: (n, 1, h, 1).  cells: (n, 1, h w), where each of its pixels lies on the whole canvas;
    those that lie outside share the number after the last.
    """
    extent = _extent(name, float(getattr(scenes, name + "_size").max()))
    columns, rows = (torch.arange(math.ceil(side / canvas.pixel), device=canvas.x.device) for side in extent)
    left = getattr(scenes, name + "_x") - extent[0] / 2 - canvas.x[0, 0, 0, 0]
    top = getattr(scenes, name + "_y") - extent[1] + MARGIN - canvas.y[0, 0, 0, 0]
    columns = (left / canvas.pixel).ceil().long()[:, None] + columns                # (n, w)
    rows = (top / canvas.pixel).ceil().long()[:, None] + rows                       # (n, h)
    high, wide = canvas.y.shape[2], canvas.x.shape[3]
    x = canvas.x.flatten()[columns.clamp(0, wide - 1)][:, None, None, :]
    y = canvas.y.flatten()[rows.clamp(0, high - 1)][:, None, :, None]
    outside = ((rows < 0) | (rows >= high))[:, :, None] | ((columns < 0) | (columns >= wide))[:, None, :]
    cells = (rows[:, :, None] * wide + columns[:, None, :]).masked_fill(outside, high * wide)
    return Canvas(x, y, canvas.pixel), cells.flatten(1)[:, None]
