"""Checks for 05_restart_and_attention: levels_left, invert_step, share_words, align."""

from difflib import SequenceMatcher

import torch

from minidiff.control.attention import align, share_words
from minidiff.control.restart import restart_times
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

from .verdict import Case, judge, normal


def check_levels_left(answer):
    """answer(times, strength) -> the levels that are still walked, as a list."""
    ddpm = DDPM.cosine(1000)
    walks = [(ddpm.times(10), 0.5), (ddpm.times(7), 0.8), (ddpm.times(8), 0.3), (ddpm.times(4), 1.0),
             (Flow().times(5, shift=3.0), 0.6)]
    cases = [Case(f"{len(walk[0]) - 1} steps, strength = {walk[1]}", walk) for walk in walks]

    def ending(steps=lambda times, strength: round(strength * (len(times) - 1)), begin=-1, end=None):
        return lambda times, strength: times[begin - steps(times, strength) : end]

    def first_ones(times, strength):
        return times[: round(strength * (len(times) - 1)) + 1]

    return judge("levels_left", answer, restart_times, cases, [
        (first_ones,
         "these are the *first* levels, the noisiest. What is left to walk are the last ones, down to 0."),
        (ending(lambda times, strength: round((1 - strength) * (len(times) - 1))),
         "strength is turned round: little strength means few steps, strength 1 means all of them."),
        (ending(lambda times, strength: int(strength * (len(times) - 1))),
         "the number of steps is cut off, not rounded: 5.6 steps are 6."),
        (ending(lambda times, strength: round(strength * len(times))),
         "the share is taken of the levels: n steps have n + 1 levels, and strength is a share of the "
         "steps."),
        (ending(begin=0),
         "off by one: a walk of n steps has n + 1 levels, the one it starts from included."),
        (ending(end=-1),
         "off by one level: 0, the picture itself, is missing at the end."),
        (lambda times, strength: [t for t in times if t <= strength * times[0]],
         "the levels are cut by their height: strength is a share of the *steps*. The two differ where "
         "levels are not evenly spread."),
        (lambda times, strength: restart_times(times, strength)[::-1],
         "time runs backwards: start at the highest level left, and end at 0."),
        (lambda times, strength: list(times),
         "all levels are left, whatever the strength: that starts from pure noise."),
    ], praise="right. At strength 1 it is the whole walk, and the picture is forgotten.")


def check_invert_step(answer):
    """answer(x_t, eps_hat, a_t, s_t, a_up, s_up) -> x at the higher level."""
    process, x_t, eps_hat = DDPM.linear(100), normal(0, 2, 3, 4, 4), normal(1, 2, 3, 4, 4)
    cases = []
    for t, t_up in [(0, 10), (20, 30), (50, 51), (40, 90)]:
        levels = *process.signal_noise(t, x_t), *process.signal_noise(t_up, x_t)
        cases.append(Case(f"t = {t}, t_up = {t_up}", (x_t, eps_hat, *levels)))

    def climbing(ratio=lambda a_t, a_up: a_up / a_t, share=lambda r, s_t, s_up: s_up - r * s_t):
        def step(x_t, eps_hat, a_t, s_t, a_up, s_up):
            r = ratio(a_t, a_up)
            return r * x_t + share(r, s_t, s_up) * eps_hat
        return step

    return judge("invert_step", answer, climbing(), cases, [
        (climbing(share=lambda r, s_t, s_up: (s_up**2 - (r * s_t) ** 2) ** 0.5),
         "that is the climb of notebook 03, for *fresh* noise, whose variances add up. Here it is the noise "
         "that x_t already has, so it simply grows from r s_t to s_up."),
        (climbing(share=lambda r, s_t, s_up: s_up),
         "all of s_up is added, but r s_t of this very noise is in r x_t already: s_up - r s_t is missing."),
        (climbing(share=lambda r, s_t, s_up: s_up - s_t),
         "the old noise is not faded: r x_t holds r s_t of it, not s_t, so s_up - r s_t is missing."),
        (climbing(ratio=lambda a_t, a_up: 1.0),
         "the picture is not faded: it stands at a_t and must come to a_up, so x_t gets r = a_up / a_t."),
        (climbing(ratio=lambda a_t, a_up: a_t / a_up),
         "r is upside down: it is a_up / a_t, below 1, since going up loses signal."),
        (lambda x_t, eps_hat, a_t, s_t, a_up, s_up: a_up * x_t + s_up * eps_hat,
         "x_t is taken for a clean picture: that is right from t = 0 only. First find x0_hat in it."),
        (lambda x_t, eps_hat, a_t, s_t, a_up, s_up: a_up * (x_t - s_t * eps_hat) + s_up * eps_hat,
         "x0_hat is (x_t - s_t eps_hat) / a_t: the division is missing."),
        (climbing(share=lambda r, s_t, s_up: r * s_t - s_up),
         "the sign is turned: noise is added on the way up, s_up - r s_t of it."),
        (climbing(share=lambda r, s_t, s_up: s_up**2 - (r * s_t) ** 2),
         "squares are subtracted: pixels get deviations, s_up - r s_t."),
        (climbing(share=lambda r, s_t, s_up: 0.0),
         "nothing is added: fading alone leaves less noise than level t_up has."),
    ], praise="right. It is the DDIM step with t_next above t: the same line, walked the other way.")


def check_share_words(answer):
    """answer(source, target, origin) -> the target's weights, (B, heads, N, L)."""
    cases = []
    for i, (name, origin) in enumerate({"nothing new": [0, 1, 2, 3, 4], "a word inserted": [0, 1, -1, 2, 3],
                                        "two words of their own": [0, -1, 2, -1, 4]}.items()):
        weights = normal(i, 2, 2, 3, 6, 5).softmax(-1)                                 # (2, B, heads, N, L)
        cases.append(Case(name, (*weights, torch.tensor(origin))))

    def mixing(take=lambda source, target, origin: torch.where(origin >= 0, moved(source, origin), target),
               scale=lambda mixed: mixed / mixed.sum(-1, keepdim=True)):
        return lambda source, target, origin: scale(take(source, target, origin))

    def moved(source, origin):
        return source[..., origin.clamp(min=0)]

    return judge("share_words", answer, share_words, cases, [
        (mixing(scale=lambda mixed: mixed),
         "the rows no longer sum to 1: columns of two captions were mixed. Divide by the sum over the "
         "tokens."),
        (mixing(scale=lambda mixed: mixed / mixed.sum(-2, keepdim=True)),
         "the sum runs over the cells: each *cell* shares out its look over the tokens, the last "
         "dimension."),
        (mixing(scale=lambda mixed: mixed.softmax(-1)),
         "a second softmax flattens everything: these are weights already, divide them by their sum."),
        (mixing(lambda source, target, origin: source[..., origin]),
         "-1 is used as a position, and PyTorch takes the *last* token for it: where origin is -1, the "
         "target keeps its own."),
        (mixing(lambda source, target, origin: moved(source, origin)),
         "tokens without an origin get the start token's weights: where origin is -1, the target keeps its "
         "own."),
        (mixing(lambda source, target, origin: torch.where(origin >= 0, source, target)),
         "position i takes position i: after an inserted word all are one off. Token j takes the source's "
         "column origin[j]."),
        (mixing(lambda source, target, origin: torch.where(origin >= 0, target, moved(source, origin))),
         "the choice is turned round: tokens *with* an origin take the source's weights, the others keep the "
         "target's."),
        (mixing(lambda source, target, origin: torch.where(origin > 0, moved(source, origin), target)),
         "origin 0 is an origin, too: the start token. The condition is origin >= 0."),
        (mixing(lambda source, target, origin: (moved(source, origin) + target) / 2),
         "the two are averaged: a token takes its weights from one of them."),
        (lambda source, target, origin: source,
         "these are the source's weights as they are: then nobody ever looks at a new word."),
        (lambda source, target, origin: target,
         "nothing is shared: the target keeps all of its own."),
    ], praise="right. With an origin for every token it is the source's attention; with none, the target's.")


def check_align(answer):
    """answer(source, target) -> (len(target),) int64, positions in the source, -1 = none."""
    words = {"a word swapped": ([1, 5, 6, 7, 8], [1, 5, 9, 7, 8]),
             "a word inserted": ([1, 5, 6, 5, 7], [1, 5, 8, 6, 5, 7]),
             "a word removed": ([1, 5, 8, 6, 5, 7], [1, 5, 6, 5, 7]),
             "one word for two": ([1, 5, 6, 7, 8], [1, 5, 9, 8]),
             "one removed, another inserted": ([1, 5, 6, 7, 8], [1, 6, 9, 7, 8])}
    cases = [Case(name, tuple(map(torch.tensor, pair))) for name, pair in words.items()]

    def matching(same_length=True, cut=False, none=-1):
        def positions(source, target):
            found = torch.full((len(target),), none)
            pairs = SequenceMatcher(None, source.tolist(), target.tolist(), autojunk=False).get_opcodes()
            for kind, i, i_end, j, j_end in pairs:
                fits = cut or (same_length and i_end - i == j_end - j)
                if kind == "equal" or (kind == "replace" and fits):
                    n = min(i_end - i, j_end - j)
                    found[j : j + n] = torch.arange(i, i + n)
            return found
        return positions

    def by_position(source, target):
        place = torch.arange(len(target))
        return torch.where(place < len(source), place, -1)

    def equal_by_position(source, target):
        pairs = list(zip(source.tolist(), target.tolist()))
        found = [i if one == other else -1 for i, (one, other) in enumerate(pairs)]
        return torch.tensor(found + [-1] * (len(target) - len(pairs)))

    def first_found(source, target):
        numbers = source.tolist()
        return torch.tensor([numbers.index(token) if token in numbers else -1 for token in target.tolist()])

    def tokens(source, target):
        found = align(source, target)
        return torch.where(found >= 0, source[found.clamp(min=0)], -1)

    return judge("align", answer, align, cases, [
        (by_position,
         "position i takes position i: after an inserted or removed word everything is one word off."),
        (equal_by_position,
         "captions are compared place by place: after an inserted word nothing is found again. Let "
         "SequenceMatcher find what moved."),
        (matching(same_length=False),
         "a swapped word has no origin: it should take the look of the word in whose place it stands, or it "
         "will stand elsewhere."),
        (matching(cut=True),
         "a replacement of another length is paired as far as it goes: which of the two words was it? Leave "
         "all of them at -1."),
        (matching(none=0),
         "0 stands for tokens without an origin, but 0 is a position, that of the start token: take -1."),
        (first_found,
         "each token takes the *first* equal one: a caption has many an \"a\", and the second takes the look "
         "of the first. And a swapped word has none."),
        (tokens,
         "these are token numbers: give the *position* in the source, where the look is found."),
    ], raised={
        "the result is (5,) int64: (6,)": "the other way round: for each token of the *target*, its position "
                                          "in the source.",
    }, praise="right. What stayed keeps its look, wherever it has moved.")
