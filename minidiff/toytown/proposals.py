"""Draw edits and keep the fair ones: those whose pictures and words determine the answer."""

from dataclasses import dataclass

import torch
from torch import Tensor

from minidiff.toytown.changes import carry_out, possible
from minidiff.toytown.dice import Dice
from minidiff.toytown.paint import change, paint_pairs, visibility, visibility_pairs
from minidiff.toytown.requests import Request, requests_of
from minidiff.toytown.scene import OBJECTS, Scenes, has_held_out

SEEN, NAMED, READ = 1 / 3, 1 / 2, 0.9                   # visible shares: of all, of what is named, of writing
SMALLEST_REGION = 12                                    # pixels, in a picture of 64x64, that change by
VISIBLE = 0.1                                           # at least: 13 steps of 255


@dataclass(frozen=True, eq=False)
class Proposals:
    """Scenes, what is asked for, and the scenes that this gives: n rows, not all of them fair."""

    source: Scenes
    target: Scenes
    reference: Scenes                                   # image 2, for the requests of kind "combine"
    requests: tuple[Request, ...]

    def __len__(self):
        return len(self.requests)

    def __getitem__(self, rows: Tensor) -> "Proposals":
        rows = rows.cpu()
        requests = tuple(self.requests[i] for i in rows.tolist())
        return Proposals(self.source[rows], self.target[rows], self.reference[rows], requests)

    @staticmethod
    def cat(parts) -> "Proposals":
        """Several batches as one."""
        names = ("source", "target", "reference")
        scenes = [Scenes.cat(getattr(part, name) for part in parts) for name in names]
        return Proposals(*scenes, tuple(request for part in parts for request in part.requests))


def propose(kinds: list[str], source: Scenes, reference: Scenes, dice: Dice) -> tuple[Tensor, Proposals]:
    """One request of its kind for each scene -> (the rows where that kind is possible, their proposals)."""
    rows, requests = [], []
    for kind in dict.fromkeys(kinds):
        of_kind = torch.tensor([row for row, other in enumerate(kinds) if other == kind])
        chosen = _choose(requests_of(kind), source[of_kind], reference[of_kind], dice.generator)
        rows += [row for row, request in zip(of_kind.tolist(), chosen, strict=True) if request]
        requests += [request for request in chosen if request]
    rows = torch.tensor(rows, dtype=torch.long)
    source, reference = source[rows], reference[rows]
    target = _carry_out_all(requests, source, reference, dice)
    return rows, Proposals(source, target, reference, tuple(requests))


def _choose(requests, source, reference, generator):
    """For each scene one of the requests possible there, or None: first a verb, then one of its requests."""
    can = torch.stack([possible(request, source, reference) for request in requests], 1).cpu()      # (n, k)
    verbs = [request.verb for request in requests]
    same_verb = torch.tensor([[a == b for b in verbs] for a in verbs])                              # (k, k)
    rivals = can.float() @ same_verb.float()                                # possible ones of the same verb
    rare = torch.tensor([0.2 if verb == "add fence" else 1.0 for verb in verbs])    # one thing among six
    weights = torch.where(can, rare / rivals.clamp(min=1), 0.0)
    none = ~can.any(1)
    weights[none] = 1.0
    chosen = torch.multinomial(weights, 1, generator=generator)[:, 0].tolist()
    return [None if nothing else requests[i] for i, nothing in zip(chosen, none.tolist(), strict=True)]


def _carry_out_all(requests, source, reference, dice):
    rows_of = {}
    for row, request in enumerate(requests):
        rows_of.setdefault(request, []).append(row)
    parts = [carry_out(request, source[rows], reference[rows], dice) for request, rows in rows_of.items()]
    order = torch.tensor([row for rows in rows_of.values() for row in rows], dtype=torch.long)
    return Scenes.cat(parts)[order.argsort()] if parts else source


def fair(proposals: Proposals, held_out: bool) -> Tensor:
    """bool (n,): is everything seen, before and after, and is what is named seen well? Measured at 32x32.

    So nothing is revealed of which less than a third was visible, and nothing is hidden almost wholly.
    held_out: may a target wear a colour of HELD_OUT?
    """
    source, target = visibility_pairs(proposals.source, proposals.target)                  # (n, 5)
    needed = _needed(proposals.requests, Request.names).to(source.device)
    good = (torch.minimum(source, target) >= needed).all(1)
    combine = torch.tensor([request.kind == "combine" for request in proposals.requests]).nonzero().flatten()
    if len(combine):
        images = proposals[combine]
        seen = visibility(images.reference)
        good[combine] &= (seen >= _needed(images.requests, Request.names_in_reference).to(seen.device)).all(1)
    return good if held_out else good & ~has_held_out(proposals.target)


def _needed(requests, names):
    """(n, 5): the share of each object that must be visible."""
    needed = torch.full((len(requests), len(OBJECTS)), SEEN)
    for row, request in enumerate(requests):
        for name in names(request):
            needed[row, OBJECTS.index(name)] = READ if request.tells_writing and name == "sign" else NAMED
    return needed


def large_enough(proposals: Proposals) -> tuple[Tensor, Tensor, Tensor]:
    """(do at least SMALLEST_REGION pixels change visibly, bool (n,); source and target, painted at 64x64)."""
    source, target = paint_pairs(proposals.source, proposals.target)
    pixels = change(source, target, VISIBLE).sum((1, 2, 3))
    no_truth = torch.tensor([request.kind == "ambiguous" for request in proposals.requests])
    return (pixels >= SMALLEST_REGION) | no_truth.to(pixels.device), source, target
