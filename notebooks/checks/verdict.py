"""Judge an answer: call it, compare it with the right one, then with what each typical mistake would give.

A mistake is a function too, wrong on purpose. An answer that agrees with it in every case made that mistake.
"""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import torch

MIME = "application/vnd.minidiff.verdict+json"
SIGNS = {"right": "✔", "wrong": "✘", "unsolved": "…"}
COLOURS = {"right": "#0072B2", "wrong": "#D55E00", "unsolved": "#666666"}      # safe for the colour-blind


class Unsolved(NotImplementedError):
    """Raised by the skeleton of an exercise that nobody has filled in yet."""

    def __init__(self, task):
        super().__init__(f"this one is yours to write: {task}")


@dataclass(frozen=True)
class Case:
    """One call of an answer: what to call it in a message, and the arguments."""

    name: str
    arguments: tuple


@dataclass(frozen=True)
class Outcome:
    """What a function did in one case. trouble: why the result cannot be used, or None."""

    result: Any
    trouble: str | None


@dataclass(frozen=True)
class Verdict:
    """What a check found: state is "right", "wrong" or "unsolved"; words say why.

    function: the answer if it is right, else the reference, so that the notebook goes on either way.
    """

    exercise: str
    state: str
    words: str
    function: Callable

    def __str__(self):
        return f"{SIGNS[self.state]} {self.exercise}: {self.words}"

    def _repr_mimebundle_(self, include=None, exclude=None):
        style = f"border-left: 4px solid {COLOURS[self.state]}; padding: 0.3em 0.8em"
        head = f'<b style="color: {COLOURS[self.state]}">{SIGNS[self.state]} {self.exercise}</b>'
        html = f'<div style="{style}">{head}: {escape(self.words)}</div>'
        return {"text/plain": str(self), "text/html": html,
                MIME: {"exercise": self.exercise, "state": self.state, "words": self.words}}


def judge(exercise, answer, reference, cases, mistakes, raised=None, praise="right.") -> Verdict:
    """Compare `answer` with `reference` in every case, and name the mistake where they differ.

    cases: list of Case.  mistakes: pairs (wrong function, words); the first with the same outcomes is named.
    raised: dict from a part of an error's message to words, for mistakes that the library itself refuses.
    """
    expected = [outcome(reference, case) for case in cases]
    try:
        found = [outcome(answer, case, good.result) for case, good in zip(cases, expected, strict=True)]
    except Unsolved as unsolved:
        return Verdict(exercise, "unsolved", f"not solved yet: {unsolved}.", reference)
    if agree(found, expected):
        return Verdict(exercise, "right", praise, answer)
    words = named(found, cases, mistakes) or refused(found, raised or {})
    return Verdict(exercise, "wrong", words or plain_facts(found, expected, cases), reference)


def outcome(function, case, good=None):
    """Call a function on copies of its arguments; raises only Unsolved.  good: a result of the right kind."""
    arguments = copied(case.arguments)
    try:
        result = function(*arguments)
    except Unsolved:
        raise
    except Exception as error:
        reason = (str(error) or "no message").splitlines()[0]
        return Outcome(None, f"it raised {type(error).__name__}: {reason}")
    return Outcome(result, meddling(arguments, case.arguments) or misfit(result, good))


def refused(found, raised):
    """The words for the first trouble whose error is listed, or None."""
    troubles = "\n".join(one.trouble for one in found if one.trouble)
    return next((words for part, words in raised.items() if part in troubles), None)


def named(found, cases, mistakes):
    """The words of the first mistake with just these outcomes, not all of them trouble; or None."""
    if all(one.trouble for one in found):
        return None
    for wrong, words in mistakes:
        if agree(found, [outcome(wrong, case, one.result) for case, one in zip(cases, found, strict=True)]):
            return words
    return None


def agree(found, expected):
    """The same results, to rounding in float32, and trouble in the same cases?"""
    pairs = list(zip(found, expected, strict=True))
    if any(bool(one.trouble) != bool(other.trouble) for one, other in pairs):
        return False
    return all(same(one.result, other.result) for one, other in pairs if not one.trouble)


def same(one, other):
    if not isinstance(one, torch.Tensor):
        return one == other
    one, other = one.double(), other.double()
    rounding = 1e-4 * other.abs().max().clamp(min=1)
    return one.shape == other.shape and bool((one - other).abs().max() <= rounding)


def misfit(result, good):
    """What is wrong with the kind of a result, before its values matter; None if nothing is."""
    if result is None:
        return "it returned None: is there a `return`?"
    if good is not None and type(result) is not type(good):
        return f"it returned a {type(result).__name__}: a {type(good).__name__} expected"
    if not isinstance(result, torch.Tensor):
        return None
    good = result if good is None else good
    if result.shape != good.shape or result.is_floating_point() != good.is_floating_point():
        found = f"{tuple(result.shape)} {result.dtype}: {tuple(good.shape)} {good.dtype} expected"
        return f"the result is {found}".replace("torch.", "")
    if not result.isfinite().all():
        return "NaN or infinite values came out: the root of a negative number, or a division by 0?"
    return None


def meddling(arguments, originals):
    """Was a tensor changed, or a list, that belongs to the caller?"""
    for now, before in zip(arguments, originals, strict=True):
        if isinstance(before, torch.Tensor) and not torch.equal(now, before):
            return "it changes its input in place (+=, x[...] = ...): the caller needs it, make a new tensor"
        if isinstance(before, list) and (len(now) != len(before) or meddling(now, before)):
            return "it changes a list that it was given: the caller needs it, make a new one"
    return None


def plain_facts(found, expected, cases):
    """What to say of an answer that is wrong in a way nobody has thought of."""
    for one, other, case in zip(found, expected, cases, strict=True):
        if one.trouble:
            return f"{case.name}: {one.trouble}."
        if not same(one.result, other.result):
            return f"{case.name}: {difference(one.result, other.result)}."


def difference(one, other):
    if isinstance(one, torch.Tensor):
        gap = (one.double() - other.double()).abs().max().item()
        return f"off by up to {gap:.3g}, and no common mistake explains it: compare it with the equation"
    return f"it gives {shortened(one)}, where {shortened(other)} is expected"


def shortened(values):
    """A list in a message: its first numbers, and how many there are."""
    if not isinstance(values, list) or len(values) <= 12:
        return str(values)
    return f"[{', '.join(map(str, values[:12]))}, ...] ({len(values)} numbers)"


def copied(arguments):
    """The arguments, tensors and lists of them cloned, so that an answer which changes them harms nobody."""
    return tuple(each.clone() if isinstance(each, torch.Tensor) else list(copied(each))
                 if isinstance(each, list) else each for each in arguments)


def normal(seed, *shape):
    """Standard normal noise, the same for the same seed: what cases are made of."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
