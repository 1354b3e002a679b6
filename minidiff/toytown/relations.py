"""Where things stand to each other: "what is left of the house", "the object behind the car"."""

import torch
from torch import Tensor

from minidiff.toytown.requests import Request
from minidiff.toytown.scene import EXTENT, OBJECTS, Scenes

CLEARLY = 0.10                                  # a thing is left of another from here on, in picture widths


def stands_alone(scenes: Scenes, request: Request) -> Tensor:
    """bool (n,): does the subject stand so (request.how) to the landmark, and nothing else even nearly?"""
    there = (getattr(scenes, request.subject) == 1) & (getattr(scenes, request.other) == 1)
    alone = there & relates(scenes, request.subject, request.other, request.how, strictly=True)
    for rival in OBJECTS:
        if rival not in (request.subject, request.other):
            nearly = relates(scenes, rival, request.other, request.how, strictly=False)
            alone &= ~(nearly & (getattr(scenes, rival) == 1))
    if request.how == "behind":
        alone &= scenes.fence == 0              # else the fence stands behind it, too
    return alone


def relates(scenes: Scenes, name: str, landmark: str, how: str, strictly: bool) -> Tensor:
    """bool (n,): does the named object stand so to the landmark: clearly so, or at all?

    how: one of RELATIONS. Behind and in front mean: further up or down in the picture, and the narrower one's
    middle lies between the wider one's sides (strictly), or they meet at all.
    """
    across = getattr(scenes, name + "_x") - getattr(scenes, landmark + "_x")
    if how in ("left of", "right of"):
        return (across if how == "right of" else -across) > (CLEARLY if strictly else 0)
    behind = getattr(scenes, name + "_y") < getattr(scenes, landmark + "_y")
    widths = [EXTENT[one][0] * getattr(scenes, one + "_size") for one in (name, landmark)]
    reach = torch.maximum(*widths) / 2 if strictly else sum(widths) / 2
    return (across.abs() < reach) & (behind if how == "behind" else ~behind)
