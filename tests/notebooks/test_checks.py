"""Every check, fed right answers and wrong ones: it must call each mistake by its name."""

from itertools import pairwise
from math import sqrt

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import noise, repaint

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def corrupt(x0, alpha_bar, noise):
    return sqrt(alpha_bar) * x0 + sqrt(1 - alpha_bar) * noise


CORRUPT = {
    "roots are forgotten": lambda x0, alpha_bar, noise: alpha_bar * x0 + (1 - alpha_bar) * noise,
    "forgotten on the noise": lambda x0, alpha_bar, noise: sqrt(alpha_bar) * x0 + (1 - alpha_bar) * noise,
    "forgotten on the picture": lambda x0, alpha_bar, noise: alpha_bar * x0 + sqrt(1 - alpha_bar) * noise,
    "swapped": lambda x0, alpha_bar, noise: corrupt(x0, 1 - alpha_bar, noise),
    "*squares* of the two": lambda x0, alpha_bar, noise: sqrt(alpha_bar) * x0 + (1 - sqrt(alpha_bar)) * noise,
    "noise is not scaled": lambda x0, alpha_bar, noise: sqrt(alpha_bar) * x0 + noise,
    "picture is not scaled": lambda x0, alpha_bar, noise: x0 + sqrt(1 - alpha_bar) * noise,
    "in place": lambda x0, alpha_bar, noise: x0.mul_(sqrt(alpha_bar)).add_(noise, alpha=sqrt(1 - alpha_bar)),
    "returned None": lambda x0, alpha_bar, noise: None,
    "NaN": lambda x0, alpha_bar, noise: x0 * (alpha_bar - 2).sqrt(),
    "it raised TypeError": lambda x0, alpha_bar: x0,
    "(2, 1, 4, 4)": lambda x0, alpha_bar, noise: corrupt(x0, alpha_bar, noise)[:, :1],
    "no common mistake": lambda x0, alpha_bar, noise: corrupt(x0, alpha_bar, noise) + 0.1,
}


def posterior_mean(x_t, images, a, s, power=2, factor=2, sign=-1, dim=1, faded=True):
    out, n = [], len(images)
    logits = torch.zeros(len(x_t), n)
    for b, x in enumerate(x_t):
        for i, image in enumerate(images):
            logits[b, i] = sign * ((x - (a if faded else 1) * image) ** 2).sum() / (factor * s**power)
    weights = logits.exp() / logits.exp().sum(dim, keepdim=True)
    for b in range(len(x_t)):
        out.append(sum(weights[b, i] * images[i] for i in range(n)))
    return torch.stack(out)


POSTERIOR_MEAN = {
    "square of s": lambda *args: posterior_mean(*args, power=1),
    "the 2 is missing": lambda *args: posterior_mean(*args, factor=1),
    "minus sign": lambda *args: softmaxed(*args, lambda gap, s: gap / (2 * s**2)),
    "over the batch": lambda *args: softmaxed(*args, lambda gap, s: -gap / (2 * s**2), dim=0),
    "faded to a x_i": lambda *args: posterior_mean(*args, faded=False),
    "*likeliest*": lambda *args: softmaxed(*args, lambda gap, s: -1e6 * gap),
    "*clean* ones": lambda x_t, images, a, s: a * posterior_mean(x_t, images, a, s),
    "averages all pictures alike": lambda x_t, images, a, s: images.mean(0).expand_as(x_t),
    "*summed* over pixels": lambda *args: softmaxed(*args, lambda gap, s: -gap / 48 / (2 * s**2)),
    "not squared": lambda *args: softmaxed(*args, lambda gap, s: -gap.sqrt() / (2 * s**2)),
}


def softmaxed(x_t, images, a, s, score, dim=1):
    gap = torch.cdist(x_t.flatten(1), (a * images).flatten(1)) ** 2
    return (score(gap, s).softmax(dim) @ images.flatten(1)).view_as(x_t)


def ancestral_step(x_t, x0_hat, a_t, s_t, a_next, s_next, noise):
    """The posterior in the paper's form, 2006.11239, eq. 6-7."""
    alpha, bar = (a_t / a_next) ** 2, a_t**2
    mean = a_next * (1 - alpha) / (1 - bar) * x0_hat + alpha.sqrt() * s_next**2 / (1 - bar) * x_t
    return mean + (s_next**2 / (1 - bar) * (1 - alpha)).sqrt() * noise


def ancestral_mean(x_t, x0_hat, a_t, s_t, a_next, s_next):
    return ancestral_step(x_t, x0_hat, a_t, s_t, a_next, s_next, torch.zeros_like(x_t))


def fresh_variance(a_t, s_t, a_next, s_next):
    return s_next**2 / s_t**2 * (1 - (a_t / a_next) ** 2)


def adding(spread):
    def step(x_t, x0_hat, a_t, s_t, a_next, s_next, noise):
        mean = ancestral_mean(x_t, x0_hat, a_t, s_t, a_next, s_next)
        return mean + spread(a_t, s_t, a_next, s_next) * noise
    return step


def without_room(x_t, x0_hat, a_t, s_t, a_next, s_next, noise):
    eps_hat = (x_t - a_t * x0_hat) / s_t
    return a_next * x0_hat + s_next * eps_hat + fresh_variance(a_t, s_t, a_next, s_next).sqrt() * noise


def ddim(x_t, x0_hat, a_t, s_t, a_next, s_next, noise):
    return a_next * x0_hat + s_next * (x_t - a_t * x0_hat) / s_t


ANCESTRAL_STEP = {
    "root of the variance": adding(fresh_variance),
    "no fresh noise": adding(lambda a_t, s_t, a_next, s_next: 0),
    "this is DDIM": ddim,
    "corrupts x0_hat anew": lambda x_t, x0, a_t, s_t, a_next, s_next, noise: a_next * x0 + s_next * noise,
    "no old noise makes room": without_room,
    "noise at the last step": adding(lambda a_t, s_t, a_next, s_next: (1 - (a_t / a_next) ** 2).sqrt()),
    "the level you leave": adding(lambda a_t, s_t, a_next, s_next: s_t),
    "Does time run backwards": lambda x, x0, a, s, a1, s1, noise: own_step(x, x0, a1, s1, a, s, noise),
    "not divided by s_t": lambda x, x0, *rest: own_step(x, x0, *rest, eps=lambda a, s: x - a * x0),
    "starts from x_t - x0_hat": lambda x, x0, *rest: own_step(x, x0, *rest, eps=lambda a, s: (x - x0) / s),
    "a square is missing": lambda x_t, x0, *rest: own_step(x_t, x0, *rest, power=1),
}


def own_step(x_t, x0, a_t, s_t, a_next, s_next, noise, eps=None, power=2):
    var = s_next**2 * (1 - (a_t * s_next / (a_next * s_t)) ** power)
    direction = eps(a_t, s_t) if eps else (x_t - a_t * x0) / s_t
    return a_next * x0 + (s_next**2 - var).sqrt() * direction + var.sqrt() * noise


def walk(step, denoise, x, times):
    for t, t_next in pairwise(times):
        x = step(x, denoise(x, t), t, t_next)
    return x


def walk_without_going(step, denoise, x, times):
    for t, t_next in pairwise(times):
        step(x, denoise(x, t), t, t_next)
    return x


def walk_asking_too_low(step, denoise, x, times):
    for t, t_next in pairwise(times):
        x = step(x, denoise(x, t_next), t, t_next)
    return x


def walk_asking_once(step, denoise, x, times):
    prediction = denoise(x, times[0])
    for t, t_next in pairwise(times):
        x = step(x, prediction, t, t_next)
    return x


WALK = {
    "time runs backwards": lambda step, denoise, x, times: walk(step, denoise, x, times[::-1]),
    "last step, to level 0, is missing": lambda step, denoise, x, times: walk(step, denoise, x, times[:-1]),
    "first step, away from pure noise": lambda step, denoise, x, times: walk(step, denoise, x, times[1:]),
    "asked about t_next": walk_asking_too_low,
    "asked only once": walk_asking_once,
    "Each step changes x": lambda step, denoise, x, times: walk(step, denoise, x, [times[0], 0]),
    "returns the noise": walk_without_going,
}


def repaint_step(process, x_t, prediction, t, t_next, known, edit_mask, noise, truth=None):
    x = process.step(x_t, prediction, t, t_next, noise)
    a, s = process.signal_noise(t_next, known)
    kept = ~edit_mask.expand_as(x)
    x[kept] = (a * known + s * noise if truth is None else truth)[kept]
    return x


def repaint_with(truth):
    def step(process, x_t, prediction, t, t_next, known, edit_mask, noise):
        a, s = process.signal_noise(t, known)
        a_next, s_next = process.signal_noise(t_next, known)
        wrong = truth(known, noise, a, s, a_next, s_next)
        return repaint_step(process, x_t, prediction, t, t_next, known, edit_mask, noise, wrong)
    return step


def pasted_into_the_input(process, x_t, prediction, t, t_next, known, edit_mask, noise):
    a, s = process.signal_noise(t, known)
    return process.step(torch.where(edit_mask, x_t, a * known + s * noise), prediction, t, t_next, noise)


def pinned(process, x_t, prediction, t, t_next, known, edit_mask, noise):
    a, s = process.signal_noise(t, known)
    a_next, s_next = process.signal_noise(t_next, known)
    x0_hat = torch.where(edit_mask, process.predict_x0(x_t, prediction, t), known)
    return own_step(x_t, x0_hat, a, s, a_next, s_next, noise)


def guess_pasted(process, x_t, prediction, t, t_next, known, edit_mask, noise):
    x0_hat = process.predict_x0(x_t, prediction, t)
    return torch.where(edit_mask, x0_hat, process.corrupt(known, t_next, noise))


REPAINT_STEP = {
    "mask is inverted": lambda *args: repaint_step(*args[:6], ~args[6], args[7]),
    "both slips": repaint_with(lambda known, noise, a, s, a_next, s_next: a * known + s**2 * noise),
    "off by one level": repaint_with(lambda known, noise, a, s, a_next, s_next: a * known + s * noise),
    "root is forgotten": repaint_with(lambda known, noise, a, s, a1, s1: a1 * known + s1**2 * noise),
    "pasted clean": repaint_with(lambda known, noise, a, s, a_next, s_next: known),
    "*before* the step": pasted_into_the_input,
    "GLIDE": pinned,
    "gets x0_hat, clean": guess_pasted,
    "never pasted": lambda process, *args: process.step(*args[:4], args[6]),
}


def climb(x_t, a_t, s_t, a_up, s_up, noise):
    """sqrt(1 - beta) x + sqrt(beta) noise, 2006.11239, eq. 2: any distance is one step with a larger beta."""
    beta = 1 - (a_up / a_t) ** 2
    return (1 - beta).sqrt() * x_t + beta.sqrt() * noise


CLIMB = {
    "x_t has noise already": lambda x, a, s, a_up, s_up, noise: a_up / a * x + s_up * noise,
    "the root is forgotten": lambda x, a, s, a_up, s_up, eps: a_up / a * x + (1 - (a_up / a) ** 2) * eps,
    "deviations are subtracted": lambda x, a, s, a_up, s_up, eps: a_up / a * x + (s_up - a_up / a * s) * eps,
    "old noise is not scaled": lambda x, a, s, a_up, s_up, eps: a_up / a * x + (s_up**2 - s**2).sqrt() * eps,
    "picture is not scaled": lambda x, a, s, a_up, s_up, noise: x + (s_up**2 - s**2).sqrt() * noise,
    "scaled by a_up": lambda x, a, s, a_up, s_up, noise: a_up * x + (1 - (a_up / a) ** 2).sqrt() * noise,
    "as if it were a clean picture": lambda x, a, s, a_up, s_up, noise: a_up * x + s_up * noise,
    "nothing is added": lambda x, a, s, a_up, s_up, noise: a_up / a * x,
}


def staircase(steps, jump, visits):
    """The authors' rule: count down, and at every landing that has climbs left, go back up."""
    left = dict.fromkeys(range(1, steps - jump + 1, jump), visits - 1)
    level, levels = steps, [steps]
    while level > 0:
        if left.get(level, 0):
            left[level] -= 1
            levels += range(level + 1, level + jump + 1)
            level += jump
        level -= 1
        levels.append(level)
    return levels


def staircase_with(landings):
    def stairs(steps, jump, visits):
        levels = []
        for level in range(steps, -1, -1):
            levels.append(level)
            for _ in range(visits - 1 if level in landings(steps, jump) else 0):
                levels += [*range(level + 1, level + jump + 1), *range(level + jump - 1, level - 1, -1)]
        return levels
    return stairs


STAIRCASE = {
    "off by one visit": lambda steps, jump, visits: staircase(steps, jump, visits + 1),
    "never left again": staircase_with(lambda steps, jump: range(0, steps - jump + 1, jump)),
    "yours are jump, 2 jump": staircase_with(lambda steps, jump: range(jump, steps - jump + 1, jump)),
    "landing too many": staircase_with(lambda steps, jump: range(1, steps, jump)),
    "landing too few": staircase_with(lambda steps, jump: range(1, steps - jump, jump)),
    "time runs backwards": lambda *args: staircase(*args)[::-1],
    "level 0, the picture itself, is missing": lambda *args: staircase(*args)[:-1],
    "first level": lambda *args: staircase(*args)[1:],
    "plain replacement": lambda steps, jump, visits: [*range(steps, -1, -1)],
    "a list expected": lambda *args: tuple(staircase(*args)),
    "it gives [5, 5, 4": lambda *args: [args[0], *staircase(*args)],
}


def composite(known, x0_hat, edit_mask):
    pixels = (127.5 * x0_hat + 127.5).clamp(0, 255).round()
    return (pixels * edit_mask + known * ~edit_mask).to(torch.uint8)


def pasting(convert):
    return lambda known, x0_hat, edit_mask: torch.where(edit_mask, convert(x0_hat), known)


COMPOSITE = {
    "mask is inverted": lambda known, x0_hat, edit_mask: composite(known, x0_hat, ~edit_mask),
    "[0, 1] is taken": pasting(lambda x: (x.clamp(0, 1) * 255).round().byte()),
    "not rounded": pasting(lambda x: (127.5 * (x.clamp(-1, 1) + 1)).byte()),
    "wrap round": pasting(lambda x: (127.5 * (x + 1)).round().byte()),
    "Nearly is not identical": lambda known, x0_hat, _: composite(known, x0_hat, torch.tensor(True)),
    "uint8 expected": lambda known, x0_hat, edit_mask: composite(known, x0_hat, edit_mask).float(),
}

CHECKS = [
    (noise.check_corrupt, corrupt, CORRUPT),
    (noise.check_posterior_mean, posterior_mean, POSTERIOR_MEAN),
    (noise.check_ancestral_step, ancestral_step, ANCESTRAL_STEP),
    (noise.check_walk_down, walk, WALK),
    (repaint.check_repaint_step, repaint_step, REPAINT_STEP),
    (repaint.check_climb, climb, CLIMB),
    (repaint.check_staircase, staircase, STAIRCASE),
    (repaint.check_composite, composite, COMPOSITE),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
