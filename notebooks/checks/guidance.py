"""Checks for 04_guidance_and_text: tokens_of, guide, both_branches, rescale."""

import re

import torch

from minidiff.process.guidance import cfg, rescaled

from .verdict import Case, judge, normal


def check_tokens_of(answer):
    """answer(caption, words, characters) -> list of token numbers, 1 first; 2 for what the tables lack."""
    words = numbered("a and at car night red says sign that".split(), 3)
    characters = numbered("ABC1", 3 + len(words))
    captions = ("a red car at night", "A red car and a sign", 'a sign that says "CAB"', "a violet car",
                "at night, a red car.", 'a sign that says "A1" and a car', 'a sign that says "CAR"',
                'a sign that says "aB"')
    cases = [Case(caption, (caption, words, characters)) for caption in captions]

    def reading(start=(1,), unknown=2, case=str.lower, quoted=list, quoted_case=str, separators=r"[\s,.]+",
                table=lambda words, characters: characters, skip=False):
        def tokens(caption, words, characters):
            found = list(start)
            for i, part in enumerate(caption.split('"')):
                pieces = quoted(quoted_case(part)) if i % 2 else re.split(separators, case(part))
                known = table(words, characters) if i % 2 else words
                found += [known.get(piece, unknown) for piece in pieces
                          if piece and not (skip and piece not in known)]
            return found
        return tokens

    def every_letter(caption, words, characters):
        return [1, *(characters.get(letter, 2) for letter in caption if letter not in ' ",.')]

    return judge("tokens_of", answer, reading(), cases, [
        (reading(start=()),
         "the start token is missing: a caption begins with 1, so that even the empty one has a token."),
        (reading(unknown=0),
         "0 stands for unknown words, but 0 is the padding, which nobody looks at: the word would be gone "
         "without a trace. Unknown is 2."),
        (reading(skip=True),
         "unknown words are left out: they become 2, so that the network knows that something stood there."),
        (reading(case=str),
         "words are not brought to lower case: \"A\" at the beginning is the word \"a\"."),
        (reading(quoted_case=str.lower),
         "what stands in quotes is brought to lower case as well: a sign says \"CAB\", and its characters "
         "are capitals."),
        (reading(quoted=str.split, quoted_case=str.lower, table=lambda words, characters: words),
         "quotes are read as words: what a sign says is written character by character, each a token."),
        (reading(quoted=str.split),
         "what stands in quotes is kept in one piece: each of its characters is a token of its own."),
        (reading(table=lambda words, characters: words),
         "characters in quotes are looked up among the words: they have a table of their own."),
        (reading(table=lambda words, characters: characters | words),
         "characters in quotes are looked up among the words, too: \"a\" in quotes is a letter on a sign, "
         "not the article."),
        (reading(separators=r"\s+"),
         "commas and full stops stick to their words: \"night,\" is the word \"night\"."),
        (every_letter,
         "the whole caption is cut into letters: only what stands in quotes is."),
        (lambda *arguments: sorted(reading()(*arguments)),
         "the tokens are sorted: their order is lost, and with it whose colour is whose."),
    ], raised={
        "KeyError": "a word that the table lacks raises KeyError: words.get(word, 2) gives 2 instead.",
    }, praise="right. Only the order of these numbers says which colour belongs to what.")


def numbered(pieces, first):
    """piece -> number, counted from `first`."""
    return {piece: number for number, piece in enumerate(pieces, first)}


def check_guide(answer):
    """answer(uncond, cond, scale) -> the guided prediction."""
    uncond, cond = normal(0, 2, 3, 4, 4), normal(1, 2, 3, 4, 4)
    cases = [Case(f"scale = {scale}", (uncond, cond, scale)) for scale in (3.0, 1.0, 0.0, 0.5)]

    return judge("guide", answer, cfg, cases, [
        (lambda uncond, cond, scale: (1 + scale) * cond - scale * uncond,
         "this is the paper's w, for which 0 means off: it sets out from cond. Here 1 means off, so set out "
         "from uncond: scale = 1 + w."),
        (lambda uncond, cond, scale: cfg(cond, uncond, scale),
         "the two are swapped: at scale 1 it gives the unconditional prediction, and above it flees from the "
         "caption."),
        (lambda uncond, cond, scale: uncond - scale * (cond - uncond),
         "the sign is wrong: it goes away from the conditional prediction."),
        (lambda uncond, cond, scale: uncond + scale * cond,
         "the whole of cond is added: only the *difference* to uncond is exaggerated, or at scale 1 both are "
         "summed."),
        (lambda uncond, cond, scale: scale * (cond - uncond),
         "only the difference is returned: it is added to uncond."),
        (lambda uncond, cond, scale: scale * cond,
         "the conditional prediction is just enlarged: what guidance enlarges is its difference to uncond."),
        (lambda uncond, cond, scale: cfg(uncond, cond, min(scale, 1)),
         "the scale is held at 1: going *past* the conditional prediction is what guidance is for."),
        (lambda uncond, cond, scale: cond,
         "the scale does nothing: this is the conditional prediction."),
    ], praise="right. 0: no caption; 1: guidance off; above 1: overdone.")


def check_both_branches(answer):
    """answer(predict, x_t, t, cond, uncond, scale) -> the guided prediction, from one call of predict."""
    x_t, cond, uncond = normal(2, 2, 3, 4, 4), normal(3, 2), normal(4, 2)
    levels = {"one level": 0.5, "a level each": torch.tensor([0.5, 0.25])}
    cases = [Case(name, (predict, x_t, t, cond, uncond, 3.0)) for name, t in levels.items()]

    def one_batch(pictures=lambda x_t: torch.cat([x_t, x_t]), t_twice=lambda t: torch.cat([t, t]),
                  halves=lambda both: both.chunk(2), mix=cfg):
        def ask(predict, x_t, t, cond, uncond, scale):
            t = t_twice(t) if isinstance(t, torch.Tensor) else t
            return mix(*halves(predict(pictures(x_t), t, torch.cat([uncond, cond]))), scale)
        return ask

    return judge("both_branches", answer, one_batch(), cases, [
        (one_batch(mix=lambda first, second, scale: cfg(second, first, scale)),
         "the branches are swapped on the way back: the first half of the answer belongs to what came first "
         "in the batch."),
        (one_batch(pictures=lambda x_t: x_t.repeat_interleave(2, 0)),
         "pictures and conditions do not match: repeat_interleave gives 0, 0, 1, 1, and torch.cat of the "
         "conditions needs 0, 1, 0, 1. Take torch.cat([x_t, x_t])."),
        (one_batch(halves=lambda both: (both[::2], both[1::2])),
         "every second picture is taken for a branch: the batch is all of uncond, then all of cond, so "
         ".chunk(2)."),
        (one_batch(t_twice=lambda t: t.repeat_interleave(2)),
         "levels and pictures do not match: repeat_interleave gives 0, 0, 1, 1. Take torch.cat([t, t])."),
        (one_batch(mix=lambda uncond, cond, scale: (1 + scale) * cond - scale * uncond),
         "the mixture is the paper's, with w for scale: here scale 1 means off."),
        (one_batch(mix=lambda uncond, cond, scale: cond),
         "only the conditional half is used: mix the two with the scale."),
    ], raised={
        "2 pictures in the batch": "predict is asked for one branch at a time: put both into one batch, with "
                                   "torch.cat, and ask once. On a GPU one large batch costs less than two.",
        "levels for": "t is (B,) and the batch has 2 B pictures: torch.cat([t, t]) where t is a tensor.",
        "conditions for": "pictures and conditions differ in number: torch.cat([uncond, cond]) has 2 B, so "
                          "x_t is needed twice, too.",
        "the result is (4,": "all 2 B predictions come back: halve them with .chunk(2), and mix the halves.",
        "zero-dimensional": "t may be one number for all: only a tensor of levels is needed twice.",
    }, praise="right. Two branches, one call; what costs double is the work, not the waiting.")


def predict(x_t, t, condition):
    """A stand-in for a network, which insists on both branches in one batch. x_t: (4, 3, 4, 4)."""
    if len(x_t) == 2 and len(condition) == 2:
        raise ValueError("2 pictures in the batch: both branches, 4, expected")
    if len(condition) != len(x_t):
        raise ValueError(f"{len(condition)} conditions for {len(x_t)} pictures: as many expected")
    if isinstance(t, torch.Tensor) and t.ndim and len(t) != len(x_t):
        raise ValueError(f"{len(t)} levels for {len(x_t)} pictures: one, or as many, expected")
    level = t.view(-1, 1, 1, 1) if isinstance(t, torch.Tensor) else t
    return torch.tanh(x_t * level + condition.view(-1, 1, 1, 1))


def check_rescale(answer):
    """answer(guided, cond, share) -> guided, brought back towards the contrast of cond."""
    wide = torch.tensor([2.0, 5.0]).view(2, 1, 1, 1) * torch.tensor([1.0, 0.5, 2.0]).view(1, 3, 1, 1)
    guided, cond = wide * normal(5, 2, 3, 4, 4) + 0.5, normal(6, 2, 3, 4, 4)
    cases = [Case(f"share = {share}", (guided, cond, share)) for share in (0.7, 1.0, 0.0)]

    def scaling(ratio=lambda guided, cond, spread: spread(cond) / spread(guided), dims=(1, 2, 3),
                spread=torch.Tensor.std, mix=lambda scaled, guided, cond, share:
                share * scaled + (1 - share) * guided):
        def rescale(guided, cond, share):
            factor = ratio(guided, cond, lambda x: spread(x, dim=dims, keepdim=True))
            return mix(factor * guided, guided, cond, share)
        return rescale

    def centred(guided, cond, share):
        mean = guided.mean((1, 2, 3), keepdim=True)
        return mean + rescaled(guided - mean, cond, share)

    return judge("rescale", answer, rescaled, cases, [
        (scaling(ratio=lambda guided, cond, spread: spread(guided) / spread(cond)),
         "the ratio is upside down: guided has too much contrast, so the factor is std(cond) / std(guided), "
         "below 1."),
        (scaling(dims=(0, 1, 2, 3)),
         "one contrast for the whole batch: each picture has its own, std over dim (1, 2, 3), or a pale "
         "neighbour changes it."),
        (scaling(dims=(2, 3)),
         "each channel has its own contrast here: that shifts the colours. Take std over dim (1, 2, 3)."),
        (scaling(dims=0),
         "std runs over the batch: it is over a picture, dim (1, 2, 3)."),
        (scaling(spread=torch.Tensor.var),
         "the variance is taken: contrast is its root, the standard deviation."),
        (scaling(mix=lambda scaled, guided, cond, share: (1 - share) * scaled + share * guided),
         "the share is inverted: 0 leaves guided as it is, 1 gives it exactly the contrast of cond."),
        (scaling(mix=lambda scaled, guided, cond, share: scaled),
         "the share does nothing: it says how much of the correction is made."),
        (scaling(mix=lambda scaled, guided, cond, share: share * scaled + (1 - share) * cond),
         "the rest is filled up with cond: that turns guidance back. It is a mixture of guided with and "
         "without its new contrast."),
        (scaling(mix=lambda scaled, guided, cond, share: share * scaled),
         "the rest is missing: with share .7, guided itself makes up the other .3."),
        (centred,
         "the mean is kept, and only what lies round it is scaled: not a bad idea, but the paper scales the "
         "whole prediction by one number."),
        (lambda guided, cond, share: guided.clamp(-1, 1),
         "values are cut off: rescaling makes all of them smaller, so that what differed still differs."),
    ], raised={
        "must match the size":
            "a contrast a picture is (B,): with keepdim=True it is (B, 1, 1, 1), and fits the pictures.",
    }, praise="right. One number a picture; what guidance moved stays moved.")
