"""Masks to edit under: the six of RePaint (2201.09865, section 5), a scribble and a box.

Each maker is (height, width, generator) -> edit_mask, bool (1, 1, H, W), True = may change. The generator is
a CPU torch.Generator; masks without chance ignore it. MASKS has them all by name. A mask that is not made but
found, in what an edit has changed, is `change_mask`.
"""

from math import pi

import torch

from minidiff.images import grown

LEAST = 16 / 255                                                # 8 of 255 levels: `bench --only put-back`


def wide(height, width, generator=None):
    """Three broad brush strokes and a box, .25 to .6 of the picture, after LaMa's masks (2109.07161)."""
    brush = min(height, width) / 5
    return strokes(3, brush, height, width, generator) | box(height, width, generator)


def narrow(height, width, generator=None):
    """Ten thin brush strokes all over the picture, about a quarter of it."""
    return strokes(10, min(height, width) / 20, height, width, generator)


def super_resolve(height, width, generator=None):
    """All but every second pixel each way: what is kept is the picture at half the size."""
    edit_mask = torch.ones(1, 1, height, width, dtype=torch.bool)
    edit_mask[..., ::2, ::2] = False
    return edit_mask


def alternating_lines(height, width, generator=None):
    """Every second row."""
    edit_mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    edit_mask[..., 1::2, :] = True
    return edit_mask


def half(height, width, generator=None):
    """The right half."""
    edit_mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    edit_mask[..., width // 2 :] = True
    return edit_mask


def expand(height, width, generator=None):
    """All but the centre, of which a quarter of each side is known: 64 x 64 of 256 x 256 in the paper."""
    edit_mask = torch.ones(1, 1, height, width, dtype=torch.bool)
    top, left = (height - height // 4) // 2, (width - width // 4) // 2
    edit_mask[..., top : top + height // 4, left : left + width // 4] = False
    return edit_mask


def scribble(height, width, generator=None):
    """One stroke of a felt pen, as a hand draws it over a thing that should go."""
    return strokes(1, min(height, width) / 8, height, width, generator)


def box(height, width, generator=None):
    """One rectangle, each side between a quarter and a half of the picture's."""
    y, x, tall, broad = torch.rand(4, generator=generator).tolist()
    tall, broad = round(height * (1 + tall) / 4), round(width * (1 + broad) / 4)
    top, left = round(y * (height - tall)), round(x * (width - broad))
    edit_mask = torch.zeros(1, 1, height, width, dtype=torch.bool)
    edit_mask[..., top : top + tall, left : left + broad] = True
    return edit_mask


MAKERS = (wide, narrow, super_resolve, alternating_lines, half, expand, scribble, box)
MASKS = {maker.__name__: maker for maker in MAKERS}


def strokes(count, brush, height, width, generator):
    """`count` brush strokes, each a chain of 8 points that wanders off from the middle: bool (1, 1, H, W).

    brush: the stroke's width in pixels.
    """
    start = (0.15 + 0.7 * torch.rand(count, 1, 2, generator=generator)) * torch.tensor([height, width])
    turns = (torch.rand(count, 7, generator=generator) - 0.5) * 0.6 * pi
    turns[:, 0] = 2 * pi * torch.rand(count, generator=generator)                # the first points anywhere
    angle = turns.cumsum(1)                                                        # (count, 7)
    length = min(height, width) * (0.07 + 0.1 * torch.rand(count, 7, 1, generator=generator))
    moves = length * torch.stack([angle.sin(), angle.cos()], dim=2)                # (count, 7, 2)
    points = torch.cat([start, start + moves.cumsum(1)], dim=1)                    # (count, 8, 2)
    distance = distance_to_segments(points[:, :-1].flatten(0, 1), points[:, 1:].flatten(0, 1), height, width)
    return (distance.amin(0) <= max(brush / 2, 0.75))[None, None]              # at least about a pixel wide


def distance_to_segments(start, end, height, width):
    """From each pixel's centre to each segment, in pixels: start, end (N, 2) as (y, x) -> (N, H, W)."""
    rows, columns = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    pixel = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1)      # (H, W, 2)
    along = (end - start)[:, None, None]                                           # (N, 1, 1, 2)
    offset = pixel - start[:, None, None]                                          # (N, H, W, 2)
    share = ((offset * along).sum(-1, keepdim=True) / along.square().sum(-1, keepdim=True)).clamp(0, 1)
    return (offset - share * along).norm(dim=-1)


def change_mask(edited, unedited, least=LEAST, gap=1):
    """What an edit in latents changed, an edit_mask that nobody drew: bool (B, 1, H, W), True = changed.

    Both pictures came out of the same decoder: edited, and the round trip of the source. What the codec loses
    is nearly the same in both, so what differs is the edit, and elsewhere the source's own pixels may come
    back. DiffEdit (2210.11427) infers a mask *before* the edit, from two predictions of noise, to hold the
    edit by it; this one is read off when the edit is over.
    edited, unedited: (B, 3, H, W), floating, in [-1, 1].  least: 0..2; a pixel has changed if any channel
    differs by more, or is nan.  gap: so has one between such pixels, or between them and the picture's edge,
    in a gap of at most 2 gap: else a region that was painted anew would be strewn with old pixels, where the
    two happen to agree. Lone pixels that have changed stay. Raises ValueError for others.
    """
    fits = edited.shape == unedited.shape and edited.ndim == 4 and edited.shape[1] == 3
    if not fits or not edited.is_floating_point() or not unedited.is_floating_point():
        found = " and ".join(f"{tuple(x.shape)} {x.dtype}" for x in (edited, unedited))
        raise ValueError(f"pictures are {found}: (B, 3, H, W) twice expected, floating")
    if not 0 <= least <= 2:
        raise ValueError(f"least = {least}: 0..2 expected")
    differs = ~((edited - unedited).abs() <= least).all(1, keepdim=True)
    return ~grown(~grown(differs, gap), gap)                    # a closing: grown, and shrunk again


def check_mask(image, edit_mask):
    """Raise ValueError unless edit_mask is bool (B or 1, 1, H, W) for an image (B, C, H, W)."""
    fits = edit_mask.ndim == 4 and edit_mask.shape[1] == 1 and edit_mask.shape[2:] == image.shape[2:]
    if not fits or len(edit_mask) not in (1, len(image)) or edit_mask.dtype != torch.bool:
        found = f"edit_mask is {tuple(edit_mask.shape)} {edit_mask.dtype}, image is {tuple(image.shape)}"
        raise ValueError(f"{found}: torch.bool (B, 1, H, W), same height and width expected")
