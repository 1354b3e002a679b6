"""Edits judged against the truth: what each picture of a batch got right, and what else it changed."""

import torch

from minidiff.bench.common import fresh_scenes
from minidiff.measure import (
    preservation,
    strict_success,
    strict_success_global,
    success,
    survival,
    truth_psnr,
)
from minidiff.measure.quality import CAP
from minidiff.toytown import load_split, paint

TESTED = ("recolour", "add", "remove", "replace", "move", "resize", "season", "time", "style", "text",
          "relational")
TARGETED = ("recolour", "remove", "season", "time")             # learnt first, and asked for by the figures


def held_out_edits(each, size=64, kinds=TESTED):
    """The first `each` edits of every one of these kinds, of the frozen test split."""
    edits = load_split("test", size).edits
    return edits[first_of_each(edits.kind, kinds, each)]


def first_of_each(kinds, wanted, each):
    """Where in `kinds` the first `each` of every wanted kind stand: a list of rows."""
    return [row for kind in wanted for row in [i for i, other in enumerate(kinds) if other == kind][:each]]


def judged(outputs, edits, batch=64, floor=None):
    """Measure -> (n,) float64, nan where it does not apply.  outputs: (n, 3, H, W), for n edits with a truth.

    success and truth: as in minidiff.measure.  kept, changed: dB and share outside the region, local edits.
    survived: share of attributes left alone, global edits.  strict: success, and enough is kept.
    batch: that many at a time, since all their answers take memory.  floor: (n,) dB that a codec keeps, which
    strict success takes into account (None: there is no codec).
    """
    floor = torch.full((len(edits),), CAP) if floor is None else floor
    parts = [judged_at_once(*(given[i : i + batch] for given in (outputs, edits, floor)))
             for i in range(0, len(edits), batch)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def judged_at_once(outputs, edits, floor):
    """As `judged`."""
    outputs, source, target, region = outputs.cpu().float(), edits.source, edits.target, edits.region
    is_global = edits.is_global
    succeeded = success(outputs, padded([edits.answers(i) for i in range(len(edits))]), region)
    kept, alive = preservation(source, outputs, region), survived(outputs, edits)
    strict = strict_success(succeeded, kept.psnr, floor.to(kept.psnr)).where(
        ~is_global, strict_success_global(succeeded, alive))
    found = {"success": succeeded, "truth": truth_psnr(outputs, target, region),
             "kept": kept.psnr.masked_fill(is_global, torch.nan),
             "changed": kept.changed.masked_fill(is_global, torch.nan),
             "survived": alive.nanmean(1), "strict": strict}
    return {name: values.double() for name, values in found.items()}


def survived(outputs, edits):
    """(n, K): 1 or 0 for each attribute that a global edit should leave alone; nan for local edits."""
    slips = [list(edits.side_effects(i).values()) if edits.is_global[i] else [] for i in range(len(edits))]
    blank = torch.full_like(outputs[:1], torch.nan)
    others = padded([torch.stack(renders) if renders else blank for renders in slips])
    return survival(outputs, edits.target, others)


def padded(parts):
    """Tensors (k_i, ...) as one, (n, max k, ...), filled up with nan."""
    most = max(map(len, parts))
    blank = torch.full_like(parts[0][:1], torch.nan)
    return torch.stack([torch.cat([part, blank.expand(most - len(part), *part.shape[1:])]) for part in parts])


def identity(edits, generator):
    """Changes nothing."""
    return edits.source


def re_roll(edits, generator):
    """A fresh scene."""
    return paint(fresh_scenes(len(edits), generator), edits.size)


def oracle(edits, generator):
    """The exact render."""
    return edits.target


NULL_EDITORS = {"identity": identity, "re-roll": re_roll, "oracle": oracle}
