"""Is a picture anything like Toytown? A network paints what it was trained on, whatever it is shown."""

from functools import cache

import torch

from minidiff.toytown import paint, scenes
from minidiff.toytown.scene import OBJECTS, SEASONS, STYLES, TIMES

SIDE = 64                                                   # Toytown's own number of rows
SAME = 0.1                                                  # neighbours that differ by less are one surface
SMOOTH = (0.25, 0.98)                                       # share of such neighbours; scenes have .43 to .96
FAR = 0.2                                                   # rows further off than this; scenes reach .19
ENOUGH = 0.1                                                # of a picture must be kept to judge it by


def unlike_toytown(x0, edit_mask):
    """Why a picture is nothing like Toytown, in words, or None if it may well be Toytown.

    Two figures of the kept pixels: the share of neighbours of nearly one colour (noise has none, an empty
    page nothing else), and the distance of the rows' median colours from sky, hills, meadow and road in every
    season, light and style.  x0: (1, 3, H, W).  edit_mask: bool (1, 1, H, W), True = may change, and not
    looked at.
    """
    if (~edit_mask).float().mean() < ENOUGH:
        return None
    kept = torch.where(edit_mask, torch.nan, x0)
    smooth = smoothness(kept)
    if smooth < SMOOTH[0]:
        return f"only {smooth:.0%} of its neighbouring pixels share a colour, in a scene over {SMOOTH[0]:.0%}"
    if smooth > SMOOTH[1]:
        return f"{smooth:.0%} of its neighbouring pixels share a colour, in a scene under {SMOOTH[1]:.0%}"
    distance = backdrop_distance(kept)
    if distance > FAR:
        return f"its rows are {distance:.2f} away from sky, meadow and road, in a scene under {FAR:.2f}"
    return None


def smoothness(kept):
    """The share of horizontal neighbours that differ by less than SAME in every channel, NaN left out."""
    difference = kept.diff(dim=3).abs().amax(1)                                             # (1, H, W - 1)
    seen = difference[~difference.isnan()]
    return (seen < SAME).float().mean().item() if len(seen) else sum(SMOOTH) / 2


def backdrop_distance(kept):
    """Mean |difference| between a picture's rows and those of the nearest backdrop, wherever that is cut."""
    height = round(SIDE * kept.shape[2] / min(kept.shape[2:]))
    rows = kept.nanmedian(-1).values[:, :, torch.arange(height) * kept.shape[2] // height]  # (1, 3, height)
    cuts = backdrop_rows(max(height, SIDE)).unfold(2, height, 1).movedim(2, 1)         # (60, cuts, 3, height)
    return (rows[:, None] - cuts).abs().nanmean((2, 3)).min().item()


@cache
def backdrop_rows(height):
    """The median colour of each row of every backdrop without objects, and of what lies above and below it.

    Returns (60, 3, rows), rows enough to cut `height` of them out at several places.
    """
    kinds = torch.cartesian_prod(*(torch.arange(len(names)) for names in (SEASONS, TIMES, STYLES)))  # (60, 3)
    season, time, style = kinds.T
    bare = {name: 0 for name in (*OBJECTS, "fence")}
    backdrops = scenes(len(kinds), seed=0).with_(season=season, time=time, style=style, **bare)
    margin = max(height - SIDE, SIDE // 4)
    return paint(backdrops, SIDE, (0, 0, margin, margin)).median(-1).values
