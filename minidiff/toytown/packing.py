"""Edits as numbers and words, without pictures: how files keep them."""

from dataclasses import astuple

import torch
from torch import Tensor

from minidiff.toytown.edits import Edits
from minidiff.toytown.requests import Request
from minidiff.toytown.scene import Scenes

GROUPS = ("source", "target", "reference")


def packed(edits: Edits) -> tuple[dict[str, Tensor], dict[str, list]]:
    """(columns by name, words by name) of edits: categories in one byte, image 2 only where it is used."""
    parts = edits.scenes, edits.target_scenes, edits.reference_scenes[edits.has_reference]
    columns = {"held_out_instructions": edits.held_out_phrasing}
    for group, part in zip(GROUPS, parts, strict=True):
        columns |= {f"{group}.{name}": column for name, column in part.columns().items()}
    words = {"instructions": edits.instruction, "requests": [astuple(request) for request in edits.requests]}
    return as_stored(columns), words


def as_stored(columns: dict[str, Tensor]) -> dict[str, Tensor]:
    """Columns of scenes as files have them: numbers in float32, categories in one byte."""
    return {name: value.contiguous() if value.is_floating_point() else value.to(torch.uint8)
            for name, value in columns.items()}


def scenes_in(columns: dict[str, Tensor], group: str) -> Scenes:
    """The scenes whose columns, as files have them, are called "group.name"."""
    prefix = f"{group}."
    return Scenes(**{key.removeprefix(prefix): value if value.is_floating_point() else value.long()
                     for key, value in columns.items() if key.startswith(prefix)})


def unpacked(columns: dict[str, Tensor], words: dict[str, list], size: int = 64) -> Edits:
    """The inverse of packed: edits that are painted at `size` when they are looked at."""
    source, target, some = (scenes_in(columns, group) for group in GROUPS)
    requests = tuple(Request(*fields) for fields in words["requests"])
    has_reference = torch.tensor([request.has_reference for request in requests], dtype=torch.bool)
    rows = torch.where(has_reference, has_reference.cumsum(0) - 1, len(some))
    reference = Scenes.cat([some, source])[rows]                # the others get any scene: nobody looks at it
    held_out = columns["held_out_instructions"].bool()
    return Edits(source, target, reference, requests, tuple(words["instructions"]), held_out, size)
