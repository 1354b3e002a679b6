"""Checks for 02_the_unet_and_ddpm_training: level_waves, drop_captions, training_loss, follow."""

from math import e, log, pi

import torch

from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

from .verdict import Case, judge, normal


def check_level_waves(answer):
    """answer(level, dim) -> (B, dim): cosines, then sines, of 1000 level w_i."""
    few = (4, [0, 0.0012, 0.0031]), (6, [0.0002, 0.0005])    # low, so that rising frequencies stay exact
    cases = [Case(f"dim = {dim}", (torch.tensor(levels), dim)) for dim, levels in few]

    def waves(factor=1000, base=10000, first=0, share=2, sign=-1, join=lambda *halves: torch.cat(halves, 1)):
        def embed(level, dim):
            i = torch.arange(first, first + dim // 2)
            angle = factor * level[:, None] * torch.exp(sign * log(base) * share * i / dim)    # (B, dim / 2)
            return join(angle.cos(), angle.sin())
        return embed

    return judge("level_waves", answer, waves(), cases, [
        (waves(factor=1),
         "the factor 1000 is missing: the frequencies are made for positions 0..1000, so on 0..1 all but the "
         "first few never turn, and the network cannot tell one level from the next."),
        (waves(factor=1 / 1000),
         "the level is divided by 1000: it is a fraction already, so multiply."),
        (waves(sign=1),
         "the minus sign in the exponent is missing: frequencies *fall* from 1 to nearly 1 / 10000, they "
         "do not rise."),
        (waves(share=1),
         "the exponent is i / dim: there are dim / 2 frequencies, so it is i / (dim / 2), or only half of "
         "the range is used."),
        (waves(base=e),
         "log(10000) is missing in exp(-log(10000) i / (dim / 2)): that is how 10000^(-i / (dim / 2)) is "
         "written with exp."),
        (waves(first=1),
         "i begins with 0, not 1: the fastest wave has the frequency 1."),
        (waves(factor=2000 * pi),
         "there is a 2 pi too many: the angle is 1000 level w_i."),
        (waves(join=lambda cos, sin: torch.cat([sin, cos], 1)),
         "sines come first: a network could learn from that too, but the shipped weights expect cosines "
         "first."),
        (waves(join=lambda cos, sin: torch.stack([cos, sin], 2).flatten(1)),
         "cosines and sines alternate: the shipped weights expect all cosines, then all sines."),
    ], raised={
        "must match the size":
            "levels and frequencies are multiplied one by one: level[:, None] makes the levels a column, so "
            "that each meets every frequency.",
        "the result is (4,) ":
            "there is one row for all levels: level[:, None] makes the levels a column, and each gets its "
            "own row.",
    }, praise="right. Slow waves say roughly which level it is, fast ones say exactly.")


def check_drop_captions(answer):
    """answer(captions, share, numbers) -> captions; numbers: one uniform number 0..1 a caption."""
    captions = ["a red house", "a car at night", "a pine", "a sketch of a tree", "a sign", "a blue car"]
    cases = []
    for seed, share in [(0, 0.3), (3, 0.15), (7, 0.6), (1, 0)]:
        numbers = torch.rand(len(captions), generator=torch.Generator().manual_seed(seed))
        cases.append(Case(f"share = {share}", (captions, share, numbers)))

    def emptied(dropped, null=""):
        def drop(captions, share, numbers):
            return [null if dropped(number, share, i, numbers) else caption
                    for i, (caption, number) in enumerate(zip(captions, numbers.tolist(), strict=True))]
        return drop

    def below(number, share, i, numbers):
        return number < share

    return judge("drop_captions", answer, emptied(below), cases, [
        (lambda captions, share, numbers: captions,
         'nothing is dropped: such a network never meets "", which guidance asks it about at every step.'),
        (emptied(lambda number, share, i, numbers: number >= share),
         "the share is kept, not dropped: a number *below* the share empties its caption."),
        (emptied(lambda number, share, i, numbers: numbers[0] < share),
         "one number decides for the whole batch: each picture has its own, or whole steps learn nothing "
         "of captions."),
        (emptied(lambda number, share, i, numbers: i < round(share * len(numbers))),
         "it is always the first captions that go: the numbers decide, so that it is chance which ones, and "
         "how many."),
        (lambda captions, share, numbers:
             [caption for caption, number in zip(captions, numbers.tolist(), strict=True) if number >= share],
         'captions are taken out of the list: then they stand beside the wrong pictures. Put "" in their '
         'place.'),
        (emptied(below, null=None),
         'None stands for a dropped caption: the text encoder reads strings, and "" is the one that says '
         'nothing.'),
    ], praise='right. This is all it takes for one network to draw with a caption and without.')


def check_training_loss(answer):
    """answer(network, process, x0, t, noise, weight) -> (B,), for three kinds of target."""
    x0, noise = normal(0, 3, 3, 4, 4).clamp(-1, 1), normal(1, 3, 3, 4, 4)
    weight, levels = torch.tensor([1.0, 2.5, 5.0]), torch.tensor([150, 500, 870])
    cases = []
    kinds = [("DDPM that predicts x0", DDPM.cosine(1000, "x0"), levels),
             ("DDPM that predicts eps", DDPM.cosine(1000, "eps"), levels), ("Flow", Flow(), levels / 1000)]
    for name, process, t in kinds:
        cases.append(Case(name, (network, process, x0, t, noise, weight)))

    def loss(target=lambda process, x0, noise, x_t: process.target(x0, noise), shown=None,
             told=lambda process, t: process.fraction(t), measure=lambda gap: gap.square().mean((1, 2, 3)),
             weigh=lambda weight, losses: weight * losses):
        def one_batch(network, process, x0, t, noise, weight):
            x_t = process.corrupt(x0, t, noise)
            prediction = network(x_t if shown is None else shown(x0, noise), told(process, t))
            return weigh(weight, measure(prediction - target(process, x0, noise, x_t)))
        return one_batch

    def on_x0(network, process, x0, t, noise, weight):
        x_t = process.corrupt(x0, t, noise)
        x0_hat = process.predict_x0(x_t, network(x_t, process.fraction(t)), t)
        return weight * (x0_hat - x0).square().mean((1, 2, 3))

    return judge("training_loss", answer, loss(), cases, [
        (loss(target=lambda process, x0, noise, x_t: x0),
         "x0 is always the target: what a network predicts is its process's choice, so ask "
         "process.target(x0, noise)."),
        (loss(target=lambda process, x0, noise, x_t: noise),
         "the noise is always the target: what a network predicts is its process's choice, so ask "
         "process.target(x0, noise)."),
        (loss(target=lambda process, x0, noise, x_t: x_t),
         "the prediction is compared with x_t, which the network was shown: that teaches it to copy."),
        (on_x0,
         "the error is measured on x0_hat: compare the prediction itself with process.target(x0, noise). "
         "On x0_hat, an eps "
         "prediction's error counts (s / a)^2 times as much, at high levels thousands of times."),
        (loss(shown=lambda x0, noise: x0),
         "the network is shown x0, the answer: show it x_t = process.corrupt(x0, t, noise)."),
        (loss(shown=lambda x0, noise: x0 + noise),
         "the noise is added at full strength, whatever the level: show it x_t = process.corrupt(x0, t, "
         "noise)."),
        (loss(told=lambda process, t: t),
         "the network is told t: networks see the level as a fraction 0..1 of the whole, "
         "process.fraction(t)."),
        (loss(weigh=lambda weight, losses: losses),
         "the weight is forgotten: each picture's loss is multiplied by the weight of its level."),
        (loss(measure=lambda gap: gap.square().sum((1, 2, 3))),
         "squares are summed over the pixels: take their mean, or the loss grows with the size of the "
         "picture."),
        (loss(measure=lambda gap: gap.abs().mean((1, 2, 3))),
         "the error is not squared: only squares are least for the *mean* of all pictures that could have "
         "led here."),
        (loss(measure=lambda gap: gap.square().mean((1, 2, 3)).sqrt()),
         "there is a root too many: the loss is the mean square, not its root."),
        (loss(weigh=lambda weight, losses: weight**2 * losses),
         "the weight is squared too: weigh the squared error, not the difference."),
    ], raised={
        "the result is () ": "it gives one number for the whole batch: keep one loss a picture, (B,), "
        "since each has a level "
                             "and a weight of its own. The mean is over channels and pixels: .mean((1, 2, "
                             "3)).",
    }, praise="right, for x0, eps and v alike: the process says what the target is.")


def network(x_t, level):
    """A stand-in: answers differently for every picture and level. level: (B,)."""
    return torch.tanh(1.3 * x_t) * (0.4 + level.float().view(-1, 1, 1, 1))


def check_follow(answer):
    """answer(mean, weights, step, limit) -> the new mean."""
    cases = [Case(f"step = {step}, limit = {limit}", (normal(2, 5), normal(3, 5), step, limit))
             for step, limit in [(0, 0.999), (40, 0.999), (40, 0.5), (50_000, 0.999)]]

    def moving(decay, add=lambda mean, weights, d: d * mean + (1 - d) * weights):
        return lambda mean, weights, step, limit: add(mean, weights, decay(step, limit))

    def warm(step, limit):
        return min(limit, (1 + step) / (10 + step))

    return judge("follow", answer, moving(warm), cases, [
        (moving(warm, add=lambda mean, weights, d: (1 - d) * mean + d * weights),
         "mean and weights are swapped: d is the share of the *mean* that survives; near 1 it hardly moves."),
        (moving(lambda step, limit: limit),
         "the warm-up is missing: from the first step on, the mean keeps nearly all of itself, and that "
         "is the random start. "
         "Take d = min(limit, (1 + step) / (10 + step))."),
        (moving(lambda step, limit: (1 + step) / (10 + step)),
         "the limit is missing: without it d grows towards 1, and the mean of *all* weights so far never "
         "lets go of early ones."),
        (moving(lambda step, limit: max(limit, (1 + step) / (10 + step))),
         "max stands where min belongs: d is small at first, and never above the limit."),
        (moving(lambda step, limit: min(limit, step / (10 + step))),
         "the warm-up is step / (10 + step): it is (1 + step) / (10 + step)."),
        (moving(lambda step, limit: min(limit, (2 + step) / (11 + step))),
         "off by one step: step is the number of steps done *before*, so do not add 1 to it."),
        (moving(warm, add=lambda mean, weights, d: d * mean + weights),
         "the weights are not scaled: the shares d and 1 - d sum to 1, or the mean grows with every step."),
        (moving(warm, add=lambda mean, weights, d: weights),
         "it returns the weights: the mean keeps the share d of itself."),
    ], praise="right. The first step takes nine tenths of the weights, late ones a thousandth.")
