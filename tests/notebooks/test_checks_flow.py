"""The checks of notebook 09, fed right answers and wrong ones: they must call each mistake by its name."""

import torch
import torch.nn.functional as F

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import flow

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def flow_loss(network, x0, noise, t, end=1.0, target=lambda x0, noise, x_t: noise - x0, told=lambda t: t,
              power=1):
    """Picture by picture, by interpolation, with PyTorch's own loss."""
    losses = []
    for i in range(len(x0)):
        level = t[i : i + 1]
        x_t = torch.lerp(x0[i : i + 1], noise[i : i + 1], (level if end else 1 - level).item() ** power)
        v = network(x_t, told(level))
        losses.append(F.mse_loss(v, target(x0[i : i + 1], noise[i : i + 1], x_t)))
    return torch.stack(losses).mean()


def with_target(target):
    return lambda *args: flow_loss(*args, target=target)


def column(t):
    return t.reshape(-1, 1, 1, 1)


def on_the_line(x0, noise, t):
    return x0 + t * (noise - x0)


def clean_guess(network, x0, noise, t):
    x_t = on_the_line(x0, noise, column(t))
    return F.mse_loss(x_t - column(t) * network(x_t, t), x0)


def measured(measure):
    def loss(network, x0, noise, t):
        return measure(network(on_the_line(x0, noise, column(t)), t) - noise + x0)
    return loss


def seeing(choose):
    return lambda network, x0, noise, t: F.mse_loss(network(choose(x0, noise), t), noise - x0)


def level_of(choose):
    def loss(network, x0, noise, t):
        return F.mse_loss(network(on_the_line(x0, noise, choose(t)), t), noise - x0)
    return loss


def with_roots(network, x0, noise, t):
    x_t = (1 - column(t)) ** 0.5 * x0 + column(t) ** 0.5 * noise
    return F.mse_loss(network(x_t, t), noise - x0)


FLOW_LOSS = {
    "the sign is wrong": with_target(lambda x0, noise, x_t: x0 - noise),
    "time runs the other way": lambda *args: flow_loss(*args, end=0.0,
                                                       target=lambda x0, noise, x_t: x0 - noise),
    "two ends of the line are swapped": lambda *args: flow_loss(*args, end=0.0),
    "so DDPM's network": with_target(lambda x0, noise, x_t: noise),
    "the target is the picture": with_target(lambda x0, noise, x_t: x0),
    "which is t v": with_target(lambda x0, noise, x_t: x_t - x0),
    "those are DDPM's": with_roots,
    "times t^2": clean_guess,
    "told 1 - t": lambda *args: flow_loss(*args, told=lambda t: 1 - t),
    "told 1000 t": lambda *args: flow_loss(*args, told=lambda t: t * 1000),
    "sees the clean picture": seeing(lambda x0, noise: x0),
    "sees the noise alone": seeing(lambda x0, noise: noise),
    "not squared": measured(lambda error: error.abs().mean()),
    "the squares are summed:": measured(lambda error: (error * error).sum()),
    "summed over a picture": measured(lambda error: error.flatten(1).square().sum(1).mean()),
    "a root too many": measured(lambda error: error.square().mean() ** 0.5),
    "along the width": level_of(lambda t: t),
    "the first level": level_of(lambda t: t[0]),
    "the mean level": level_of(lambda t: t.sum() / len(t)),
    "view it as (B, 1, 1, 1)": level_of(lambda t: t.view(1, -1, 1, 1).repeat(1, 1, 1, 1)),
    "a loss is one number": measured(lambda error: error.square().mean((1, 2, 3))),
    "a Tensor expected": lambda *args: flow_loss(*args).item(),
    "no common mistake": lambda *args: flow_loss(*args, power=2),
}


def heun(denoise, x_t, t, t_next, asked=None, at=None, weights=(0.5, 0.5), start=0.0, last=True):
    """The trapezium rule, by weights; asked, at: where and at which level the second velocity is taken."""
    h = t_next - t
    v = denoise(x_t, t)
    if last and t_next == 0:
        return torch.add(x_t, v, alpha=h)
    later = denoise(x_t + h * v if asked is None else asked(x_t, v), t_next if at is None else at)
    return x_t + start * h * v + h * (weights[0] * v + weights[1] * later)


def euler(denoise, x_t, t, t_next):
    return x_t - (t - t_next) * denoise(x_t, t)


def half_way(denoise, x_t, t, t_next):
    if t_next == 0:
        return euler(denoise, x_t, t, t_next)
    middle = 0.5 * t + 0.5 * t_next
    return x_t - (t - t_next) * denoise(euler(denoise, x_t, t, middle), middle)


def two_eulers(denoise, x_t, t, t_next):
    if t_next == 0:
        return euler(denoise, x_t, t, t_next)
    middle = 0.5 * t + 0.5 * t_next
    return euler(denoise, euler(denoise, x_t, t, middle), middle, t_next)


def refusing_0(denoise, x_t, t, t_next):
    def checked(x, level):
        if level == 0:
            raise ValueError("nothing was trained at the level 0")
        return denoise(x, level)
    return heun(checked, x_t, t, t_next, last=False)


def only_the_last(denoise, x_t, t, t_next):
    return heun(denoise, x_t, t, t_next, last=False) if t_next == 0 else euler(denoise, x_t, t, t_next)


HEUN = {
    "this is Euler's step": euler,
    "no x there has so much noise": lambda *args: heun(*args, asked=lambda x_t, v: x_t),
    "at the level t:": lambda denoise, x_t, t, t_next: heun(denoise, x_t, t, t_next, at=t),
    "only the second velocity": lambda *args: heun(*args, weights=(0, 1)),
    "twice too long": lambda *args: heun(*args, weights=(1, 1)),
    "or you walk twice": lambda *args: heun(*args, start=1.0),
    "a second Euler step": lambda *args: heun(*args, start=1.0, weights=(0, 1)),
    "added half way": lambda *args: heun(*args, start=0.5),
    "the sign of the step": lambda denoise, x_t, *levels: 2 * x_t - heun(denoise, x_t, *levels),
    "the look ahead goes the wrong way": lambda denoise, x_t, t, t_next: heun(
        denoise, x_t, t, t_next, asked=lambda x, v: x + (t - t_next) * v),
    "asked for at x0_hat": lambda denoise, x_t, t, t_next: heun(denoise, x_t, t, t_next,
                                                                asked=lambda x, v: x - t * v),
    "midpoint method": half_way,
    "two Euler steps of half the length": two_eulers,
    "where no network was trained": lambda *args: heun(*args, last=False),
    "the step is Euler's": refusing_0,
    "upside down": only_the_last,
    "no common mistake": lambda *args: heun(*args, weights=(0.4, 0.6)),
    "return": lambda *args: None,
}


def levels(steps, tokens, ratio=lambda tokens: (tokens / 256) ** 0.5):
    """By the odds t / (1 - t), which the shift multiplies; the ends, whose odds are not finite, by hand."""
    found = [1.0]
    for k in range(steps - 1, 0, -1):
        odds = ratio(tokens) * (k / steps) / (1 - k / steps)
        found.append(odds / (1 + odds))
    return torch.tensor([*found, 0.0], dtype=torch.float64)


def with_ratio(ratio):
    return lambda steps, tokens: levels(steps, tokens, ratio)


def by(formula):
    def found(steps, tokens):
        return formula(1 - torch.arange(steps + 1, dtype=torch.float64) / steps, (tokens / 256) ** 0.5)
    return found


LEVELS = {
    "time runs backwards": lambda *args: levels(*args).flip(0),
    "nothing is shifted": with_ratio(lambda tokens: 1.0),
    "the root is forgotten": with_ratio(lambda tokens: tokens / 256),
    "goes the wrong way: *more*": with_ratio(lambda tokens: (256 / tokens) ** 0.5),
    "and lacks its root": with_ratio(lambda tokens: 256 / tokens),
    "the reference is missing": with_ratio(lambda tokens: tokens**0.5),
    "the side of the reference": with_ratio(lambda tokens: tokens / 16),
    "FLUX's shift": with_ratio(lambda tokens: torch.tensor(0.5 + 0.65 * (tokens - 256) / 3840).exp().item()),
    "leave 0..1": by(lambda t, shift: t * shift),
    "cut off at 1": by(lambda t, shift: (t * shift).clamp(0, 1)),
    "missing above the line": by(lambda t, shift: t / (1 + (shift - 1) * t)),
    "- t is missing": by(lambda t, shift: t * shift / (1 + shift * t)),
    "a power of t": by(lambda t, shift: t ** (1 / shift)),
    "shifted twice": with_ratio(lambda tokens: 2 * (tokens / 256) ** 0.5),
    "has 5 levels": lambda *args: levels(*args)[:-1],
    "the form with 1 / t": by(lambda t, shift: shift / (shift + 1 / t - 1) * (t / t)),
    "a tensor of levels": lambda *args: levels(*args).tolist(),
    "no common mistake": by(lambda t, shift: t * 0.9),
}


def keep_length(uncond, cond, scale, dim=1, power=2):
    """Unit vectors, cell by cell, times a length."""
    guided = torch.lerp(uncond, cond, scale)
    lengths = [torch.linalg.vector_norm(one, power, dim, keepdim=True) for one in (cond, guided)]
    return guided / small(lengths[1]) * lengths[0]


def scaled(factor):
    """The guided velocity times factor(|cond|, |guided|, |uncond|)."""
    def keep(uncond, cond, scale):
        guided = uncond + scale * (cond - uncond)
        lengths = [one.square().sum(1, keepdim=True).sqrt() for one in (cond, guided, uncond)]
        return guided * factor(*lengths)
    return keep


def small(length):
    return length.clamp(min=1e-12)


def by_contrast(uncond, cond, scale):
    guided = torch.lerp(uncond, cond, scale)
    return guided * (cond.flatten(1).std(1) / guided.flatten(1).std(1)).view(-1, 1, 1, 1)


KEEP_LENGTH = {
    "plain guidance": torch.lerp,
    "upside down": scaled(lambda cond, guided, uncond: guided / small(cond)),
    "*unconditional*": scaled(lambda cond, guided, uncond: uncond / small(guided)),
    "every cell gets length 1": lambda uncond, cond, scale: F.normalize(torch.lerp(uncond, cond, scale)),
    "not divided by its own": scaled(lambda cond, guided, uncond: cond),
    "for the whole picture": lambda *args: keep_length(*args, dim=(1, 2, 3)),
    "for each channel": lambda *args: keep_length(*args, dim=(2, 3)),
    "over the batch": lambda *args: keep_length(*args, dim=(0, 1)),
    "only signs can change": lambda uncond, cond, scale: torch.lerp(uncond, cond, scale).sign() * cond.abs(),
    "the contrast of a picture": by_contrast,
    "the root is forgotten": scaled(lambda cond, guided, uncond: cond**2 / small(guided**2)),
    "absolute values are summed": lambda *args: keep_length(*args, power=1),
    "the largest channel": lambda *args: keep_length(*args, power=float("inf")),
    "it only shortens": scaled(lambda cond, guided, uncond: (cond / small(guided)).clamp(max=1)),
    "the other way round": lambda uncond, cond, scale: F.normalize(cond) * torch.lerp(
        uncond, cond, scale).norm(dim=1, keepdim=True),
    "scale 1 would then overdo it": lambda uncond, cond, scale: keep_length(uncond, cond, scale + 1),
    "from cond to uncond": lambda uncond, cond, scale: keep_length(uncond, cond, 1 - scale),
    "guidance should turn it": lambda uncond, cond, scale: 1.0 * cond,
    "0 / 0": scaled(lambda cond, guided, uncond: cond / guided),
    "keepdim=True": lambda uncond, cond, scale: cond * cond.norm(dim=1),
    "no common mistake": scaled(lambda cond, guided, uncond: (cond / small(guided)) ** 0.5),
}

CHECKS = [
    (flow.check_flow_loss, flow_loss, FLOW_LOSS),
    (flow.check_heun, heun, HEUN),
    (flow.check_levels, levels, LEVELS),
    (flow.check_keep_length, keep_length, KEEP_LENGTH),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
