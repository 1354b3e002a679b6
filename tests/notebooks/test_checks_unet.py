"""The checks of notebook 02, fed right answers and wrong ones: they must call each mistake by its name."""

from math import cos, sin

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import unet

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def level_waves(level, dim, factor=1000, power=-1, places=None, first=0, order=None, base=10_000):
    rows = []
    for fraction in level.tolist():
        numbers = range(first, first + dim // 2)
        angles = [factor * fraction * base ** (power * i / (places or dim // 2)) for i in numbers]
        rows.append((order or cosines_first)([cos(angle) for angle in angles], list(map(sin, angles))))
    return torch.tensor(rows)


def cosines_first(cosines, sines):
    return cosines + sines


def alternating(cosines, sines):
    return [value for pair in zip(cosines, sines) for value in pair]


LEVEL_WAVES = {
    "factor 1000 is missing": lambda level, dim: level_waves(level, dim, factor=1),
    "divided by 1000": lambda level, dim: level_waves(level / 1000, dim, factor=1),
    "minus sign": lambda level, dim: level_waves(level, dim, power=1),
    "only half of the range": lambda level, dim: level_waves(level, dim, places=dim),
    "log(10000) is missing": lambda level, dim: level_waves(level, dim, base=2.718281828),
    "i begins with 0": lambda level, dim: level_waves(level, dim, first=1),
    "2 pi too many": lambda level, dim: level_waves(level, dim, factor=6283.185307),
    "sines come first": lambda level, dim: level_waves(level, dim, order=lambda c, s: s + c),
    "alternate": lambda level, dim: level_waves(level, dim, order=alternating),
    "one by one": lambda level, dim: (level * 10_000 ** (-torch.arange(dim // 2) / (dim // 2))).cos(),
    "its own row": lambda level, dim: level_waves(level[:1], dim)[0],
    "float32": lambda level, dim: level_waves(level, dim + 2),
}


def drop_captions(captions, share, numbers):
    kept = list(captions)
    for i in (numbers < share).nonzero().flatten().tolist():
        kept[i] = ""
    return kept


DROP_CAPTIONS = {
    "kept, not dropped": lambda captions, share, u: ["" if n > share else c for c, n in zip(captions, u)],
    "for the whole batch": lambda captions, share, u: [""] * len(u) if u[0] < share else captions,
    "the first captions": lambda captions, share, u: [""] * (n := round(share * len(u))) + captions[n:],
    "beside the wrong pictures": lambda captions, share, u: [c for c, n in zip(captions, u) if n > share],
    "None stands": lambda captions, share, u: [None if n < share else c for c, n in zip(captions, u)],
    "nothing is dropped": lambda captions, share, u: list(captions),
    "a list expected": lambda *args: tuple(drop_captions(*args)),
}


def training_loss(network, process, x0, t, noise, weight):
    losses = []
    for i in range(len(x0)):
        a, s = process.signal_noise(t[i], x0[i : i + 1])
        x_t = a * x0[i] + s * noise[i]
        targets = {"x0": x0[i], "eps": noise[i], "v": noise[i] - x0[i]}
        want = targets[getattr(process, "predicts", "v")]
        gap = network(x_t, process.fraction(t[i : i + 1]))[0] - want
        losses.append(weight[i] * (gap**2).sum() / gap.numel())
    return torch.stack(losses)


def wrong_loss(see=None, told=None, wanted=None, measure=None):
    def loss(network, process, x0, t, noise, weight):
        x_t = process.corrupt(x0, t, noise)
        level = t if told == "t" else process.fraction(t)
        prediction = network(see(x0, noise) if see else x_t, level)
        target = wanted(x0, noise, x_t) if wanted else process.target(x0, noise)
        return (measure or plain)(prediction - target, weight)
    return loss


def plain(gap, weight):
    return weight * (gap**2).flatten(1).mean(1)


def measured_on_x0(network, process, x0, t, noise, weight):
    x_t = process.corrupt(x0, t, noise)
    return plain(process.predict_x0(x_t, network(x_t, process.fraction(t)), t) - x0, weight)


TRAINING_LOSS = {
    "x0 is always the target": wrong_loss(wanted=lambda x0, noise, x_t: x0),
    "noise is always the target": wrong_loss(wanted=lambda x0, noise, x_t: noise),
    "teaches it to copy": wrong_loss(wanted=lambda x0, noise, x_t: x_t),
    "measured on x0_hat": measured_on_x0,
    "shown x0, the answer": wrong_loss(see=lambda x0, noise: x0),
    "at full strength": wrong_loss(see=lambda x0, noise: x0 + noise),
    "is told t": wrong_loss(told="t"),
    "weight is forgotten": wrong_loss(measure=lambda gap, weight: plain(gap, 1)),
    "summed over the pixels": wrong_loss(measure=lambda gap, weight: weight * (gap**2).flatten(1).sum(1)),
    "not squared": wrong_loss(measure=lambda gap, weight: weight * gap.abs().flatten(1).mean(1)),
    "root too many": wrong_loss(measure=lambda gap, weight: weight * plain(gap, 1).sqrt()),
    "weight is squared": wrong_loss(measure=lambda gap, weight: plain(weight.view(-1, 1, 1, 1) * gap, 1)),
    "one number for the whole batch": wrong_loss(measure=lambda gap, weight: plain(gap, weight).mean()),
}


def follow(mean, weights, step, limit, late=0, least=min):
    d = least(limit, (1 + late + step) / (10 + late + step))
    return weights + d * (mean - weights)


FOLLOW = {
    "swapped": lambda mean, weights, step, limit: follow(weights, mean, step, limit),
    "warm-up is missing": lambda mean, weights, step, limit: limit * mean + (1 - limit) * weights,
    "limit is missing": lambda mean, weights, step, limit: follow(mean, weights, step, 1),
    "max stands": lambda *args: follow(*args, least=max),
    "it is (1 + step)": lambda mean, weights, k, limit: torch.lerp(weights, mean, min(limit, k / (10 + k))),
    "off by one step": lambda *args: follow(*args, late=1),
    "not scaled": lambda mean, weights, k, limit: min(limit, (1 + k) / (10 + k)) * mean + weights,
    "returns the weights": lambda mean, weights, step, limit: weights.clone(),
    "in place": lambda mean, weights, k, limit: mean.lerp_(weights, 1 - min(limit, (1 + k) / (10 + k))),
}

CHECKS = [
    (unet.check_level_waves, level_waves, LEVEL_WAVES),
    (unet.check_drop_captions, drop_captions, DROP_CAPTIONS),
    (unet.check_training_loss, training_loss, TRAINING_LOSS),
    (unet.check_follow, follow, FOLLOW),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
