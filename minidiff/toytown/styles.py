"""Four ways to redraw a painted picture: sketch, blueprint, pixel-art, watercolour.

Each is a function of (picture (n, 3, H, W) in 0..1, canvas), local and without chance: the true result of
"draw it as a sketch" is known. Distances are in shares of the picture's side: a style looks the same at any
size.
"""

import torch
import torch.nn.functional as F

from minidiff.toytown.scene import PIXEL


def restyle(picture, style, canvas):
    """Apply to each picture its style (n,), an index into STYLES; 0 leaves it plain."""
    for number, draw in enumerate((sketch, blueprint, pixel_art, watercolour), start=1):
        chosen = (style.flatten() == number).nonzero().flatten()
        if len(chosen):
            picture[chosen] = draw(picture[chosen], canvas)
    return picture


def sketch(picture, canvas):
    """Pencil lines on warm paper, hatched where the picture is dark, with a breath of colour."""
    gray = picture.mean(1, keepdim=True)
    paper = torch.tensor([0.97, 0.95, 0.90], device=picture.device).view(1, 3, 1, 1)
    diagonal = canvas.stripes_diagonal(3.5 * PIXEL, 1.0 * PIXEL)
    hatch = diagonal * ((0.62 - gray) / 0.4).clamp(0, 1)
    ink = (1.25 * lines(picture, canvas)).clamp(max=1).maximum(0.45 * hatch)
    wash = paper * (0.60 + 0.40 * smooth(picture, canvas, 1.0))
    pencil = torch.tensor([0.22, 0.21, 0.25], device=picture.device).view(1, 3, 1, 1)
    return wash.lerp(pencil.expand_as(wash), ink)


def blueprint(picture, canvas):
    """White lines on drafting blue, over a grid, the surfaces only hinted at."""
    blue = torch.tensor([0.10, 0.27, 0.55], device=picture.device).view(1, 3, 1, 1)
    gray = picture.mean(1, keepdim=True)
    grid = canvas.stripes_x(8 * PIXEL, 0.5 * PIXEL).maximum(canvas.stripes_y(8 * PIXEL, 0.5 * PIXEL))
    sheet = blue * (0.70 + 0.55 * gray) + 0.07 * grid
    white = torch.tensor([0.93, 0.97, 1.0], device=picture.device).view(1, 3, 1, 1)
    return sheet.lerp(white.expand_as(sheet), (1.2 * lines(picture, canvas)).clamp(max=1))


def pixel_art(picture, canvas):
    """Blocks of 1/32 of the side in a palette of six levels a channel: a game of 1990."""
    block = max(1, round(2 * PIXEL / canvas.pixel))
    high, wide = picture.shape[-2:]
    small = F.avg_pool2d(F.pad(picture, (0, -wide % block, 0, -high % block), mode="replicate"), block)
    vivid = (small - small.mean(1, keepdim=True)) * 1.25 + small.mean(1, keepdim=True)
    six_levels = (vivid.clamp(0, 1) * 5).round() / 5
    return six_levels.repeat_interleave(block, 2).repeat_interleave(block, 3)[..., :high, :wide]


def watercolour(picture, canvas):
    """Soft washes that darken towards their edges, paper that shows through, paler colours."""
    soft = 0.35 * picture + 0.65 * smooth(picture, canvas, 1.0)
    across = torch.sin(canvas.x * 61.0 + 2.0 * torch.sin(canvas.y * 43.0))
    down = torch.sin(canvas.y * 57.0 + 2.0 * torch.sin(canvas.x * 37.0))
    grain = across * down
    pale = 0.16 + 0.84 * soft
    return (pale * (1 - 0.60 * lines(soft, canvas)) + 0.030 * grain).clamp(0, 1)


def lines(picture, canvas):
    """(n, 1, H, W) how strongly any colour changes across 1/64 of the side, 0..1."""
    reach = max(1, round(PIXEL / canvas.pixel / 2))
    padded = F.pad(picture, (reach,) * 4, mode="replicate")
    middle = slice(reach, -reach)
    across = (padded[..., middle, 2 * reach:] - padded[..., middle, :-2 * reach]).abs()
    down = (padded[..., 2 * reach:, middle] - padded[..., :-2 * reach, middle]).abs()
    return ((across.amax(1, keepdim=True) + down.amax(1, keepdim=True)) * 1.3 - 0.12).clamp(0, 1)


def smooth(picture, canvas, width):
    """Blur by a box of about `width` sixty-fourths of the side, twice."""
    reach = max(1, round(width * PIXEL / canvas.pixel / 2))
    for _ in range(2):
        picture = F.avg_pool2d(F.pad(picture, (reach,) * 4, mode="replicate"), 2 * reach + 1, stride=1)
    return picture

