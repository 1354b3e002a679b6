"""The checks of notebook 05, fed right answers and wrong ones: they must call each mistake by its name."""

from difflib import SequenceMatcher
from math import floor

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import restart

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def levels_left(times, strength):
    steps = len(times) - 1
    return [times[i] for i in range(steps - floor(strength * steps + 0.5), steps + 1)]


LEVELS_LEFT = {
    "*first* levels": lambda times, strength: times[: len(levels_left(times, strength))],
    "turned round": lambda times, strength: times[-1 - round((1 - strength) * (len(times) - 1)) :],
    "cut off": lambda times, strength: times[-1 - floor(strength * (len(times) - 1)) :],
    "share is taken of the levels": lambda times, strength: times[-1 - round(strength * len(times)) :],
    "n + 1 levels, the one it starts from": lambda times, strength: levels_left(times, strength)[1:],
    "missing at the end": lambda times, strength: levels_left(times, strength)[:-1],
    "by their height": lambda times, strength: list(filter(lambda t: t <= strength * max(times), times)),
    "backwards": lambda times, strength: sorted(levels_left(times, strength)),
    "whatever the strength": lambda times, strength: times[:],
    "a list expected": lambda times, strength: levels_left(times, strength)[0],
    "returned None": lambda times, strength: None,
    "is expected": lambda times, strength: [0],
}


def invert_step(x_t, eps_hat, a_t, s_t, a_up, s_up):
    x0_hat = (x_t - s_t * eps_hat) / a_t
    return a_up * x0_hat + s_up * eps_hat


def grown(share, ratio=lambda a_t, a_up: a_up / a_t):
    def step(x_t, eps_hat, a_t, s_t, a_up, s_up):
        r = ratio(a_t, a_up)
        return r * x_t + share(r, s_t, s_up) * eps_hat
    return step


def in_place(x_t, eps_hat, a_t, s_t, a_up, s_up):
    return x_t.mul_(a_up / a_t).add_((s_up - a_up / a_t * s_t) * eps_hat)


def without_division(x_t, eps_hat, a_t, s_t, a_up, s_up):
    return a_up * x_t + (s_up - a_up * s_t) * eps_hat


INVERT_STEP = {
    "*fresh* noise": grown(lambda r, s_t, s_up: (s_up**2 - r**2 * s_t**2).sqrt()),
    "r s_t of this very noise": grown(lambda r, s_t, s_up: s_up),
    "old noise is not faded": grown(lambda r, s_t, s_up: s_up - s_t),
    "picture is not faded": grown(lambda r, s_t, s_up: s_up - s_t, ratio=lambda a_t, a_up: 1),
    "upside down": grown(lambda r, s_t, s_up: s_up - r * s_t, ratio=lambda a_t, a_up: a_t / a_up),
    "taken for a clean picture": lambda x_t, eps_hat, a_t, s_t, a_up, s_up: a_up * x_t + s_up * eps_hat,
    "division is missing": without_division,
    "sign is turned": grown(lambda r, s_t, s_up: r * s_t - s_up),
    "squares are subtracted": grown(lambda r, s_t, s_up: s_up**2 - r**2 * s_t**2),
    "nothing is added": lambda x_t, eps_hat, a_t, s_t, a_up, s_up: x_t * a_up / a_t,
    "in place": in_place,
    "NaN": grown(lambda r, s_t, s_up: (-s_up).sqrt()),
    "no common mistake": lambda *args: invert_step(*args) + 0.1,
    "it raised TypeError": lambda x_t, eps_hat: x_t,
}


def share_words(source, target, origin, dim=-1):
    mixed = target.clone()
    for j, i in enumerate(origin.tolist()):
        if i >= 0:
            mixed[..., j] = source[..., i]
    return mixed / mixed.sum(dim, keepdim=True)


def column_by_column(choose, scale=True):
    """Column j of the result is choose(source, target, j, origin[j])."""
    def shared(source, target, origin):
        columns = [choose(source, target, j, i) for j, i in enumerate(origin.tolist())]
        mixed = torch.stack(columns, dim=-1)
        return mixed / mixed.sum(-1, keepdim=True) if scale else mixed
    return shared


def theirs(source, target, j, i):
    return source[..., i] if i >= 0 else target[..., j]


SHARE_WORDS = {
    "no longer sum to 1": column_by_column(theirs, scale=False),
    "over the cells": lambda source, target, origin: share_words(source, target, origin, dim=-2),
    "second softmax": lambda *args: column_by_column(theirs, scale=False)(*args).softmax(-1),
    "*last* token": column_by_column(lambda source, target, j, i: source[..., i]),
    "start token's weights": column_by_column(lambda source, target, j, i: source[..., max(i, 0)]),
    "position i takes position i": column_by_column(lambda s, t, j, i: s[..., j] if i >= 0 else t[..., j]),
    "turned round": column_by_column(lambda s, t, j, i: t[..., j] if i >= 0 else s[..., 0]),
    "origin 0 is an origin": column_by_column(lambda s, t, j, i: s[..., i] if i > 0 else t[..., j]),
    "averaged": column_by_column(lambda s, t, j, i: 0.5 * s[..., max(i, 0)] + 0.5 * t[..., j]),
    "nobody ever looks": lambda source, target, origin: source.clone(),
    "nothing is shared": lambda source, target, origin: target.clone(),
    "in place": lambda source, target, origin: target.copy_(share_words(source, target, origin)),
    "no common mistake": lambda source, target, origin: share_words(source, target, origin) * 0.9,
}


def align(source, target, swapped=True, longer=False, none=-1):
    """By the blocks that stayed: what lies between two was replaced, if it is as long as before."""
    source, target = source.tolist(), target.tolist()
    found, i, j = [none] * len(target), 0, 0
    for block in SequenceMatcher(None, source, target, autojunk=False).get_matching_blocks():
        between = block.b - j
        if longer or (swapped and between == block.a - i):
            between = min(between, block.a - i)
            found[j : j + between] = range(i, i + between)
        i, j = block.a + block.size, block.b + block.size
        found[block.b : j] = range(block.a, i)
    return torch.tensor(found)


def pairwise_equal(source, target):
    found = torch.full((len(target),), -1)
    for i in range(min(len(source), len(target))):
        if source[i] == target[i]:
            found[i] = i
    return found


def first_equal(source, target):
    places = {token: i for i, token in reversed(list(enumerate(source.tolist())))}
    return torch.tensor([places.get(token, -1) for token in target.tolist()])


ALIGN = {
    "everything is one word off": lambda source, target: torch.tensor(
        [j if j < len(source) else -1 for j in range(len(target))]),
    "place by place": pairwise_equal,
    "swapped word has no origin": lambda source, target: align(source, target, swapped=False),
    "as far as it goes": lambda source, target: align(source, target, longer=True),
    "0 stands for tokens": lambda source, target: align(source, target, none=0),
    "*first* equal one": first_equal,
    "the other way round": lambda source, target: align(target, source),
    "token numbers": lambda source, target: torch.tensor(
        [source[i].item() if i >= 0 else -1 for i in align(source, target).tolist()]),
    "a Tensor expected": lambda source, target: align(source, target).tolist(),
    "int64 expected": lambda source, target: align(source, target).float(),
    "no common mistake": lambda source, target: align(source, target) + 1,
}

CHECKS = [
    (restart.check_levels_left, levels_left, LEVELS_LEFT),
    (restart.check_invert_step, invert_step, INVERT_STEP),
    (restart.check_share_words, share_words, SHARE_WORDS),
    (restart.check_align, align, ALIGN),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
