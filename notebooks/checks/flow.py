"""Checks for 09_flow_matching: flow_loss, heun, levels, keep_length."""

import torch

from minidiff.process.flow import shift_for, shifted
from minidiff.process.guidance import cfg, norm_preserving

from .verdict import Case, judge, normal


def check_flow_loss(answer):
    """answer(network, x0, noise, t) -> a scalar."""
    cases = []
    for seed, (n, times) in enumerate([(4, (0.1, 0.35, 0.6, 0.9)), (2, (0.3, 0.8))]):
        x0, noise = normal(seed, n, 3, 4, 4), normal(seed + 10, n, 3, 4, 4)
        cases.append(Case(f"{n} pictures at t = {times}", (network, x0, noise, torch.tensor(times))))

    def column(t):
        return t.view(-1, 1, 1, 1)

    def line(x0, noise, t):
        return (1 - t) * x0 + t * noise

    def velocity(x0, noise, t):
        return noise - x0

    def loss(mix=line, target=velocity, told=lambda t: t, measure=lambda error: error.square().mean(),
             share=column):
        def of(network, x0, noise, t):
            guess = network(mix(x0, noise, share(t)), told(t))
            return measure(guess - target(x0, noise, share(t)))
        return of

    def of_the_guess(network, x0, noise, t):
        x_t = line(x0, noise, column(t))
        return (x_t - column(t) * network(x_t, t) - x0).square().mean()

    return judge("flow_loss", answer, loss(), cases, [
        (loss(target=lambda x0, noise, t: x0 - noise),
         "the sign is wrong: v is how x changes as t *grows*, and it grows towards the noise, so v = noise - "
         "x0."),
        (loss(mix=lambda x0, noise, t: line(x0, noise, 1 - t), target=lambda x0, noise, t: x0 - noise),
         "time runs the other way: t = 1 is data in your x_t and in your velocity. Half of the papers have "
         "it so; here 1 is noise."),
        (loss(mix=lambda x0, noise, t: line(x0, noise, 1 - t)),
         "the two ends of the line are swapped in x_t: at t = 1 it must be pure noise, so noise gets t, and "
         "x0 gets 1 - t."),
        (loss(target=lambda x0, noise, t: noise),
         "the target is the noise: so DDPM's network is trained. A flow's learns the velocity, noise - x0."),
        (loss(target=lambda x0, noise, t: x0),
         "the target is the picture: a flow's network learns the velocity, noise - x0."),
        (loss(target=lambda x0, noise, t: line(x0, noise, t) - x0),
         "the target is x_t - x0, which is t v: from x_t back to the picture. The velocity is the same all "
         "along the line, noise - x0."),
        (loss(mix=lambda x0, noise, t: (1 - t).sqrt() * x0 + t.sqrt() * noise),
         "roots in x_t: those are DDPM's. A flow goes straight, (1 - t) x0 + t noise."),
        (of_the_guess,
         "it compares the clean guess x_t - t v with x0: that is the loss times t^2, so levels near the data "
         "hardly count."),
        (loss(told=lambda t: 1 - t),
         "the network is told 1 - t: it must hear the level that x_t was mixed at."),
        (loss(told=lambda t: 1000 * t),
         "the network is told 1000 t: levels are fractions here, and `level_embedding` has the 1000 inside."),
        (loss(mix=lambda x0, noise, t: x0),
         "the network sees the clean picture: it must see x_t."),
        (loss(mix=lambda x0, noise, t: noise),
         "the network sees the noise alone: it must see x_t."),
        (loss(measure=lambda error: error.abs().mean()),
         "the error is not squared: only the *squared* error is least at the mean of all lines, which is the "
         "flow."),
        (loss(measure=lambda error: error.square().sum()),
         "the squares are summed: take their mean, or the loss grows with the picture."),
        (loss(measure=lambda error: error.square().sum((1, 2, 3)).mean()),
         "the squares are summed over a picture: take the mean there, too, or the loss grows with the "
         "picture."),
        (loss(measure=lambda error: error.square().mean().sqrt()),
         "a root too many: the loss is the mean of the squares."),
        (loss(share=lambda t: t),
         "t runs along the width of the picture, which happens to fit: each *picture* has a level of its "
         "own, so view t as (B, 1, 1, 1)."),
        (loss(share=lambda t: t[:1].view(1, 1, 1, 1)),
         "all pictures get the first level: each has its own, so view t as (B, 1, 1, 1)."),
        (loss(share=lambda t: t.mean().view(1, 1, 1, 1)),
         "all pictures get the mean level: each has its own, so view t as (B, 1, 1, 1)."),
    ], raised={
        "must match the size": "t has one number a picture: view it as (B, 1, 1, 1), so that it broadcasts.",
        "the result is (": "a loss is one number: take the mean over everything.",
    }, praise="right. Its best answer is the mean velocity of all lines through a point.")


def network(x_t, t):
    """A stand-in for the network: a different answer at every point and level."""
    return x_t.sin() * (1 + t.view(-1, 1, 1, 1)) + t.view(-1, 1, 1, 1) ** 2


def check_heun(answer):
    """answer(denoise, x_t, t, t_next) -> x at t_next."""
    cases = []
    for seed, (t, t_next) in enumerate([(0.8, 0.5), (0.5, 0.1), (0.3, 0)]):
        arguments = unsteady, normal(seed, 2, 3, 4, 4), t, t_next
        cases.append(Case(f"t = {t}, t_next = {t_next}", arguments))

    def landing(denoise, x_t, t, t_next):
        return x_t + (t_next - t) * denoise(x_t, t)

    def looking(where=landing, level=lambda t, t_next: t_next, join=lambda v, later: (v + later) / 2,
                leave=lambda x_t, landed: x_t, sign=1, plain=lambda t_next: t_next == 0):
        def step(denoise, x_t, t, t_next):
            landed = landing(denoise, x_t, t, t_next)
            if plain(t_next):
                return x_t + sign * (landed - x_t)
            later = denoise(where(denoise, x_t, t, t_next), level(t, t_next))
            return leave(x_t, landed) + sign * (t_next - t) * join(denoise(x_t, t), later)
        return step

    def midpoint(denoise, x_t, t, t_next):
        if t_next == 0:
            return landing(denoise, x_t, t, t_next)
        half = (t + t_next) / 2
        return x_t + (t_next - t) * denoise(landing(denoise, x_t, t, half), half)

    def two_halves(denoise, x_t, t, t_next):
        if t_next == 0:
            return landing(denoise, x_t, t, t_next)
        half = (t + t_next) / 2
        return landing(denoise, landing(denoise, x_t, t, half), half, t_next)

    return judge("heun", answer, looking(), cases, [
        (landing,
         "this is Euler's step: one velocity only. Ask again where it lands, and walk along the mean."),
        (looking(where=lambda denoise, x_t, t, t_next: x_t),
         "the second velocity is asked for at x_t, with the level of t_next: no x there has so much noise. "
         "Ask at the point where Euler lands."),
        (looking(level=lambda t, t_next: t),
         "the second velocity is asked for at the level t: but Euler has landed on t_next, and x has only so "
         "much noise."),
        (looking(where=lambda denoise, x_t, t, t_next: x_t, level=lambda t, t_next: t,
                 plain=lambda t_next: False),
         "both velocities are the same, at x_t and t: ask again where Euler lands."),
        (looking(join=lambda v, later: later),
         "only the second velocity is used: take the mean of the two."),
        (looking(join=lambda v, later: v + later),
         "the step is twice too long: the velocities are added up, not averaged; or, which is the same, a "
         "second Euler step starts where the first landed."),
        (looking(leave=lambda x_t, landed: landed),
         "the mean velocity is added where Euler landed: go back to x_t first, or you walk twice."),
        (looking(leave=lambda x_t, landed: (x_t + landed) / 2),
         "the mean velocity is added half way: it starts from x_t."),
        (looking(sign=-1),
         "the sign of the step is wrong: t_next - t is negative, and walks *against* v, towards the data."),
        (looking(where=lambda denoise, x_t, t, t_next: x_t + (t - t_next) * denoise(x_t, t)),
         "the look ahead goes the wrong way: Euler lands on x_t + (t_next - t) v; yours has t - t_next."),
        (looking(where=lambda denoise, x_t, t, t_next: x_t - t * denoise(x_t, t)),
         "the second velocity is asked for at x0_hat, all the way down: ask where Euler lands on t_next."),
        (midpoint,
         "this is the midpoint method: it asks half way, and uses that velocity alone. Of order 2, too, but "
         "Heun asks at t_next, and takes the mean."),
        (two_halves,
         "these are two Euler steps of half the length: as dear, and of order 1."),
        (looking(plain=lambda t_next: False),
         "the last step asks for the velocity at level 0, where no network was trained: where t_next is 0, "
         "the step is Euler's."),
        (looking(plain=lambda t_next: t_next != 0),
         "the condition is upside down: Euler's step where t_next *is* 0, Heun's elsewhere."),
    ], raised={
        "the level 0": "the last step asks for the velocity at level 0, where no network was trained: where "
                       "t_next is 0, the step is Euler's.",
    }, praise="right. Two calls a step, but for the last.")


def unsteady(x, t):
    """A stand-in for the flow, whose velocity changes with x and t."""
    return x.sin() * (1 + t) + t**2


def check_levels(answer):
    """answer(steps, tokens) -> (steps + 1,) levels, from 1 to 0."""
    cases = [Case(f"steps = {steps}, tokens = {tokens}", (steps, tokens))
             for steps, tokens in [(5, 256), (4, 4096), (6, 1024), (3, 64)]]

    def even(steps):
        return torch.linspace(1, 0, steps + 1, dtype=torch.float64)

    def root(tokens):
        return (tokens / 256) ** 0.5

    def moving(shift=root, move=shifted, start=even, finish=lambda t: t):
        return lambda steps, tokens: finish(move(start(steps), shift(tokens)))

    return judge("levels", answer, moving(), cases, [
        (moving(finish=lambda t: t.flip(0)),
         "time runs backwards: a walk begins at 1, pure noise, and ends at 0."),
        (moving(shift=lambda tokens: 1),
         "nothing is shifted: 4096 tokens need other levels than 256."),
        (moving(shift=lambda tokens: tokens / 256),
         "the root is forgotten: averaging n pixels divides the noise by sqrt(n), so the shift is "
         "sqrt(tokens / 256)."),
        (moving(shift=lambda tokens: 1 / root(tokens)),
         "the shift goes the wrong way: *more* tokens need more levels near the noise, so it is sqrt(tokens "
         "/ 256)."),
        (moving(shift=lambda tokens: 256 / tokens),
         "the shift goes the wrong way, and lacks its root: sqrt(tokens / 256)."),
        (moving(shift=lambda tokens: tokens**0.5),
         "the reference is missing: at 256 tokens nothing is shifted, so divide by 256 under the root."),
        (moving(shift=lambda tokens: tokens / 16),
         "the side of the reference is taken for its tokens: 256 under the root, or sqrt(tokens) / 16."),
        (moving(shift=shift_for),
         "this is FLUX's shift, a line for its logarithm: here the root is asked for, sqrt(tokens / 256)."),
        (moving(move=lambda t, shift: shift * t),
         "the levels are multiplied, and leave 0..1: it is the noise for each unit of signal, t / (1 - t), "
         "that is multiplied."),
        (moving(move=lambda t, shift: (shift * t).clamp(max=1)),
         "the levels are multiplied and cut off at 1: it is t / (1 - t) that is multiplied."),
        (moving(move=lambda t, shift: t / (shift * t + 1 - t)),
         "the shift is missing above the line: shift t / (shift t + 1 - t), so that 1 stays 1."),
        (moving(move=lambda t, shift: shift * t / (shift * t + 1)),
         "the - t is missing below the line: shift t / (shift t + 1 - t), so that 1 stays 1."),
        (moving(move=lambda t, shift: t ** (1 / shift)),
         "a power of t: that moves levels towards the noise, too, but the noise for each unit of signal is "
         "not multiplied by the same everywhere."),
        (moving(start=lambda steps: shifted(even(steps), 2)),
         "it is shifted twice, or by twice too much."),
    ], raised={
        "the result is (4,) float64: (5,)": "a walk of 4 steps has 5 levels, and both ends count: linspace(1,"
                                            " 0, steps + 1).",
        "the result is (4,) float32: (5,)": "a walk of 4 steps has 5 levels, and both ends count: linspace(1,"
                                            " 0, steps + 1).",
        "NaN": "a division by 0: the form with 1 / t fails at t = 0. Use shift t / (shift t + 1 - t).",
        "returned a list": "a list came: a tensor of levels is asked for.",
    }, praise="right. 1 stays 1 and 0 stays 0, and in between every level has sqrt(tokens / 256) times the "
              "noise for its signal.")


def check_keep_length(answer):
    """answer(uncond, cond, scale) -> the guided velocity, with the length of cond in every cell."""
    cases = []
    for seed, scale in enumerate([4.0, 1.5, 0.5]):
        uncond, cond = normal(seed, 2, 3, 4, 5), normal(seed + 10, 2, 3, 4, 5)
        cases.append(Case(f"scale {scale}", (uncond, cond, scale)))
    still = torch.ones(2, 3, 4, 5)
    still[0, :, 1, 2] = 0
    uncond, cond = normal(4, 2, 3, 4, 5) * still, normal(5, 2, 3, 4, 5) * still
    cases.append(Case("a cell without velocity", (uncond, cond, 3.0)))

    def length(velocity):
        return torch.linalg.vector_norm(velocity, dim=1, keepdim=True)

    def keeping(measure=length, guide=cfg, wanted=lambda uncond, cond: cond,
                turn=lambda wanted, found: wanted / found.clamp(min=1e-12)):
        def keep(uncond, cond, scale):
            guided = guide(uncond, cond, scale)
            return guided * turn(measure(wanted(uncond, cond)), measure(guided))
        return keep

    def over(*dims):
        return lambda velocity: torch.linalg.vector_norm(velocity, dim=dims, keepdim=True)

    def never_turned(uncond, cond, scale):
        return cond * length(cfg(uncond, cond, scale)) / length(cond).clamp(min=1e-12)

    return judge("keep_length", answer, norm_preserving, cases, [
        (cfg,
         "this is plain guidance: its length has not been brought back."),
        (keeping(turn=lambda wanted, found: found / wanted.clamp(min=1e-12)),
         "the ratio is upside down: multiply by the length that it should have, divide by the one that it "
         "has."),
        (keeping(wanted=lambda uncond, cond: uncond),
         "it gets the length of the *unconditional* prediction: it should have that of cond."),
        (keeping(turn=lambda wanted, found: 1 / found.clamp(min=1e-12)),
         "every cell gets length 1: multiply by the length of cond."),
        (keeping(turn=lambda wanted, found: wanted),
         "it is multiplied by the length of cond, but not divided by its own."),
        (keeping(measure=over(1, 2, 3)),
         "one length for the whole picture: measure each cell, over its channels only (dim=1)."),
        (keeping(measure=over(2, 3)),
         "one length for each channel, over the cells: measure each cell, over its channels (dim=1)."),
        (keeping(measure=over(0, 1)),
         "the length runs over the batch as well: pictures must not know of each other. Over channels only "
         "(dim=1)."),
        (keeping(measure=torch.abs),
         "every single number gets its size back, so only signs can change: a *cell* has a length, over all "
         "its channels."),
        (keeping(measure=lambda velocity: velocity.std(dim=(1, 2, 3), keepdim=True)),
         "this brings back the contrast of a picture (`rescaled_cfg` at 1): here each cell gets its length."),
        (keeping(measure=lambda velocity: velocity.square().sum(1, keepdim=True)),
         "the root is forgotten: a length is the *root* of the sum of squares."),
        (keeping(measure=lambda velocity: velocity.abs().sum(1, keepdim=True)),
         "absolute values are summed: a length is the root of the sum of *squares*."),
        (keeping(measure=lambda velocity: velocity.abs().amax(1, keepdim=True)),
         "the largest channel is taken for the length: it is the root of the sum of squares."),
        (keeping(turn=lambda wanted, found: (wanted / found.clamp(min=1e-12)).clamp(max=1)),
         "it only shortens: a cell that guidance has shortened gets its length back, too."),
        (never_turned,
         "it has the guided length and the direction of cond: the other way round. Guidance turns, the length"
         " stays."),
        (keeping(guide=lambda uncond, cond, scale: cond + scale * (cond - uncond)),
         "guidance starts from cond: scale 1 would then overdo it. uncond + scale (cond - uncond)."),
        (keeping(guide=lambda uncond, cond, scale: cond + scale * (uncond - cond)),
         "guidance walks from cond to uncond: uncond + scale (cond - uncond)."),
        (lambda uncond, cond, scale: cond,
         "this is the conditional prediction: it has the right length, but guidance should turn it."),
    ], raised={
        "NaN": "0 / 0, in a cell whose guided velocity is 0: clamp the length that you divide by.",
        "must match the size": "the lengths do not broadcast: keepdim=True leaves (B, 1, H, W).",
    }, praise="right. Scale 1 gives cond back, and no scale makes a velocity longer.")
