"""Checks for 00_tour: hold, max_difference."""

import torch

from minidiff.measure import preservation

from .verdict import Case, judge, normal


def check_hold(answer):
    """answer(painted, truth, edit_mask) -> painted where it may change, truth elsewhere."""
    painted, truth = normal(0, 2, 3, 4, 4), normal(1, 2, 3, 4, 4)
    one_mask, a_mask_each = two_masks()[:1], two_masks()
    cases = [Case("one mask for both pictures", (painted, truth, one_mask)),
             Case("a mask for each picture", (painted, truth, a_mask_each))]

    def hold(painted, truth, edit_mask):
        return torch.where(edit_mask, painted, truth)

    return judge("hold", answer, hold, cases, [
        (lambda painted, truth, edit_mask: hold(truth, painted, edit_mask),
         "the mask is inverted: edit_mask is True where pixels *may change*, so `painted` goes there and "
         "`truth` everywhere else."),
        (lambda painted, truth, edit_mask: painted * edit_mask,
         "the kept pixels became 0, which is grey: `truth` belongs there."),
        (lambda painted, truth, edit_mask: truth * ~edit_mask,
         "the hole became 0, which is grey: `painted` belongs there."),
        (lambda painted, truth, edit_mask: painted + truth * ~edit_mask,
         "the kept pixels are a sum of both: `painted` must be switched off where `truth` is on."),
        (lambda painted, truth, edit_mask: painted * edit_mask + truth,
         "the hole is a sum of both: `truth` must be switched off where `painted` is on."),
        (lambda painted, truth, edit_mask: painted,
         "nothing is held: this walk is free, and generates another picture."),
        (lambda painted, truth, edit_mask: truth,
         "nothing may change: this walk leads back to the picture it came from."),
        (lambda painted, truth, edit_mask: (painted + truth) / 2,
         "both are blended everywhere. A mask is a choice: one or the other, for each pixel."),
        (lambda painted, truth, edit_mask: hold(painted, truth, edit_mask[:1]),
         "all pictures get the mask of the first one: hand on the whole edit_mask."),
    ], raised={"shape of the mask":
               "edit_mask has one channel and the pictures have three, so painted[edit_mask] does not fit. "
               "torch.where(edit_mask, ...) stretches it over the channels."},
        praise="right. This is all that turns a generator into an editor.")


def check_max_difference(answer):
    """answer(source, output, region) -> the largest difference outside the region, in 255ths: (B,)."""
    source = normal(2, 2, 3, 4, 4).tanh()
    sign = torch.tensor([-1, 1]).view(2, 1, 1, 1)                     # one gets darker, the other brighter
    output = source + sign * 0.3 * normal(3, 2, 3, 4, 4).abs()
    cases = [Case("a darker picture and a brighter one", (source, output, two_masks())),
             Case("an identical output", (source, source.clone(), two_masks())),
             Case("one region for both pictures", (source, output, two_masks()[:1]))]

    def largest(source, output, region, keep=lambda region: ~region, size=torch.abs, scale=127.5):
        return scale * torch.where(keep(region), size(output - source), 0).amax((1, 2, 3))

    def reference(source, output, region):
        return preservation(source, output, region).max_diff

    def mean_of_kept(source, output, region):
        keep = (~region).expand_as(source)
        return 127.5 * ((output - source).abs() * keep).sum((1, 2, 3)) / keep.sum((1, 2, 3))

    return judge("max_difference", answer, reference, cases, [
        (lambda *args: largest(*args, keep=lambda region: region),
         "it looks *inside* the region, where the edit is supposed to change things. Kept is ~region."),
        (lambda *args: largest(*args, keep=torch.ones_like),
         "it looks at the whole picture: the edit itself is counted as damage. Look at ~region only."),
        (lambda *args: largest(*args, scale=255),
         "[0, 1] is taken for [-1, 1]: from black to white is a distance of 2 here, and 255 steps, so a "
         "difference is multiplied by 127.5."),
        (lambda *args: largest(*args, scale=1),
         "the unit is missing: 255ths are asked for, and a difference in [-1, 1] is multiplied by 127.5."),
        (lambda *args: largest(*args, size=lambda difference: difference),
         "the sign is kept: a pixel that got darker counts as no damage. Take .abs() before the maximum."),
        (lambda *args: largest(*args, size=torch.neg),
         "the sign is kept: a pixel that got brighter counts as no damage. Take .abs() before the maximum."),
        (lambda *args: largest(*args).amax().expand(len(args[0])),
         "one number for the whole batch came out: each picture has its own maximum, amax over (1, 2, 3)."),
        (mean_of_kept,
         "it takes the mean: a hundred intact pixels hide a ruined one. Take the maximum."),
        (lambda source, output, region: 127.5 * ((output - source).abs() * ~region).mean((1, 2, 3)),
         "it takes the mean, and over *all* pixels, the region's zeros too. Take the maximum."),
    ], raised={"the result is (2, 3) ":
               "each channel has its own maximum here: one a picture is asked for, amax over (1, 2, 3)."},
        praise="right. It is 0 only where not a single kept pixel has changed.")


def two_masks():
    """bool (2, 1, 4, 4): the left half of one picture, the top quarter of the other."""
    edit_mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    edit_mask[0, ..., :2] = True
    edit_mask[1, :, :1] = True
    return edit_mask
