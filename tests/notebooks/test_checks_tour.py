"""The checks of the tour, fed right answers and wrong ones: they must call each mistake by its name."""

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import tour

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def hold(painted, truth, edit_mask):
    return painted * edit_mask + truth * ~edit_mask


def held_in_place(painted, truth, edit_mask):
    kept = ~edit_mask.expand_as(painted)
    painted[kept] = truth[kept]
    return painted


HOLD = {
    "mask is inverted": lambda painted, truth, edit_mask: hold(painted, truth, ~edit_mask),
    "kept pixels became 0": lambda painted, truth, edit_mask: painted.masked_fill(~edit_mask, 0),
    "hole became 0": lambda painted, truth, edit_mask: truth.masked_fill(edit_mask, 0),
    "kept pixels are a sum": lambda painted, truth, edit_mask: painted + truth.masked_fill(edit_mask, 0),
    "hole is a sum": lambda painted, truth, edit_mask: painted.masked_fill(~edit_mask, 0) + truth,
    "nothing is held": lambda painted, truth, edit_mask: painted,
    "nothing may change": lambda painted, truth, edit_mask: truth,
    "blended everywhere": lambda painted, truth, edit_mask: 0.5 * painted + 0.5 * truth,
    "mask of the first one": lambda painted, truth, edit_mask: hold(painted, truth, edit_mask[0]),
    "stretches it over the channels": lambda painted, truth, edit_mask: painted[edit_mask],
    "in place": held_in_place,
    "(2, 1, 4, 4)": lambda painted, truth, edit_mask: hold(painted, truth, edit_mask)[:, :1],
    "no common mistake": lambda painted, truth, edit_mask: hold(painted, 0.9 * truth, edit_mask),
}


def max_difference(source, output, region, scale=127.5, sign=None):
    """Pixel by pixel, with loops."""
    found = []
    for i in range(len(source)):
        keep = ~region.expand(len(source), 3, -1, -1)[i]
        difference = (output[i] - source[i])[keep] * (sign or 1)
        found.append(max([0.0, *(difference if sign else difference.abs()).tolist()]))
    return scale * torch.tensor(found)


def mean_difference(source, output, region):
    keep = ~region.expand(len(source), 3, -1, -1)
    pairs = zip(source, output, keep)
    return torch.stack([127.5 * (after - before)[kept].abs().mean() for before, after, kept in pairs])


MAX_DIFFERENCE = {
    "*inside* the region": lambda source, output, region: max_difference(source, output, ~region),
    "whole picture": lambda source, output, region: 127.5 * (output - source).abs().flatten(1).max(1).values,
    "[0, 1] is taken": lambda *args: max_difference(*args, scale=255),
    "unit is missing": lambda *args: max_difference(*args, scale=1),
    "got darker counts": lambda *args: max_difference(*args, sign=1),
    "got brighter counts": lambda *args: max_difference(*args, sign=-1),
    "one number for the whole batch": lambda *args: max_difference(*args).max().repeat(2),
    "hundred intact pixels": mean_difference,
    "over *all* pixels": lambda source, output, region: 127.5 * (
        (output - source).abs().masked_fill(region, 0).flatten(1).mean(1)),
    "each channel has its own": lambda source, output, region: (output - source).abs().amax((2, 3)),
    "returned None": lambda source, output, region: None,
}

CHECKS = [(tour.check_hold, hold, HOLD), (tour.check_max_difference, max_difference, MAX_DIFFERENCE)]
test_right, test_wrong, test_unsolved = suite(CHECKS)


def test_the_function_to_go_on_with_after_a_wrong_answer_is_right():
    for check, _, wrongs in CHECKS:
        for wrong in wrongs.values():
            assert check(check(wrong).function).state == "right"
