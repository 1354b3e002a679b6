"""The checks of notebook 08, fed right answers and wrong ones: they must call each mistake by its name."""

import torch
from torch.nn.functional import conv2d

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import spatial

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def near(y, horizon, first=0.1, span=None):
    """How near the ground is at y: from `first` at the horizon to 1 at the lower edge."""
    return first + (1 - first) * (y - horizon) / (1 - horizon if span is None else span)


def depth_map(masks, baselines, horizon, half=0.5, order="near", low=-1.0, high=1.0, at=near, sky=True):
    """Pixel by pixel, the things painted one over the other, the nearest last."""
    _, height, width = masks.shape
    found = torch.zeros(height, width)
    for i in range(height):
        y = (i + half) / height
        if y > horizon or not sky:
            found[i] = at(y, horizon)
    things = sorted(zip(baselines.tolist(), masks), key=lambda thing: thing[0], reverse=order == "far")
    for baseline, mask in things if order != "given" else zip(baselines.tolist(), masks):
        found[mask] = at(baseline, horizon)
    return torch.stack([low + (high - low) * found] * 3)[None]


def turned_order(masks, baselines, horizon):
    return depth_map(masks.flip(0), baselines.flip(0), horizon, order="given")


def on_top_of_each_other(masks, baselines, horizon):
    ground = (depth_map(masks[:0], baselines[:0], horizon) + 1) / 2
    nearness = sum(mask * near(y, horizon) for mask, y in zip(masks.float(), baselines.tolist()))
    return 2 * torch.where(masks.any(0), nearness, ground) - 1


def as_near_as_its_top(masks, baselines, horizon):
    tops = [min(mask.nonzero()[:, 0].tolist()) / masks.shape[1] for mask in masks]
    return depth_map(masks, torch.tensor(tops), horizon, order="given")


DEPTH_MAP = {
    "from 0 to 1": lambda *args: depth_map(*args, low=0.0),
    "inverted": lambda *args: depth_map(*args, low=1.0, high=-1.0),
    "the last thing in the list": lambda *args: depth_map(*args, order="given"),
    "the first thing in the list": turned_order,
    "the farther one": lambda *args: depth_map(*args, order="far"),
    "added up": on_top_of_each_other,
    "only the ground": lambda masks, baselines, horizon: depth_map(masks[:0], baselines[:0], horizon),
    "not at its top": as_near_as_its_top,
    "y itself": lambda *args: depth_map(*args, at=lambda y, horizon: y),
    "the .1 is missing": lambda *args: depth_map(*args, at=lambda y, horizon: near(y, horizon, first=0.0)),
    "above the horizon": lambda *args: depth_map(*args, sky=False),
    "divided by 1 - h": lambda *args: depth_map(*args, at=lambda y, horizon: near(y, horizon, span=horizon)),
    "half a pixel too high": lambda *args: depth_map(*args, half=0.0),
    "one channel": lambda *args: depth_map(*args)[:, :1],
    "batch dimension": lambda *args: depth_map(*args)[0],
    "no common mistake": lambda *args: depth_map(*args, low=-0.9),
}


def spoken(skip, hint, weight, bias):
    """By torch's own convolution."""
    return conv2d(hint, weight[:, :, None, None], bias) + skip


def in_place(skip, hint, weight, bias):
    skip += conv2d(hint, weight[:, :, None, None], bias)
    return skip


def scaled(skip, hint, factor, bias):
    """A factor a channel in place of the weights."""
    return skip + hint * factor[:, None, None] + bias[:, None, None]


SPOKEN = {
    "transposed": lambda skip, hint, weight, bias: spoken(skip, hint, weight.mT, bias),
    "bias is missing": lambda skip, hint, weight, bias: spoken(skip, hint, weight, None),
    "along the width": lambda skip, hint, weight, bias: spoken(skip, hint, weight, None) + bias,
    "along the height": lambda skip, hint, weight, bias: spoken(skip, hint, weight, None) + bias[:, None],
    "the skip is gone": lambda skip, hint, weight, bias: spoken(0 * skip, hint, weight, bias),
    "as it is": lambda skip, hint, weight, bias: hint + skip,
    "together": lambda skip, hint, weight, bias: spoken(0, hint + skip, weight, bias),
    "the two are swapped": lambda skip, hint, weight, bias: spoken(hint, skip, weight, bias),
    "multiplied": lambda skip, hint, weight, bias: skip + skip * spoken(0, hint, weight, bias),
    "subtracted": lambda skip, hint, weight, bias: spoken(skip, hint, -weight, -bias),
    "to itself only": lambda skip, hint, weight, bias: scaled(skip, hint, weight.diag(), bias),
    "summed before": lambda skip, hint, weight, bias: scaled(skip, hint, weight.sum(1), bias),
    "not heard at all": lambda skip, hint, weight, bias: skip.clone(),
    "returned None": lambda skip, hint, weight, bias: None,
    "in place": in_place,
    "no common mistake": lambda skip, hint, weight, bias: spoken(skip, hint, 0.5 * weight, bias),
}


def follow(network, x_t, map, text, no_text, scale, see=(1, 1), read=(0, 1), dark=0.0, order=(0, 1)):
    """As a weighted sum of the two.  see: the map.  read: the text, for each of the two questions."""
    texts = [text if one else torch.stack([no_text] * len(text)) for one in read]
    maps = [map if one else torch.full_like(map, dark) for one in see]
    both = network(x_t.repeat(2, 1, 1, 1), torch.cat(texts), torch.cat(maps))
    found = both[: len(x_t)], both[len(x_t):]
    return (1 - scale) * found[order[0]] + scale * found[order[1]]


def weighted(weights):
    """weights: scale -> those of the predictions without and with text."""
    def guided(network, x_t, map, text, no_text, scale):
        empty = torch.stack([no_text] * len(text))
        found = network(torch.cat([x_t, x_t]), torch.cat([empty, text]), torch.cat([map, map]))
        a, b = weights(scale)
        return a * found[: len(x_t)] + b * found[len(x_t):]
    return guided


def in_two_passes(network, x_t, map, text, no_text, scale):
    without, having = network(x_t, no_text.repeat(len(text), 1), map), network(x_t, text, map)
    return without.lerp(having, scale)


def taken_one_by_one(network, x_t, map, text, no_text, scale):
    empty = no_text.repeat(len(text), 1)
    found = network(torch.cat([x_t, x_t]), torch.cat([empty, text]), torch.cat([map, map]))
    return (1 - scale) * found[::2] + scale * found[1::2]


def noised_one_by_one(network, x_t, map, text, no_text, scale):
    many = torch.stack([x_t, x_t], 1).flatten(0, 1)
    texts = torch.cat([no_text.repeat(len(text), 1), text])
    without, having = network(many, texts, torch.cat([map, map])).chunk(2)
    return (1 - scale) * without + scale * having


FOLLOW = {
    "two passes": in_two_passes,
    "gets zeros": lambda *args: follow(*args, see=(0, 1)),
    "gets black": lambda *args: follow(*args, see=(0, 1), dark=-1.0),
    "walks *away*": lambda *args: follow(*args, see=(1, 0)),
    "by the map": lambda *args: follow(*args, see=(0, 1), read=(1, 1)),
    "the two are swapped": lambda *args: follow(*args, order=(1, 0)),
    "there is no guidance": lambda *args: follow(*args, read=(1, 1)),
    "is returned as it is": weighted(lambda scale: (0, 1)),
    "the text is never read": lambda *args: follow(*args, read=(0, 0)),
    "from the prediction with text": weighted(lambda scale: (-scale, 1 + scale)),
    "not their difference": weighted(lambda scale: (1, scale)),
    "the start is missing": weighted(lambda scale: (-scale, scale)),
    "taken apart one by one": taken_one_by_one,
    "picture by picture": noised_one_by_one,
    "one batch needs 2 B": lambda network, x_t, map, text, no_text, scale: network(
        x_t, torch.cat([text, text]), map),
    "in place": lambda network, x_t, map, text, no_text, scale: follow(
        network, x_t.mul_(2), map, text, no_text, scale),
    "a Tensor expected": lambda *args: tuple(follow(*args)),
    "no common mistake": weighted(lambda scale: (0.5, 0.5)),
}


def explained(picture, parts, per_part=torch.mean, around=torch.mean):
    """The variance *between* the parts over the whole, by sums of squares."""
    shown = picture[:, parts.any(0)].double()                                       # (3, N)
    centre = torch.stack([around(channel) for channel in shown])
    between = torch.zeros(())
    for part in parts:
        colour = torch.stack([per_part(channel) for channel in picture[:, part].double()])
        between = between + part.sum() * (colour - centre).square().sum()
    return (between / (shown - centre[:, None]).square().sum()).float()


def left_over(picture, parts, fit, centre, power=2, counted=None):
    """1 - |picture - fit|^p / |picture - centre|^p over the counted pixels, all parts unless given."""
    counted = parts.any(0) if counted is None else counted
    flat = centre.view(3, 1, 1).repeat(1, *picture.shape[1:])
    for part in parts:
        flat[:, part] = fit(picture[:, part]).view(3, 1)
    centre = centre.view(3, 1, 1)
    rest, total = ((picture - other)[:, counted].abs().pow(power).sum() for other in (flat, centre))
    return 1 - rest / total


def colour(values):
    return values.mean(1)


def counted_colour(picture, parts):
    return picture[:, parts.any(0)].mean(1)


def grey(values):
    return values.mean().repeat(3)


def everywhere(picture, parts):
    counted = torch.ones_like(parts[0])
    return left_over(picture, parts, colour, picture.flatten(1).mean(1), counted=counted)


def mean_over_parts(picture, parts):
    centre = counted_colour(picture, parts)[:, None]
    shares = [1 - (picture[:, part] - picture[:, part].mean(1, keepdim=True)).square().sum()
              / (picture[:, part] - centre).square().sum() for part in parts]
    return sum(shares) / len(shares)


def parts_count_the_same(picture, parts):
    shown = picture[:, parts.any(0)]
    colours = torch.stack([picture[:, part].mean(1) for part in parts])              # (R, 3)
    between = (colours - shown.mean(1)).square().sum(1).mean()
    return between / shown.var(1, correction=0).sum()


def mean_over_channels(picture, parts):
    shares = [explained(channel[None].repeat(3, 1, 1), parts) for channel in picture]
    return torch.stack(shares).mean()


def with_centre(centre, fit=colour, **options):
    return lambda picture, parts: left_over(picture, parts, fit, centre(picture, parts), **options)


EXPLAINED = {
    "*not* explained": lambda picture, parts: 1 - explained(picture, parts),
    "upside down": lambda picture, parts: 1 - 1 / (1 - explained(picture, parts)),
    "a root too many": lambda picture, parts: 1 - (1 - explained(picture, parts)).sqrt(),
    "not squared": with_centre(counted_colour, power=1),
    "median": with_centre(counted_colour, fit=lambda values: values.median(1).values),
    "one grey: a colour": with_centre(counted_colour, fit=grey),
    "around one grey": with_centre(lambda picture, parts: grey(picture[:, parts.any(0)])),
    "around 0": with_centre(lambda picture, parts: torch.zeros(3)),
    "in no part are counted": everywhere,
    "of the whole picture": with_centre(lambda picture, parts: picture.mean((1, 2))),
    "small parts then count": mean_over_parts,
    "sum over *pixels*": parts_count_the_same,
    "a share for each channel": mean_over_channels,
    "whatever is drawn": lambda picture, parts: torch.ones(()),
    "a number for each channel": lambda picture, parts: explained(picture, parts).repeat(3),
    "a Tensor expected": lambda picture, parts: explained(picture, parts).item(),
    "no common mistake": lambda picture, parts: 0.9 * explained(picture, parts),
}


CHECKS = [
    (spatial.check_depth_map, depth_map, DEPTH_MAP),
    (spatial.check_spoken, spoken, SPOKEN),
    (spatial.check_follow, follow, FOLLOW),
    (spatial.check_explained, explained, EXPLAINED),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
