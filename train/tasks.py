"""The six tasks that one network is trained on together, each with its own number of context pictures.

generation       caption                              -> picture
reconstruction   picture, ""                          -> the same picture
editing          picture, instruction                 -> its true edit
writing          the same, of signs alone: nothing else is as hard to learn
fusion           picture, second picture, instruction -> its true edit
choice           the same, and a picture more; the instruction says which of the two counts

Those with equally many context pictures make a group. To pad all to three would be simpler, but costs half as
much again in time, and more, since attention to nothing is not free.
"""

from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor

from minidiff.process.guidance import drop_conditions
from train.data import StoredEdits, TownEdits, TownScenes

# Each kind as often as it stands here: those that are soon learnt least, those that fail most often most.
MIX = ("season", "time", "style") + ("remove", "relational", "move", "text") * 2 + (
    "recolour", "resize") * 3 + ("add", "replace") * 4
KINDS_OF = {"editing": MIX, "writing": ("text",), "fusion": ("combine",), "choice": ("combine",)}
PART = 64                                                       # made at once, where a batch has fewer
PAINTED = 4096                                                  # of 64x64, painted at once by a GPU
RIVALS = 8                                                      # edits among which a rival is looked for


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
    """Draws batches: shares are for all tasks but editing, which is the rest.

    drop: share of captions and instructions that are not said, for guidance. Reconstruction keeps its empty
    instruction: to be told to change nothing is not the same as to be told nothing.
    stored: each task of KINDS_OF -> edits that are drawn already; None: edits are drawn as needed.
    passes: of a step, in all processes.
    """

    def __init__(self, config, device, stored=None, passes=1):
        shares = config.choice, config.fusion, config.reconstruction, config.generation, config.writing
        self.counts, self.drop = counts(config.batch, *shares), config.drop
        part = PART if torch.device(device).type == "cpu" else max(PAINTED * 64**2 // config.size**2, 1)
        self.sources = {task: TownScenes(config.size, device, (config.seed, task), part)
                        for task in ("generation", "reconstruction")}
        for task, kinds in KINDS_OF.items():
            self.sources[task] = (StoredEdits(stored[task], config.size, device, part, passes) if stored else
                                  TownEdits(kinds, config.size, device, (config.seed, task), PART))

    def __call__(self, generator, now):
        """The groups of a pass, those with most context pictures first.  now: as in train.loop."""
        tasks = self.choice, self.fusion, self.reconstruction, self.generation, self.writing, self.editing
        groups = [task(n, generator, now) for task, n in zip(tasks, self.counts, strict=True) if n]
        groups.sort(key=looks_at, reverse=True)
        return [joined(same) for _, same in groupby(groups, looks_at)]

    def generation(self, n, generator, now):
        """Captions and their pictures."""
        batch = self.sources["generation"](n, now)
        return Group(self.said(batch.captions, generator), batch.x0, nowhere(batch.x0))

    def reconstruction(self, n, generator, now):
        """The same picture twice, and the instruction to change nothing."""
        x0 = self.sources["reconstruction"](n, now).x0
        return Group([""] * n, x0, nowhere(x0), (x0,))

    def editing(self, n, generator, now):
        """Edits that speak of one picture."""
        return self.one_picture(self.sources["editing"](n, now), generator)

    def writing(self, n, generator, now):
        """Edits of what is written on signs."""
        return self.one_picture(self.sources["writing"](n, now), generator)

    def one_picture(self, batch, generator):
        """Edits that speak of one picture, as a group."""
        return Group(self.said(batch.instruction, generator), batch.target, batch.region, (batch.source,))

    def fusion(self, n, generator, now):
        """Edits that take something from image 2."""
        batch = self.sources["fusion"](n, now)
        words, both = self.said(batch.instruction, generator), (batch.source, batch.reference)
        return Group(words, batch.target, batch.region, both)

    def choice(self, n, generator, now):
        """Edits that take something from image 2, or from image 3, and not from the other.

        Either would do, so that only the number in the words can say which: of this many edits, most have
        another one among them whose image would do.
        """
        batch = self.sources["choice"](max(n, RIVALS), now)
        words, *others = batch.among_three(torch.rand(len(batch), generator=generator) < 0.5)
        target, region, *contexts = (part[:n] for part in (batch.target, batch.region, batch.source, *others))
        return Group(self.said(words[:n], generator), target, region, tuple(contexts))

    def said(self, words, generator):
        """Words, but for the share that is dropped."""
        return drop_conditions(words, self.drop, None, generator)


def counts(n, *shares):
    """How many of n examples each share is, rounded, and how many are left.

    Raises ValueError if the shares are no shares, more than all, or so small that nothing is left of one.
    """
    found = [round(share * n) for share in shares]
    if min(shares) < 0 or sum(found) > n:
        raise ValueError(f"shares of the batch are {shares}: 0 or more, and at most 1 together, expected")
    if any(share and not count for share, count in zip(shares, found)):
        found = f"shares of the batch are {shares}, the batch has {n}"
        raise ValueError(f"{found}: 0, or enough for one example, expected")
    return *found, n - sum(found)


def nowhere(x0):
    """A region without pixels: bool (n, 1, H, W)."""
    return torch.zeros_like(x0[:, :1], dtype=torch.bool)


def looks_at(group):
    """How many pictures the examples of a group look at."""
    return len(group.contexts)


def joined(groups):
    """Groups that look at equally many pictures, as one."""
    words, target, region, contexts = zip(*groups)
    contexts = tuple(torch.cat(pictures) for pictures in zip(*contexts, strict=True))
    return Group(sum(words, []), torch.cat(target), torch.cat(region), contexts)
