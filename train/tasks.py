"""The four tasks that one network is trained on together, each with its own number of context pictures.

generation       caption                              -> picture
reconstruction   picture, ""                          -> the same picture
editing          picture, instruction                 -> its true edit
fusion           picture, second picture, instruction -> its true edit

Those with equally many context pictures make a group. To pad all to two would be simpler, but costs half as
much again in time, since attention to nothing is not free.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.process.guidance import drop_conditions
from train.data import Town, TownEdits

MIX = ("recolour", "remove", "season", "time", "style", "relational") + (
    "recolour", "add", "replace", "move", "resize", "text") * 2  # each kind as often as it stands here


class Group(NamedTuple):
    """Examples that look at equally many pictures.

    words: n strings, or None where nothing is said.  target: (n, 3, H, W), the picture to make.
    region: bool (n, 1, H, W), where it differs from the first context.  contexts: (n, 3, H, W) each.
    """

    words: list
    target: Tensor
    region: Tensor
    contexts: tuple = ()


class Tasks:
    """Draws batches: shares of them are generation, reconstruction and fusion, the rest is editing.

    drop: share of captions and instructions that are not said, for guidance. Reconstruction keeps its empty
    instruction: to be told to change nothing is not the same as to be told nothing.
    """

    def __init__(self, config, device):
        self.counts = counts(config.batch, config.generation, config.reconstruction, config.fusion)
        self.drop, self.town = config.drop, Town(config.size, device)
        self.edits = TownEdits(MIX, config.size, device, config.seed)
        self.fusions = TownEdits(("combine",), config.size, device, config.seed)

    def __call__(self, generator, now):
        """The groups of a pass, those that have examples: two context pictures, one, none."""
        generation, reconstruction, fusion, editing = self.counts
        x0, captions = self.town(generation + reconstruction, generator)
        same, x0 = x0.split([reconstruction, generation])
        nowhere = torch.zeros_like(x0[:, :1], dtype=torch.bool)
        groups = [Group(self.said(captions[reconstruction:], generator), x0, nowhere)]
        nowhere = torch.zeros_like(same[:, :1], dtype=torch.bool)
        alone = [Group([""] * reconstruction, same, nowhere, (same,))]
        if editing:
            batch = self.edits(editing, now)
            words = self.said(batch.instruction, generator)
            alone.append(Group(words, batch.target, batch.region, (batch.source,)))
        groups.append(joined(alone))
        if fusion:
            batch = self.fusions(fusion, now)
            words, both = self.said(batch.instruction, generator), (batch.source, batch.reference)
            groups.append(Group(words, batch.target, batch.region, both))
        return [group for group in reversed(groups) if group.words]

    def said(self, words, generator):
        """Words, but for the share that is dropped."""
        return drop_conditions(words, self.drop, None, generator)


def counts(n, *shares):
    """How many of n examples each share is, rounded, and how many are left.

    Raises ValueError if the shares are no shares, or more than all.
    """
    found = [round(share * n) for share in shares]
    if min(shares) < 0 or sum(found) > n:
        raise ValueError(f"shares of the batch are {shares}: 0 or more, and at most 1 together, expected")
    return *found, n - sum(found)


def joined(groups):
    """Groups with equally many context pictures, as one."""
    words, target, region, contexts = zip(*groups)
    contexts = tuple(torch.cat(pictures) for pictures in zip(*contexts, strict=True))
    return Group(sum(words, []), torch.cat(target), torch.cat(region), contexts)
