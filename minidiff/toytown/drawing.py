"""Draw edits: propose, keep the fair ones, put them into words."""

import random

import torch

from minidiff.toytown.dice import Dice
from minidiff.toytown.edits import Edits
from minidiff.toytown.instructions import instruction
from minidiff.toytown.paint import check_size
from minidiff.toytown.proposals import Proposals, fair, large_enough, propose
from minidiff.toytown.requests import KINDS
from minidiff.toytown.scene import Scenes, scenes

SPLITS = ("train", "val", "test")
TRIES = 3                                           # proposals for a place at once: the first fair one counts
ROUNDS = 32                                         # of proposals, before a place is given up


def edits(n: int, seed: int, split: str = "train", kinds=None, size: int = 64, device=None) -> Edits:
    """Draw n fair edits, the same for the same arguments, each kind equally often.

    split: "train" never shows or mentions a colour of HELD_OUT, nor uses a phrasing that is held out; "val"
    and "test" do both.  kinds: some of KINDS, or "ambiguous"; by default all KINDS.  size: pixels a side.
    device: where pictures are painted.  Pictures are kept (100 kB an edit): draw large numbers in parts.
    Raises ValueError for unknown names.
    """
    kinds = _check(n, split, kinds, size)
    dice = _dice(seed, split)
    wanted = [kinds[i % len(kinds)] for i in torch.randperm(n, generator=dice.generator).tolist()]

    def ask(places):
        return [wanted[place] for place in places], _scenes(len(places), dice, device)

    return _collect(n, ask, dice, size)


def edits_of(scenes: Scenes, seed: int, split: str = "train", kinds=None, size: int = 64) -> Edits:
    """One fair edit of each of these scenes: with the target scenes of edits, a chain of edits.

    Arguments as for `edits`. Raises ValueError where none of the kinds is possible.
    """
    kinds = _check(len(scenes), split, kinds, size)
    dice = _dice(seed, split)

    def ask(places):
        chosen = torch.randint(len(kinds), (len(places),), generator=dice.generator)
        return [kinds[i] for i in chosen.tolist()], scenes[places]

    return _collect(len(scenes), ask, dice, size)


def _check(n, split, kinds, size):
    if n < 1:
        raise ValueError(f"n is {n}: at least 1 edit expected")
    check_size(size)
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}: one of {', '.join(SPLITS)} expected")
    kinds = KINDS if kinds is None else (kinds,) if isinstance(kinds, str) else tuple(kinds)
    unknown = [kind for kind in kinds if kind not in (*KINDS, "ambiguous")]
    if unknown or not kinds:
        raise ValueError(f"kinds are {unknown or kinds}: some of {', '.join(KINDS)} or ambiguous expected")
    return kinds


def _dice(seed, split):
    """Another stream of chance for each seed and split."""
    generator = torch.Generator().manual_seed(len(SPLITS) * seed + SPLITS.index(split))
    return Dice(generator, held_out=split != "train")


def _scenes(n, dice, device):
    drawn = scenes(n, seed=int(torch.randint(2**31, (), generator=dice.generator)), held_out=dice.held_out)
    return drawn.to(device) if device is not None else drawn


def _collect(n, ask, dice, size):
    """Fill n places with fair edits; ask(places) -> (kinds, source scenes) to try, one of each a place."""
    found, open_places = [], list(range(n))
    for _ in range(ROUNDS):
        tries = open_places * TRIES
        kinds, source = ask(tries)
        rows, proposals = propose(kinds, source, _scenes(len(tries), dice, source.season.device), dice)
        found += _first_fair([tries[row] for row in rows.tolist()], proposals, dice.held_out)
        taken = {place for places, *_ in found for place in places}
        open_places = [place for place in range(n) if place not in taken]
        if not open_places:
            return _in_words(found, dice).at(size)
    raise ValueError(f"scene {open_places[0]} allows no edit of these kinds: another or more kinds expected")


def _first_fair(places, proposals, held_out):
    """For each place the first of its proposals that is fair.

    A list of (places, proposals, source, target), the pictures painted at 64x64.
    """
    rows_of = {}
    for row, place in enumerate(places):
        rows_of.setdefault(place, []).append(row)
    found = []
    while rows_of:
        places = list(rows_of)
        batch = proposals[torch.tensor([rows.pop(0) for rows in rows_of.values()])]
        seen = fair(batch, held_out).nonzero().flatten()
        if len(seen):
            large, source, target = large_enough(batch[seen])
            seen = seen[large]
            found.append(([places[i] for i in seen.tolist()], batch[seen], source[large], target[large]))
        done = {places[i] for i in seen.tolist()}
        rows_of = {place: rows for place, rows in rows_of.items() if rows and place not in done}
    return found


def _in_words(found, dice):
    """The edits in the order of their places, with their instructions; what is painted already stays."""
    order = torch.tensor([place for places, *_ in found for place in places]).argsort()
    proposals = Proposals.cat([part[1] for part in found])[order]
    source, target = (torch.cat([part[i] for part in found])[order] for i in (2, 3))
    held_out = torch.rand(len(order), generator=dice.generator) < (0.5 if dice.held_out else 0.0)
    words = random.Random(int(torch.randint(2**31, (), generator=dice.generator)))
    before, after = proposals.source.rows(), proposals.target.rows()
    told = tuple(instruction(*row[:3], words, row[3]) for row in zip(
        proposals.requests, before, after, held_out.tolist(), strict=True))
    batch = Edits(proposals.source, proposals.target, proposals.reference, proposals.requests, told, held_out)
    return batch.keeping(source, target)
