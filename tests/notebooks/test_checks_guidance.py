"""The checks of notebook 04, fed right answers and wrong ones: they must call each mistake by its name."""

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import guidance

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def tokens_of(caption, words, characters):
    numbers, word, in_quotes = [1], "", False
    for letter in caption + " ":
        if letter == '"':
            in_quotes = not in_quotes
        elif in_quotes:
            numbers.append(characters.get(letter, 2))
        elif letter in " ,.":
            numbers += [words.get(word.lower(), 2)] if word else []
            word = ""
        else:
            word += letter
    return numbers


def quoted_as_one(caption, words, characters, table):
    """What stands in quotes is looked up in one piece."""
    before, *quoted = caption.split('"')
    inside = [table.get(quoted[0], 2), *tokens_of(quoted[1], words, characters)[1:]] if quoted else []
    return tokens_of(before, words, characters) + inside


def in_upper_case(words):
    return {word.upper(): number for word, number in words.items()}


TOKENS_OF = {
    "start token is missing": lambda *args: tokens_of(*args)[1:],
    "0 is the padding": lambda *args: [0 if number == 2 else number for number in tokens_of(*args)],
    "unknown words are left out": lambda *args: [number for number in tokens_of(*args) if number != 2],
    "not brought to lower case": lambda caption, *tables:
        tokens_of(caption.replace("A red", "X red"), *tables),
    "brought to lower case as well": lambda caption, words, characters:
        tokens_of(caption, words, {"1": characters["1"]}),
    "quotes are read as words": lambda caption, words, characters:
        quoted_as_one(caption, words, characters, in_upper_case(words)),
    "kept in one piece": lambda caption, words, characters:
        quoted_as_one(caption, words, characters, characters),
    "looked up among the words: they": lambda caption, words, characters: tokens_of(caption, words, words),
    "among the words, too": lambda caption, words, characters: tokens_of(caption, words, words | characters),
    "commas and full stops": lambda caption, *tables:
        tokens_of(caption.replace(",", "x").replace(".", "x"), *tables),
    "cut into letters": lambda caption, *tables:
        tokens_of('"' + "".join(letter for letter in caption if letter not in ' ",.') + '"', *tables),
    "sorted": lambda *args: sorted(tokens_of(*args)),
    "words.get(word, 2)": lambda caption, words, characters: [1, *(words[word] for word in caption.split())],
    "a list expected": lambda *args: tuple(tokens_of(*args)),
    "it gives [7, 21,": lambda *args: [7 * number for number in tokens_of(*args)],
}


def guide(uncond, cond, scale):
    return (1 - scale) * uncond + scale * cond


GUIDE = {
    "the paper's w": lambda uncond, cond, scale: cond + scale * (cond - uncond),
    "swapped": lambda uncond, cond, scale: guide(cond, uncond, scale),
    "the sign is wrong": lambda uncond, cond, scale: guide(uncond, cond, -scale),
    "the whole of cond": lambda uncond, cond, scale: uncond + scale * cond,
    "only the difference": lambda uncond, cond, scale: guide(uncond, cond, scale) - uncond,
    "just enlarged": lambda uncond, cond, scale: cond * scale,
    "held at 1": lambda uncond, cond, scale: guide(uncond, cond, scale if scale < 1 else 1),
    "scale does nothing": lambda uncond, cond, scale: cond,
    "no common mistake": lambda uncond, cond, scale: guide(uncond, cond, scale) + 0.1,
    "in place": lambda uncond, cond, scale: uncond.add_(scale * (cond - uncond)),
}


def both_branches(predict, x_t, t, cond, uncond, scale):
    """The conditional branch first, pictures and levels repeated."""
    t = t.repeat(2) if isinstance(t, torch.Tensor) else t
    found = predict(x_t.repeat(2, 1, 1, 1), t, torch.cat([cond, uncond]))
    return guide(found[len(x_t):], found[:len(x_t)], scale)


def batched(pictures=lambda x: x.repeat(2, 1, 1, 1), levels=lambda t: t.repeat(2), mix=guide, every=False):
    def ask(predict, x_t, t, cond, uncond, scale):
        t = levels(t) if isinstance(t, torch.Tensor) else t
        found = predict(pictures(x_t), t, torch.cat([uncond, cond]))
        halves = (found[::2], found[1::2]) if every else (found[:2], found[2:])
        return mix(*halves, scale)
    return ask


def asked_twice(predict, x_t, t, cond, uncond, scale):
    return guide(predict(x_t, t, uncond), predict(x_t, t, cond), scale)


BOTH_BRANCHES = {
    "swapped on the way back": lambda predict, x_t, t, cond, uncond, scale:
        both_branches(predict, x_t, t, uncond, cond, scale),
    "Take torch.cat([x_t, x_t])": batched(pictures=lambda x: torch.stack([x, x], 1).flatten(0, 1)),
    "so .chunk(2)": batched(every=True),
    "Take torch.cat([t, t])": batched(levels=lambda t: torch.stack([t, t], 1).flatten()),
    "with w for scale": batched(mix=lambda uncond, cond, scale: guide(uncond, cond, 1 + scale)),
    "only the conditional half": batched(mix=lambda uncond, cond, scale: cond),
    "ask once": asked_twice,
    "torch.cat([t, t]) where t is a tensor": batched(levels=lambda t: t),
    "differ in number": batched(pictures=lambda x: x),
    "halve them": batched(mix=lambda uncond, cond, scale: torch.cat([uncond, cond])),
    "only a tensor of levels": lambda predict, x_t, t, cond, uncond, scale: both_branches(
        predict, x_t, torch.cat([torch.as_tensor(t), torch.as_tensor(t)])[:2], cond, uncond, scale),
}


def rescale(guided, cond, share):
    out = []
    for picture, kept in zip(guided, cond, strict=True):
        spreads = [(x - x.mean()).square().sum().sqrt() for x in (kept, picture)]
        out.append(picture * (1 + share * (spreads[0] / spreads[1] - 1)))
    return torch.stack(out)


def by_hand(factor, rest=lambda guided, cond: guided):
    def answer(guided, cond, share):
        return share * factor(guided, cond) * guided + (1 - share) * rest(guided, cond)
    return answer


def spread(x, dims=(1, 2, 3)):
    return x.std(dims, keepdim=True)


RESCALE = {
    "upside down": by_hand(lambda guided, cond: spread(guided) / spread(cond)),
    "whole batch": by_hand(lambda guided, cond: cond.std() / guided.std()),
    "shifts the colours": by_hand(lambda guided, cond: spread(cond, (2, 3)) / spread(guided, (2, 3))),
    "over the batch": by_hand(lambda guided, cond: spread(cond, 0) / spread(guided, 0)),
    "the variance is taken": by_hand(lambda guided, cond: (spread(cond) / spread(guided)) ** 2),
    "the share is inverted": lambda guided, cond, share: rescale(guided, cond, 1 - share),
    "the share does nothing": lambda guided, cond, share: rescale(guided, cond, 1),
    "turns guidance back": by_hand(lambda guided, cond: spread(cond) / spread(guided),
                                   rest=lambda guided, cond: cond),
    "the rest is missing": by_hand(lambda guided, cond: spread(cond) / spread(guided),
                                   rest=lambda guided, cond: 0 * guided),
    "the mean is kept": lambda guided, cond, share: rescale(guided, cond, share) + (
        guided - rescale(guided, cond, share)).mean((1, 2, 3), keepdim=True),
    "values are cut off": lambda guided, cond, share: guided.clamp(min=-1, max=1),
    "keepdim=True": lambda guided, cond, share: guided * (cond.std((1, 2, 3)) / guided.std((1, 2, 3))),
    "no common mistake": lambda guided, cond, share: 0.9 * rescale(guided, cond, share),
}

CHECKS = [
    (guidance.check_tokens_of, tokens_of, TOKENS_OF),
    (guidance.check_guide, guide, GUIDE),
    (guidance.check_both_branches, both_branches, BOTH_BRANCHES),
    (guidance.check_rescale, rescale, RESCALE),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
