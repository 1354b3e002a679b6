"""The checks of notebook 11, fed right answers and wrong ones: they must call each mistake by its name."""

from math import e, log2

import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import latents

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def drawn(mean, log_variance, noise, power=0.5, times=1.0):
    """By powers of the variance."""
    return torch.addcmul(mean, log_variance.exp() ** power, times * noise)


def in_place(mean, log_variance, noise):
    return noise.mul_((log_variance / 2).exp()).add_(mean)


DRAWN = {
    "noise of its own": lambda mean, log_variance, noise: Normal(mean, log_variance.exp() ** 0.5).sample(),
    "multiplied by the *variance*": lambda *args: drawn(*args, power=1),
    "one root too many": lambda *args: drawn(*args, power=0.25),
    "sign of log_variance": lambda *args: drawn(*args, power=-0.5),
    "taken for the deviation": lambda mean, log_variance, noise: mean + noise * log_variance,
    "exp is missing": lambda mean, log_variance, noise: mean + noise * log_variance / 2,
    "variance is squared": lambda *args: drawn(*args, power=2),
    "deviation 1": lambda mean, log_variance, noise: noise + mean,
    "no noise is added": lambda mean, log_variance, noise: mean.clone(),
    "subtracted": lambda *args: drawn(*args, times=-1),
    "the mean is gone": lambda mean, log_variance, noise: drawn(0 * mean, log_variance, noise),
    "the mean is scaled": lambda mean, log_variance, noise: drawn(0 * mean, log_variance, mean + noise),
    "it multiplies the noise": lambda mean, log_variance, noise: mean + log_variance.exp().sqrt() + noise,
    "a root of log_variance": lambda mean, log_variance, noise: mean + log_variance.sqrt() * noise,
    "in place": in_place,
    "returned None": lambda mean, log_variance, noise: None,
    "a Tensor expected": lambda mean, log_variance, noise: (drawn(mean, log_variance, noise), mean),
    "no common mistake": lambda *args: drawn(*args, times=1.1),
}


def divergence(mean, log_variance, deviation=lambda v: (v / 2).exp(), each=lambda x: x, noise=1.0):
    """By torch's distributions."""
    found = kl_divergence(Normal(mean, deviation(log_variance)), Normal(torch.zeros_like(mean), noise))
    return each(found).flatten(1).sum(1)


def terms(squared=1.0, variance=1.0, one=1.0, logarithm=1.0):
    """The four terms, each by a factor."""
    def weighed(mean, log_variance):
        four = (squared * mean.pow(2).flatten(1).sum(1), variance * log_variance.exp().flatten(1).sum(1),
                -one * mean[0].numel(), -logarithm * log_variance.flatten(1).sum(1))
        return sum(four) / 2
    return weighed


def with_mean(change):
    return lambda mean, log_variance: terms(squared=0)(mean, log_variance) + change(mean).sum((1, 2, 3)) / 2


def other_way(mean, log_variance):
    there = Normal(mean, log_variance.exp().sqrt())
    return kl_divergence(Normal(torch.zeros_like(mean), torch.ones_like(mean)), there).sum((1, 2, 3))


def pooled(mean, log_variance):
    return divergence(mean, log_variance).sum()


DIVERGENCE = {
    "the half in front": lambda *args: 2 * divergence(*args),
    "never negative": lambda *args: -divergence(*args),
    "is their *sum*": lambda mean, log_variance: divergence(mean, log_variance) / mean[0].numel(),
    "the mean is missing": terms(squared=0),
    "not squared": with_mean(lambda mean: mean),
    "|mean| is taken": with_mean(torch.abs),
    "-1 is missing": terms(one=0),
    "logarithm is added": terms(logarithm=-1),
    "logarithm is missing": terms(logarithm=0),
    "may grow without end": terms(variance=0),
    "stands where the variance should: that is exp": lambda mean, log_variance: (
        mean.square() + log_variance - 1 - log_variance).sum((1, 2, 3)) / 2,
    "logarithm of the *deviation*": lambda *args: divergence(*args, deviation=torch.exp),
    "without the half": lambda mean, log_variance: (
        terms(variance=0)(mean, log_variance) + log_variance.exp().sqrt().sum((1, 2, 3)) / 2),
    "other way round": other_way,
    "in bits": lambda *args: log2(e) * divergence(*args),
    "a logarithm already": lambda mean, log_variance: (
        mean.square() + log_variance - 1 - log_variance.log()).sum((1, 2, 3)) / 2,
    "one number for the batch": pooled,
    "some dimensions are left": lambda mean, log_variance: (
        mean.square() + log_variance.exp() - 1 - log_variance).sum((2, 3)) / 2,
    "in place": lambda mean, log_variance: divergence(mean.mul_(1.0).add_(0.1), log_variance),
    "no common mistake": lambda *args: divergence(*args, noise=1.5),
}


def floor(vae, x0, where, peak=2.0, trip=lambda vae, x0: vae.decode(vae.latents(x0)), power=2, channels=3):
    """One picture after the other, its pixels picked out."""
    found = []
    for one, region in zip(x0, where):
        error = (trip(vae, one[None])[0] - one)[region.expand_as(one)].abs() ** power
        found.append(20 * torch.log10(peak / (error.sum() / (channels * region.sum())) ** (1 / power)))
    return torch.stack(found)


def in_all(vae, x0, where):
    zeroed = torch.where(where, vae.round_trip(x0) - x0, 0)
    return 10 * (4 / zeroed.square().flatten(1).mean(1)).log10()


def per_pixel(vae, x0, where):
    each = 10 * (4 / (vae.round_trip(x0) - x0).square().mean(1)).log10()
    return torch.stack([values[region[0]].mean() for values, region in zip(each, where)])


def still_normalised(vae, x0):
    return vae.pixels(vae.latents(x0)).clamp(-1, 1)


FLOOR = {
    "turned round: `where`": lambda vae, x0, where: floor(vae, x0, where.logical_not()),
    "region is forgotten": lambda vae, x0, where: floor(vae, x0, where | True),
    "over *all* pixels": in_all,
    "4.8 dB are missing": lambda *args: floor(*args, channels=1),
    "figure of the whole batch": lambda vae, x0, where: -10 * torch.stack([
        (10 ** (-floor(vae, x0, where) / 10) * where.sum((1, 2, 3))).sum() / where.sum()] * len(x0)).log10(),
    "the range is 2": lambda *args: floor(*args, peak=1.0),
    "range is not squared": lambda *args: floor(*args, peak=2**0.5),
    "is for *roots*": lambda *args: 2 * floor(*args),
    "more dB should mean less error": lambda *args: -floor(*args),
    "natural logarithm": lambda *args: floor(*args) * torch.log(torch.tensor(10.0)),
    "that is the mean squared error": lambda *args: 4 * 10 ** (-floor(*args) / 10),
    "not squared before the mean": lambda *args: floor(*args, power=1),
    "averaged over pixels": per_pixel,
    "as the network has them": lambda *args: floor(*args, trip=lambda vae, x0: vae.decode(vae.encode(x0)[0])),
    "never put back": lambda *args: floor(*args, trip=still_normalised),
    "not clamped": lambda *args: floor(*args, trip=lambda vae, x0: vae.pixels(vae.encode(x0)[0])),
    "mean *and* log_variance": lambda vae, x0, where: vae.decode(vae.encode(x0)),
    "draws nothing": lambda vae, x0, where: vae(x0),
    "one number for the batch": lambda *args: floor(*args).mean(),
    "the mean goes over channels": lambda vae, x0, where: (vae.round_trip(x0) - x0).square().mean((2, 3)),
    "in place": lambda vae, x0, where: floor(vae, x0.mul_(0.5), where),
    "no common mistake": lambda *args: floor(*args) + 1,
}


def touched(edit_mask, factor, rule=any):
    """Cell by cell."""
    batch, _, height, width = edit_mask.shape
    found = torch.zeros(batch, 1, height // factor, width // factor, dtype=torch.bool)
    for b in range(batch):
        for i in range(height // factor):
            for j in range(width // factor):
                cell = edit_mask[b, 0, i * factor : (i + 1) * factor, j * factor : (j + 1) * factor]
                found[b, 0, i, j] = rule(cell.flatten().tolist())
    return found


def with_neighbours(edit_mask, factor):
    around = F.conv2d(touched(edit_mask, factor).float(), torch.ones(1, 1, 3, 3), padding=1)
    return around > 0.5


def far_apart(edit_mask, factor):
    batch, _, height, width = edit_mask.shape
    rows = edit_mask.reshape(batch, 1, factor, height // factor, width).amax(2)
    return rows.reshape(batch, 1, height // factor, factor, width // factor).amax(3)


TOUCHED = {
    "*all* of its pixels": lambda *args: touched(*args, rule=all),
    "*most* of its pixels": lambda *args: touched(*args, rule=lambda cell: sum(cell) > len(cell) / 2),
    "*half* of its pixels": lambda *args: touched(*args, rule=lambda cell: sum(cell) >= len(cell) / 2),
    "its first": lambda mask, factor: F.interpolate(mask.float(), scale_factor=1 / factor) > 0,
    "in its middle": lambda mask, factor: touched(
        mask, factor, rule=lambda cell: cell[factor // 2 * factor + factor // 2]),
    "all is turned round": lambda *args: touched(*args, rule=lambda cell: not any(cell)),
    "a *kept* pixel": lambda *args: touched(*args, rule=lambda cell: not all(cell)),
    "neighbours of those cells": with_neighbours,
    "cells of 4 x 4": lambda mask, factor: touched(mask, 4),
    "reshape is turned round": far_apart,
    "every cell may change": lambda *args: touched(*args, rule=lambda cell: True),
    "share one mask": lambda mask, factor: touched(mask.any(0, True), factor).repeat(len(mask), 1, 1, 1),
    "bools of them": lambda *args: touched(*args).float(),
    "numbers of 0 and 1": lambda *args: touched(*args).byte(),
    "pooling wants numbers": lambda mask, factor: F.max_pool2d(mask, factor),
    "not the number of cells": lambda mask, factor: mask.clone(),
    "steps of `factor`": lambda mask, factor: F.max_pool2d(mask.float(), factor, stride=1) > 0,
    "in place": lambda mask, factor: touched(mask.logical_not_(), factor),
    "no common mistake": lambda *args: touched(*args).flip(3),
}


CHECKS = [
    (latents.check_drawn, drawn, DRAWN),
    (latents.check_divergence, divergence, DIVERGENCE),
    (latents.check_floor, floor, FLOOR),
    (latents.check_touched, touched, TOUCHED),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)


def test_checking_leaves_the_random_numbers_of_the_notebook_alone():
    torch.manual_seed(3)
    expected = torch.randn(4)
    torch.manual_seed(3)
    latents.check_drawn(DRAWN["noise of its own"])
    assert torch.equal(torch.randn(4), expected)
