"""Edits of Toytown: an instruction, the picture before, and the one true picture after.

    batch = edits(256, seed=0)                 # for training; splits "val", "test" show what it never shows
    batch.source, batch.target                 # (n, 3, 64, 64), in [-1, 1]
    batch.region                               # bool (n, 1, 64, 64): what truly changes
    batch.instruction[0], batch.kind[0]        # "make the car blue", "recolour"
    batch.answers(0)                           # the true answer, then every other legal one
"""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from minidiff.toytown import answers
from minidiff.toytown.changes import carry_out, differs, possible
from minidiff.toytown.paint import change, paint, paint_pairs
from minidiff.toytown.requests import Request
from minidiff.toytown.scene import Scenes, has_held_out


@dataclass(frozen=True, eq=False)
class Edits:
    """n edits, their pictures painted when they are first asked for, and then kept.

    `edits[rows]`, `edits.at(size)` and `edits.to(device)` give others.
    """

    scenes: Scenes
    target_scenes: Scenes                                       # NaN for kind "ambiguous": no truth is known
    reference_scenes: Scenes                                    # image 2; counts only where has_reference
    requests: tuple[Request, ...]
    instruction: tuple[str, ...]
    held_out_phrasing: Tensor                                   # bool (n,): worded as training never words it
    size: int = 64

    def __len__(self):
        return len(self.requests)

    def __getitem__(self, rows) -> "Edits":
        """Some of the edits: an int, a slice, a list, a tensor of numbers or of bool."""
        if isinstance(rows, Tensor):
            rows = rows.cpu()
        rows = torch.arange(len(self))[[rows] if isinstance(rows, int) else rows]
        scenes = (part[rows] for part in (self.scenes, self.target_scenes, self.reference_scenes))
        words = (tuple(values[i] for i in rows.tolist()) for values in (self.requests, self.instruction))
        picked = Edits(*scenes, *words, self.held_out_phrasing[rows], self.size)
        if "_both" in self.__dict__:
            reference = self.__dict__.get("reference")
            picked.keeping(*(picture[rows] for picture in self._both),
                           None if reference is None else reference[rows])
        return picked

    def at(self, size: int) -> "Edits":
        """The same edits, painted with `size` pixels a side."""
        return self if size == self.size else replace(self, size=size)

    def to(self, device) -> "Edits":
        """The same edits, painted on another device."""
        names = ("scenes", "target_scenes", "reference_scenes", "held_out_phrasing")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    def keeping(self, source: Tensor, target: Tensor, reference: Tensor | None = None) -> "Edits":
        """Hand over pictures that are painted already: cached_property keeps its values in __dict__."""
        self.__dict__["_both"] = (source, target)
        if reference is not None:
            self.__dict__["reference"] = reference
        return self

    def painted(self) -> "Edits":
        """The same edits, with all pictures painted at once, now; so are those of edits taken from them."""
        return self.keeping(*self._both, self.reference if self.has_reference.any() else None)

    @property
    def source(self) -> Tensor:
        """(n, 3, size, size): the picture to edit, image 1."""
        return self._both[0]

    @property
    def target(self) -> Tensor:
        """(n, 3, size, size): the true result; NaN where no truth is known."""
        return self._both[1]

    @cached_property
    def _both(self):
        return paint_pairs(self.scenes, self.target_scenes, self.size)

    @cached_property
    def reference(self) -> Tensor:
        """(n, 3, size, size): image 2 of the edits that have one, 0 (grey) for the others."""
        pictures = torch.zeros_like(self.source)
        if self.has_reference.any():
            pictures[self.has_reference] = paint(self.reference_scenes[self.has_reference], self.size)
        return pictures

    @cached_property
    def rivals(self) -> Tensor:
        """(n,) int64: for each edit another one of these, whose image 2 would do as well, to another result.

        The nearest one before it, from the first one back to the last; where none would do, simply the one
        before. Raises ValueError unless there are two edits or more, all of which have a reference.
        """
        if self.scenes.season.device.type != "cpu":             # thousands of little steps: no work for a GPU
            return self.to("cpu").rivals
        if len(self) < 2 or not self.has_reference.all():
            found = f"{len(self)} edits, {int(self.has_reference.sum())} of them with a reference"
            raise ValueError(f"{found}: at least 2 expected, all with one")
        rows = torch.arange(len(self))
        before = [rows.roll(-i)[1:].flip(0) for i in rows.tolist()]                # i - 1, i - 2, ..., i + 1
        return torch.stack([order[self.taking_from(i, order)[1].int().argmax().item()]
                            for i, order in enumerate(before)])

    def taking_from(self, i: int, others: Tensor) -> tuple[Scenes, Tensor]:
        """Edit i, but by image 2 of other edits: its target scenes, and where it would do as well.

        others: their numbers, (m,).  Returns m scenes, and bool (m,): the request makes sense with that
        image, and has another result.
        """
        request, source = self.requests[i], self.scenes[[i] * len(others)]
        references, target = self.reference_scenes[others], self.target_scenes[i].columns()
        taken = carry_out(request, source, references, None)
        new = torch.stack([differs(column, target[name]) for name, column in taken.columns().items()]).any(0)
        return taken, possible(request, source, references) & new

    def among_three(self, third: Tensor) -> tuple[tuple[str, ...], Tensor, Tensor]:
        """The same edits beside one picture more, the reference of a rival: (instructions, image 2, image 3).

        third: bool (n,), True = the reference is image 3, and the instruction says so; the other one is
        image 2. Raises ValueError as `rivals`.
        """
        words = tuple(text.replace("image 2", "image 3") if moved else text
                      for text, moved in zip(self.instruction, third.tolist(), strict=True))
        moved, other = third.view(-1, 1, 1, 1).to(self.reference.device), self.reference[self.rivals]
        return words, torch.where(moved, other, self.reference), torch.where(moved, self.reference, other)

    @cached_property
    def region(self) -> Tensor:
        """bool (n, 1, size, size): the pixels that truly change; none where no truth is known."""
        return change(self.source, self.target)

    @property
    def kind(self) -> tuple[str, ...]:
        """"recolour", "add", ...: one of KINDS, or "ambiguous"."""
        return tuple(request.kind for request in self.requests)

    @property
    def has_reference(self) -> Tensor:
        """bool (n,): does the instruction speak of an image 2?"""
        return self._flags(request.has_reference for request in self.requests)

    @property
    def has_truth(self) -> Tensor:
        """bool (n,): False for kind "ambiguous"."""
        return self._flags("ambiguous" != request.kind for request in self.requests)

    @property
    def is_global(self) -> Tensor:
        """bool (n,): does the whole picture change (season, time of day, style)?"""
        return self._flags(request.is_global for request in self.requests)

    @property
    def held_out_colors(self) -> Tensor:
        """bool (n,): does any picture show a colour on an object that training never shows on it?"""
        found = has_held_out(self.scenes) | has_held_out(self.target_scenes)
        return found | (has_held_out(self.reference_scenes) & self.has_reference)

    @property
    def held_out(self) -> Tensor:
        """bool (n,): held out of training, by its phrasing or by a colour."""
        return self.held_out_phrasing | self.held_out_colors

    def answers(self, i: int) -> Tensor:
        """(k, 3, size, size) for edit i: the result asked for, the unchanged picture, other legal answers."""
        return paint(self._answers(i)[1], self.size)

    def answer_names(self, i: int) -> list[str]:
        """What each of answers(i) is: "requested", "unchanged", "blue", "gone", ..."""
        return self._answers(i)[0]

    def side_effects(self, i: int) -> dict[str, Tensor]:
        """Attribute -> (3, size, size): the requested result, but with that attribute changed unasked."""
        self._check_truth(i)
        names, slips = answers.side_effects(self.requests[i], self.target_scenes[i])
        return dict(zip(names, paint(slips, self.size), strict=True)) if names else {}

    def _answers(self, i):
        self._check_truth(i)
        scenes = self.scenes[i], self.target_scenes[i], self.reference_scenes[i]
        return answers.legal(self.requests[i], *scenes)

    def _check_truth(self, i):
        if self.requests[i].kind == "ambiguous":
            raise ValueError(f'"{self.instruction[i]}" has no true answer: an edit of another kind expected')

    def _flags(self, values):
        return torch.tensor(list(values), dtype=torch.bool, device=self.scenes.season.device)
