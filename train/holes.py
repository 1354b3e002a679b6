"""Holes to train on: boxes, strokes, halves, everything, and the shapes of things."""

import torch
from torch.nn.functional import max_pool2d

from minidiff.control.masks import MASKS
from minidiff.toytown import masks, scenes

COUNT = 128                                                     # of a maker whose masks differ
CHANCE = ("wide", "narrow", "scribble", "box")                  # makers whose masks differ


class Holes:
    """A pool of edit masks, drawn once; every batch picks from it, and turns and mirrors what it picks.

    So a pool is worth eight of its size, and a half may be any half. A new mask costs more than the painting
    of its picture.  sorts: names of MASKS, "everything", and "thing": an object of some scene, with a margin;
    each comes as often.
    """

    def __init__(self, sorts, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.pools = [pool(sort, size, generator) for sort in sorts]                # (n, 1, size, size) each

    def __call__(self, n, generator):
        """n masks, bool (n, 1, size, size), True = may change; the same for the same generator."""
        sorts = torch.randint(len(self.pools), (n,), generator=generator).tolist()
        chance = torch.rand(n, generator=generator).tolist()
        picked = [self.pools[sort] for sort in sorts]
        edit_mask = torch.stack([many[int(share * len(many))] for many, share in zip(picked, chance)])
        turn, flip, mirror = torch.rand(3, n, 1, 1, 1, generator=generator) < 0.5
        edit_mask = torch.where(turn, edit_mask.mT, edit_mask)
        edit_mask = torch.where(flip, edit_mask.flip(2), edit_mask)
        return torch.where(mirror, edit_mask.flip(3), edit_mask)


def pool(sort, size, generator):
    """All masks of one sort: bool (n, 1, size, size)."""
    if sort == "everything":
        return torch.ones(1, 1, size, size, dtype=torch.bool)
    if sort == "thing":
        return things(size, generator)
    count = COUNT if sort in CHANCE else 1
    return torch.cat([MASKS[sort](size, size, generator) for _ in range(count)])


def things(size, generator, margin=2):
    """The shapes of objects, grown by `margin` pixels: bool (n, 1, size, size)."""
    drawn = scenes(COUNT, int(torch.randint(2**31, (), generator=generator)))
    shapes = masks(drawn, size).flatten(0, 1)[:, None]                                 # (n objects, 1, H, W)
    shapes = shapes[shapes.sum((1, 2, 3)) > 8]
    return max_pool2d(shapes.float(), 2 * margin + 1, stride=1, padding=margin) > 0
