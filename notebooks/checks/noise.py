"""Checks for 01_noise_and_the_exact_denoiser: corrupt, posterior_mean, ancestral_step, walk_down."""

import torch

from minidiff.denoisers.exact import Gaussian
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

from .verdict import Case, judge, normal


def check_corrupt(answer):
    """answer(x0, alpha_bar, noise) -> x_t."""
    x0, noise = normal(0, 2, 3, 4, 4), normal(1, 2, 3, 4, 4)
    cases = [Case(f"alpha_bar = {level}", (x0, torch.tensor(level), noise)) for level in (0.99, 0.7, 0.2)]

    def mix(signal, spread):
        return lambda x0, alpha_bar, noise: signal(alpha_bar) * x0 + spread(alpha_bar) * noise

    return judge("corrupt", answer, mix(lambda bar: bar**0.5, lambda bar: (1 - bar) ** 0.5), cases, [
        (mix(lambda bar: bar, lambda bar: 1 - bar),
         "both roots are forgotten. alpha_bar is the share of the *variance* that is signal, so pixels get "
         "sqrt(alpha_bar) and noise gets sqrt(1 - alpha_bar)."),
        (mix(lambda bar: bar**0.5, lambda bar: 1 - bar),
         "the root is forgotten on the noise: it gets sqrt(1 - alpha_bar)."),
        (mix(lambda bar: bar, lambda bar: (1 - bar) ** 0.5),
         "the root is forgotten on the picture: it gets sqrt(alpha_bar)."),
        (mix(lambda bar: (1 - bar) ** 0.5, lambda bar: bar**0.5),
         "signal and noise are swapped: alpha_bar near 1 means nearly clean."),
        (mix(lambda bar: bar**0.5, lambda bar: 1 - bar**0.5),
         "the noise gets 1 - sqrt(alpha_bar), but it is the *squares* of the two that sum to 1: it gets "
         "sqrt(1 - alpha_bar)."),
        (mix(lambda bar: bar**0.5, lambda bar: 1),
         "the noise is not scaled: at alpha_bar = 1 the picture must come out clean."),
        (mix(lambda bar: 1, lambda bar: (1 - bar) ** 0.5),
         "the picture is not scaled: it must fade as the noise grows, or the variance grows with it."),
    ], praise="right. The squares of the two factors sum to 1 at every level.")


def check_posterior_mean(answer):
    """answer(x_t, images, a, s) -> the mean of x0 given x_t, where all images are equally likely."""
    images = normal(2, 5, 3, 4, 4)
    cases = []
    for a, s in [(0.9, 0.9), (0.5, 2.5), (0.7, 1.5)]:
        cases.append(Case(f"a = {a}, s = {s}", (a * images[:3] + s * normal(3, 3, 3, 4, 4), images, a, s)))

    def distances(x_t, images, a):
        return (x_t[:, None] - a * images[None]).square().sum((2, 3, 4))               # (B, N)

    def weighing(score, dim=1):
        def mean(x_t, images, a, s):
            probability = score(distances(x_t, images, a), s).softmax(dim)             # (B, N)
            return torch.einsum("bn,nchw->bchw", probability, images)
        return mean

    reference = weighing(lambda gap, s: -gap / (2 * s**2))
    return judge("posterior_mean", answer, reference, cases, [
        (weighing(lambda gap, s: -gap / (2 * s)),
         "the square of s is missing: a normal density falls with |x_t - a x_i|^2 / (2 s^2)."),
        (weighing(lambda gap, s: -gap / s**2),
         "the 2 is missing: a normal density falls with |x_t - a x_i|^2 / (2 s^2)."),
        (weighing(lambda gap, s: gap / (2 * s**2)),
         "the minus sign is missing: so the *farthest* picture is the likeliest."),
        (weighing(lambda gap, s: -gap**0.5 / (2 * s**2)),
         "the distance is not squared: |x_t - a x_i|^2 is a sum of squares, without a root."),
        (weighing(lambda gap, s: -gap / images[0].numel() / (2 * s**2)),
         "the squares are averaged: every pixel is evidence of its own, so log probabilities are *summed* "
         "over pixels."),
        (weighing(lambda gap, s: -gap / (2 * s**2), dim=0),
         "the softmax runs over the batch: for each x_t, the probabilities of the *pictures* sum to 1."),
        (lambda x_t, images, a, s: reference(x_t, images, 1, s),
         "x_t is compared with x_i: at this level picture i has faded to a x_i."),
        (lambda x_t, images, a, s: images[distances(x_t, images, a).argmin(1)],
         "it gives the *likeliest* picture: the least squared error is made by the mean of all, weighted."),
        (lambda x_t, images, a, s: a * reference(x_t, images, a, s),
         "it averages the faded pictures a x_i: the answer is the mean of the *clean* ones, x_i."),
        (weighing(lambda gap, s: 0 * gap),
         "it ignores x_t and averages all pictures alike: that is right for pure noise only."),
    ], praise="right. This is the best possible denoiser of these pictures: no training can beat it.")


def check_ancestral_step(answer):
    """answer(x_t, x0_hat, a_t, s_t, a_next, s_next, noise) -> x at the next level."""
    process, (x_t, x0_hat, noise) = DDPM.linear(1000), (normal(seed, 2, 3, 4, 4) for seed in (4, 5, 6))
    cases = []
    for t, t_next in [(600, 590), (400, 100), (20, 0)]:
        levels = *process.signal_noise(t, x_t), *process.signal_noise(t_next, x_t)
        cases.append(Case(f"t = {t}, t_next = {t_next}", (x_t, x0_hat, *levels, noise)))

    def right_variance(a_t, s_t, a_next, s_next):
        return s_next**2 * (1 - (a_t / a_next * s_next / s_t) ** 2)

    def variance_up(a_t, s_t, a_next, s_next):
        return 1 - (a_t / a_next) ** 2

    def right_direction(x_t, x0_hat, a_t, s_t):
        return (x_t - a_t * x0_hat) / s_t

    def step(variance=right_variance, spread=None, shrink=True, direction=right_direction):
        def take(x_t, x0_hat, a_t, s_t, a_next, s_next, noise):
            var = variance(a_t, s_t, a_next, s_next)
            fresh = var**0.5 if spread is None else spread(a_t, s_t, a_next, s_next)
            old = (s_next**2 - var) ** 0.5 if shrink else s_next
            return a_next * x0_hat + old * direction(x_t, x0_hat, a_t, s_t) + fresh * noise
        return take

    too_much = "noise at the last step: where s_next = 0 the result is x0_hat, clean. "
    return judge("ancestral_step", answer, step(), cases, [
        (step(spread=right_variance),
         "the root of the variance is forgotten: noise is scaled by sqrt(var), a standard deviation."),
        (step(spread=lambda *levels: 0),
         "there is no fresh noise, yet eps_hat was shrunk to make room for it: add sqrt(var) noise."),
        (step(variance=lambda *levels: 0),
         "this is DDIM, the deterministic step. Here a part of the noise, sqrt(var), must be fresh."),
        (lambda x_t, x0_hat, a_t, s_t, a_next, s_next, noise: a_next * x0_hat + s_next * noise,
         "all noise is fresh: this corrupts x0_hat anew, and forgets the direction eps_hat that x_t came "
         "from."),
        (step(shrink=False),
         "fresh noise is added, but no old noise makes room: eps_hat gets sqrt(s_next^2 - var), or x is too "
         "noisy for its level."),
        (step(spread=lambda *levels: variance_up(*levels) ** 0.5),
         too_much + "Your fresh noise has the variance 1 - (a_t / a_next)^2 of the way *up*."),
        (step(variance=variance_up),
         too_much +
         "Your variance is 1 - (a_t / a_next)^2, that of the way *up*; the way down has s_next^2 (1 - (a_t "
         "s_next / (a_next s_t))^2)."),
        (step(spread=lambda a_t, s_t, a_next, s_next: s_t),
         too_much + "Your fresh noise is scaled by s_t, the level you leave."),
        (step(direction=lambda x_t, x0_hat, a_t, s_t: x_t - a_t * x0_hat),
         "eps_hat is not divided by s_t: only (x_t - a_t x0_hat) / s_t has variance 1, as noise should."),
        (step(direction=lambda x_t, x0_hat, a_t, s_t: (x_t - x0_hat) / s_t),
         "eps_hat starts from x_t - x0_hat: in x_t the picture has faded to a_t x0_hat, so subtract that."),
        (step(variance=lambda a_t, s_t, a_next, s_next: s_next**2 * (1 - a_t / a_next * s_next / s_t)),
         "a square is missing in the variance: s_next^2 (1 - (a_t s_next / (a_next s_t))^2)."),
    ], raised={
        "NaN": "the root of a negative number. Does time run backwards, with a_t and a_next, or s_t and "
               "s_next, swapped in your variance? t_next is *below* t, so a_next > a_t and s_next < s_t.",
    }, praise="right, at the last step too: s_next = 0 leaves x0_hat, without any `if`.")


def check_walk_down(answer):
    """answer(step, denoise, x, times) -> the picture at the end; step(x, prediction, t, t_next) -> x."""
    world, cases = Gaussian(normal(7, 3, 4, 4), 0.5 * torch.eye(48)), []
    ddpm, flow = DDPM.linear(100), Flow()
    for process, step, steps in [(ddpm, ddpm.ddim_step, 7), (flow, flow.euler_step, 5)]:
        arguments = step, world.denoiser(process), normal(8, 2, 3, 4, 4), process.times(steps)
        cases.append(Case(type(process).__name__, arguments))

    def along(pairs, asked=lambda t, t_next: t):
        def take(step, denoise, x, times):
            for t, t_next in pairs(times):
                x = step(x, denoise(x, asked(t, t_next)), t, t_next)
            return x
        return take

    def neighbours(times):
        return list(zip(times, times[1:], strict=False))

    return judge("walk_down", answer, along(neighbours), cases, [
        (along(lambda times: neighbours(times)[:-1]),
         "off by one level: the last step, to level 0, is missing, so some noise is left."),
        (along(lambda times: neighbours(times)[1:]),
         "off by one level: the first step, away from pure noise, is missing."),
        (along(neighbours, asked=lambda t, t_next: t_next),
         "off by one level: denoise is asked about t_next, but x still has the noise of level t."),
        (along(lambda times: [(times[0], times[-1])]),
         "denoise is asked only once: with one prediction all steps lead straight to the first x0_hat, the "
         "mean of all that is possible. Each step changes x, so ask again at each level."),
        (lambda step, denoise, x, times: x,
         "it returns the noise that it was given: assign what the step returns to x."),
    ], raised={
        "t_next < t expected":
            "time runs backwards: `times` goes from noise (high t) to data (0), so walk it in its order.",
    }, praise="right. Step, then loop: there is no mathematics in the loop.")
