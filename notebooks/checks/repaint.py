"""Checks for 03_repaint_and_outpainting: repaint_step, climb, staircase, composite."""

import torch

from minidiff.control.repaint import repaint_path, repaint_step
from minidiff.images import to_uint8
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

from .verdict import Case, judge, normal


def check_repaint_step(answer):
    """answer(process, x_t, prediction, t, t_next, known, edit_mask, noise) -> x at t_next."""
    x_t, prediction, known, noise = (normal(seed, 2, 3, 4, 4) for seed in range(4))
    cases = []
    for process, t, t_next in [(DDPM.linear(100), 60, 59), (DDPM.linear(100), 1, 0), (Flow(), 0.5, 0.4)]:
        arguments = process, x_t, prediction, t, t_next, known, left_half(), noise
        cases.append(Case(f"{type(process).__name__}, t = {t}, t_next = {t_next}", arguments))

    def pasting(truth, inverted=False):
        def step(process, x_t, prediction, t, t_next, known, edit_mask, noise):
            painted = process.step(x_t, prediction, t, t_next, noise)
            return torch.where(edit_mask ^ inverted, painted, truth(process, known, t, t_next, noise))
        return step

    def without_root(process, known, t, t_next, noise):
        a, s = process.signal_noise(t_next, known)
        return a * known + s**2 * noise

    def pasted_before(process, x_t, prediction, t, t_next, known, edit_mask, noise):
        x_t = torch.where(edit_mask, x_t, process.corrupt(known, t, noise))
        return process.step(x_t, prediction, t, t_next, noise)

    def pinned(process, x_t, prediction, t, t_next, known, edit_mask, noise):
        x0_hat = torch.where(edit_mask, process.predict_x0(x_t, prediction, t), known)
        return process.step(x_t, process.prediction(x_t, x0_hat, t), t, t_next, noise)

    def guess_pasted(process, x_t, prediction, t, t_next, known, edit_mask, noise):
        x0_hat = process.predict_x0(x_t, prediction, t)
        return torch.where(edit_mask, x0_hat, process.corrupt(known, t_next, noise))

    def never_pasted(process, x_t, prediction, t, t_next, known, edit_mask, noise):
        return process.step(x_t, prediction, t, t_next, noise)

    def at(level):
        return lambda process, known, t, t_next, noise: process.corrupt(known, level(t, t_next), noise)

    return judge("repaint_step", answer, repaint_step, cases, [
        (pasting(at(lambda t, t_next: t_next), inverted=True),
         "the mask is inverted: edit_mask is True where pixels *may change*, so the painted half goes there "
         "and the truth elsewhere."),
        (pasting(lambda process, known, t, t_next, noise: without_root(process, known, t_next, t, noise)),
         "both slips that the paper printed: the truth lands on level t, and its noise lacks the root. It "
         "belongs on t_next, with s = sqrt(1 - alpha_bar)."),
        (pasting(at(lambda t, t_next: t)),
         "off by one level, as printed in the paper: the truth is noised to t, but the painted half has "
         "already landed on t_next."),
        (pasting(without_root),
         "the root is forgotten, as printed in the paper: the truth's noise gets s = sqrt(1 - alpha_bar), "
         "not s^2. process.corrupt does it."),
        (pasting(lambda process, known, t, t_next, noise: known),
         "the truth is pasted clean: the other half has the noise of t_next, and the network expects one "
         "level in the whole picture."),
        (pasted_before,
         "the truth is pasted into x_t *before* the step (as the authors' code does): at t_next = 0 the kept"
         " pixels are then not exact."),
        (pinned,
         "x0_hat is pinned to the truth before the step: that is GLIDE's control, another editor. RePaint "
         "pastes into x, after the step."),
        (guess_pasted,
         "the hole gets x0_hat, clean, instead of a step to t_next: use process.step."),
        (never_pasted,
         "the truth is never pasted: this is a plain step, and nothing holds the known pixels."),
    ], praise="right. Both halves land on the same level, and at level 0 the kept pixels are the truth.")


def check_climb(answer):
    """answer(x_t, a_t, s_t, a_up, s_up, noise) -> x at the higher level."""
    process, x_t, noise = DDPM.linear(100), normal(4, 2, 3, 4, 4), normal(5, 2, 3, 4, 4)
    cases = []
    for t, t_up in [(20, 30), (50, 51), (5, 60)]:
        levels = *process.signal_noise(t, x_t), *process.signal_noise(t_up, x_t)
        cases.append(Case(f"t = {t}, t_up = {t_up}", (x_t, *levels, noise)))

    def missing(r, s_t, s_up):
        return (s_up**2 - (r * s_t) ** 2) ** 0.5

    def climbing(ratio=lambda a_t, a_up: a_up / a_t, spread=missing):
        def climb(x_t, a_t, s_t, a_up, s_up, noise):
            r = ratio(a_t, a_up)
            return r * x_t + spread(r, s_t, s_up) * noise
        return climb

    return judge("climb", answer, climbing(), cases, [
        (climbing(spread=lambda r, s_t, s_up: s_up),
         "all of s_up is added as noise, but x_t has noise already: r s_t of it survives, so only s_up^2 - "
         "r^2 s_t^2 is missing."),
        (climbing(spread=lambda r, s_t, s_up: s_up**2 - (r * s_t) ** 2),
         "the root is forgotten: s_up^2 - r^2 s_t^2 is a variance, and noise is scaled by its root."),
        (climbing(spread=lambda r, s_t, s_up: s_up - r * s_t),
         "deviations are subtracted, but it is *variances* that add up: sqrt(s_up^2 - r^2 s_t^2)."),
        (climbing(spread=lambda r, s_t, s_up: (s_up**2 - s_t**2) ** 0.5),
         "the old noise is not scaled by r: climbing fades it with the picture, so it is sqrt(s_up^2 - r^2 "
         "s_t^2)."),
        (climbing(ratio=lambda a_t, a_up: 1.0),
         "the picture is not scaled: at t it stands at a_t, at t_up it must have faded to a_up, so x_t gets "
         "r = a_up / a_t."),
        (lambda x_t, a_t, s_t, a_up, s_up, noise: a_up * x_t + missing(a_up / a_t, s_t, s_up) * noise,
         "x_t is scaled by a_up, as if it were clean: it has already faded to a_t, so it gets r = a_up / "
         "a_t."),
        (lambda x_t, a_t, s_t, a_up, s_up, noise: a_up * x_t + s_up * noise,
         "x_t is corrupted as if it were a clean picture: a_up x_t + s_up noise."),
        (climbing(ratio=lambda a_t, a_up: a_t / a_up),
         "time runs backwards: r is a_up / a_t, below 1, since a climb loses signal."),
        (climbing(spread=lambda r, s_t, s_up: 0.0),
         "nothing is added: fading alone leaves less noise than level t_up has."),
    ], praise="right. A climb in one leap is the same as many small ones.")


def check_staircase(answer):
    """answer(steps, jump, visits) -> the levels to walk, from steps to 0."""
    cases = [Case(f"steps = {steps}, jump = {jump}, visits = {visits}", (steps, jump, visits))
             for steps, jump, visits in [(5, 2, 1), (6, 1, 2), (10, 3, 2), (12, 4, 3)]]

    def reference(steps, jump, visits):
        return repaint_path(list(range(steps, -1, -1)), jump, visits)

    def all_landings(steps, jump):
        return range(1, steps - jump + 1, jump)

    def way_up(level, jump):
        return [*range(level + 1, level + jump + 1)]

    def way_down(level, jump):
        return [*range(level + jump - 1, level - 1, -1)]

    def stairs(landings=all_landings, climbs=lambda visits: visits - 1, up=way_up, down=way_down):
        def walk(steps, jump, visits):
            levels = []
            for level in range(steps, -1, -1):
                levels.append(level)
                if level in landings(steps, jump):
                    levels += (up(level, jump) + down(level, jump)) * climbs(visits)
            return levels
        return walk

    return judge("staircase", answer, reference, cases, [
        (stairs(climbs=lambda visits: visits),
         "off by one visit: the first time down is a visit too, so there are visits - 1 climbs."),
        (stairs(landings=lambda steps, jump: range(0, steps - jump + 1, jump)),
         "off by one level: the landings are 1, 1 + jump, 1 + 2 jump, ...: level 0 is the picture, and is "
         "never left again."),
        (stairs(landings=lambda steps, jump: range(jump, steps - jump + 1, jump)),
         "off by one level: the landings are 1, 1 + jump, 1 + 2 jump, ...; yours are jump, 2 jump, ..."),
        (stairs(landings=lambda steps, jump: range(1, steps, jump)),
         "a landing too many: from level + jump <= steps only, or the climb ends above pure noise."),
        (stairs(landings=lambda steps, jump: range(1, steps - jump, jump)),
         "a landing too few: the highest one may climb back to the very top, so level + jump = steps is "
         "allowed."),
        (stairs(up=lambda level, jump: way_up(level, jump - 1),
                down=lambda level, jump: way_down(level, jump - 1)),
         "off by one level: a climb ends at level + jump; Python's range leaves out its end."),
        (stairs(down=lambda level, jump: [*range(level + jump, level - 1, -1)]),
         "the top of the climb is visited twice: the way down begins one below it."),
        (stairs(down=lambda level, jump: [*range(level + jump - 1, level, -1)]),
         "off by one level: the way down stops above the landing; Python's range leaves out its end."),
        (stairs(up=lambda level, jump: [level + jump]),
         "the climb leaps: go up one level at a time, so that every pair of neighbours differs by one."),
        (lambda steps, jump, visits: reference(steps, jump, visits)[::-1],
         "time runs backwards: start at `steps`, pure noise, and end at 0."),
        (lambda steps, jump, visits: reference(steps, jump, visits)[:-1],
         "off by one level: level 0, the picture itself, is missing at the end."),
        (lambda steps, jump, visits: reference(steps, jump, visits)[1:],
         "off by one level: the first level, `steps`, is missing at the start."),
        (stairs(climbs=lambda visits: 0),
         "there are no climbs: that is plain replacement. After each landing go up `jump` levels and down "
         "again, visits - 1 times."),
    ], praise="right. With 250 steps, jump 10 and 10 visits it has the paper's 2,410 steps down.")


def check_composite(answer):
    """answer(known uint8, x0_hat in [-1, 1], edit_mask) -> uint8."""
    known = torch.randint(0, 256, (2, 3, 4, 4), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    cases = [Case("values within [-1, 1]", (known, normal(7, 2, 3, 4, 4).tanh(), left_half())),
             Case("values a little outside [-1, 1]", (known, normal(8, 2, 3, 4, 4), left_half()))]

    def pasting(convert, inverted=False):
        return lambda known, x0_hat, edit_mask: torch.where(edit_mask ^ inverted, convert(x0_hat), known)

    return judge("composite", answer, pasting(to_uint8), cases, [
        (pasting(to_uint8, inverted=True),
         "the mask is inverted: edit_mask is True where pixels may change, so x0_hat goes there, and `known`"
         " everywhere else."),
        (pasting(lambda x: (x * 255).round().clamp(0, 255).to(torch.uint8)),
         "[0, 1] is taken for [-1, 1]: x0_hat times 255 loses the darker half. It is (x0_hat + 1) times "
         "127.5."),
        (pasting(lambda x: (x * 255).clamp(0, 255).to(torch.uint8)),
         "[0, 1] is taken for [-1, 1]: x0_hat times 255 loses the darker half. It is (x0_hat + 1) times "
         "127.5, rounded."),
        (pasting(lambda x: ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8)),
         "the numbers are cut off, not rounded: .to(torch.uint8) drops the fraction, so the picture gets "
         "darker by half a step. Call .round() first."),
        (pasting(lambda x: ((x + 1) * 127.5).round().to(torch.uint8)),
         "values outside 0..255 wrap round: a white that is a little too white turns black. Call .clamp(0, "
         "255) before .to(torch.uint8)."),
        (lambda known, x0_hat, edit_mask: to_uint8(x0_hat),
         "nothing is pasted: the kept pixels come from the network, nearly right. Nearly is not identical."),
    ], praise="right. A kept pixel is identical now, not just close.")


def left_half():
    edit_mask = torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    edit_mask[..., :2] = True
    return edit_mask
