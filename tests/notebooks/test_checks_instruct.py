"""The checks of notebook 07, fed right answers and wrong ones: they must call each mistake by its name."""

import torch

from tests.notebooks.marking import suite  # puts the checks on the path

# isort: split
from checks import instruct

# For each check: the right answer, in another form, and wrong ones under words that the verdict must contain.

def dropped(u, share, text=(0, 1), image=(1, 2)):
    """Which third of 0..3 share a number falls into decides."""
    third = [int(number / share) for number in u.tolist()]
    return torch.tensor([[k in text for k in third], [k in image for k in third]])


DROPPED = {
    "keeps its text here": lambda u, share: dropped(u, share, text=(0,)),
    "keeps its picture here": lambda u, share: dropped(u, share, image=(2,)),
    "nobody goes without both": lambda u, share: dropped(u, share, text=(0,), image=(1,)),
    "always go together": lambda u, share: dropped(u, share, image=(0, 1)),
    "loses its picture, too": lambda u, share: dropped(u, share, image=(0, 1, 2)),
    "loses its text, too": lambda u, share: dropped(u, share, text=(0, 1, 2)),
    "swapped": lambda u, share: dropped(u, share, text=(1, 2), image=(0, 1)),
    "who *keeps* them": lambda u, share: ~dropped(u, share),
    "from the top": lambda u, share: dropped(1 - u, share),
    "for the whole batch": lambda u, share: dropped(u[:1].expand(len(u)), share),
    "nothing is dropped": lambda u, share: torch.zeros(2, len(u)) > 0,
    "bool expected": lambda u, share: dropped(u, share).float(),
    "(40, 2)": lambda u, share: dropped(u, share).T,
    "a Tensor expected": lambda u, share: tuple(dropped(u, share)),
    "no common mistake": lambda u, share: dropped(u, share, text=(0, 1, 5)),
}


def three_answers(network, x_t, image, text, no_text, blank=0.0, ask=(0, 1, 2)):
    empty, grey = no_text.repeat(len(text), 1), torch.full_like(image, blank)
    questions = [(empty, grey), (empty, image), (text, image)]
    texts, images = zip(*[questions[i] for i in ask])
    return torch.stack(network(x_t.repeat(3, 1, 1, 1), torch.cat(texts), torch.cat(images)).chunk(3))


def block_by_block(x_t):
    return torch.cat([x_t, x_t, x_t])


def taken_in_blocks(out):
    return torch.stack(out.chunk(3))


def asking(texts, images, noisy=block_by_block, take=taken_in_blocks):
    """texts, images: of the three questions, 1 = there, 0 = left out."""
    def ask(network, x_t, image, text, no_text):
        said = [text if there == "1" else no_text.repeat(len(text), 1) for there in texts]
        shown = [image if there == "1" else 0 * image for there in images]
        return take(network(noisy(x_t), torch.cat(said), torch.cat(shown)))
    return ask


def three_passes(network, x_t, image, text, no_text):
    empty, grey = torch.stack([no_text] * len(text)), 0 * image
    questions = [(empty, grey), (empty, image), (text, image)]
    return torch.stack([network(x_t, *question) for question in questions])


def taken_one_by_one(out):
    return torch.stack([out[i::3] for i in range(3)])


def picture_by_picture(x_t):
    return torch.stack([x_t, x_t, x_t], dim=1).flatten(0, 1)


THREE_ANSWERS = {
    "three passes": three_passes,
    "which is never asked": asking("011", "001"),
    "the first question shows the picture": asking("001", "111"),
    "the text is never left out": asking("111", "011"),
    "the third once more": asking("011", "011"),
    "no picture is black": lambda *args: three_answers(*args, blank=-1.0),
    "order is turned round": lambda *args: three_answers(*args).flip(0),
    "taken apart one by one": asking("001", "011", take=taken_one_by_one),
    "picture by picture": asking("001", "011", noisy=picture_by_picture),
    "the same batch size": asking("001", "011", noisy=lambda x_t: x_t),
    "in place": lambda network, x_t, image, text, no_text: three_answers(
        network, x_t, image.mul_(1.5), text, no_text),
    "a Tensor expected": lambda *args: tuple(three_answers(*args)),
    "(6, 3, 4, 4)": lambda *args: three_answers(*args).flatten(0, 1),
    "no common mistake": lambda *args: three_answers(*args, ask=(1, 1, 2)) + 0.1,
}


def dual_guidance(none, image, both, image_scale, text_scale):
    """As a weighted sum of the three."""
    return (1 - image_scale) * none + (image_scale - text_scale) * image + text_scale * both


def weighted(weights):
    """weights: (image_scale, text_scale) -> those of none, image and both."""
    def guided(none, image, both, image_scale, text_scale):
        a, b, c = weights(image_scale, text_scale)
        return a * none + b * image + c * both
    return guided


DUAL_GUIDANCE = {
    "counts twice": weighted(lambda i, t: (1 - i - t, i, t)),
    "starts from the guided prediction": weighted(lambda i, t: ((1 - t) * (1 - i), (1 - t) * i, t)),
    "scales are swapped": lambda none, image, both, i, t: dual_guidance(none, image, both, t, i),
    "the start is missing": weighted(lambda i, t: (-i, i - t, t)),
    "it starts from `image`": weighted(lambda i, t: (-i, 1 + i - t, t)),
    "once too often": weighted(lambda i, t: (-i, i - t, 1 + t)),
    "one picture too many": weighted(lambda i, t: (1 - i, 1 + i - t, t)),
    "image_scale does nothing": weighted(lambda i, t: (1 - t, 0, t)),
    "text_scale does nothing": weighted(lambda i, t: (1 - i, 0, i)),
    "the signs are turned": weighted(lambda i, t: (1 + i, t - i, -t)),
    "sign of the second way": weighted(lambda i, t: (1 - i, i + t, -t)),
    "not differences": weighted(lambda i, t: (1, i, t)),
    "in place": lambda none, image, both, i, t: none.lerp_(image, i) + t * (both - image),
    "returned None": lambda *args: None,
    "no common mistake": lambda *args: 0.9 * dual_guidance(*args),
    "it raised TypeError": lambda none, image, both: none,
}


def pointed_at(image, both, limit=3.0, share=0.5, power=1):
    """The rule in its own words: clamp, normalise, compare."""
    total = sum((one - other).abs() ** power for one, other in zip(both, image)) / len(image)
    heat = (total[0] + total[1] + total[2]) / 3
    heat = heat.clamp(max=limit * heat.mean()) / (limit * heat.mean())
    return (heat > share)[None, None]


def hot(heat, factor=1.5):
    return (heat > factor * heat.mean())[None, None]


def half_of_the_largest(image, both):
    heat = (both - image).abs().mean((0, 1), keepdim=True)
    return heat / heat.max() > 0.5


def a_mask_each(image, both):
    heat = (both - image).abs().mean(0, keepdim=True)
    return heat > 1.5 * heat.mean((2, 3), keepdim=True)


POINTED_AT = {
    "sign is kept": lambda image, both: hot((both - image).mean(0).mean(0)),
    "over the noises is taken before": lambda image, both: hot((both.mean(0) - image.mean(0)).abs().mean(0)),
    "over the colours is taken before": lambda image, both: hot((both.mean(1) - image.mean(1)).abs().mean(0)),
    "largest channel": lambda image, both: hot((both - image).abs().max(1).values.mean(0)),
    "only the first noise": lambda image, both: pointed_at(image[:1], both[:1]),
    "squared": lambda image, both: pointed_at(image, both, power=2),
    "half of the largest value": half_of_the_largest,
    "the limit itself": lambda image, both: hot((both - image).abs().mean((0, 1)), 3),
    "above the mean is not enough": lambda image, both: pointed_at(image, both, share=1 / 3),
    "half of the mean": lambda image, both: pointed_at(image, both, share=1 / 6),
    "not normalised": lambda image, both: ((both - image).abs().mean((0, 1)) > 0.5)[None, None],
    "turned round": lambda image, both: ~pointed_at(image, both),
    "each channel has a mask": a_mask_each,
    "bool expected": lambda image, both: pointed_at(image, both).float(),
    "no common mistake": lambda image, both: pointed_at(image, both, share=0.8),
}


CHECKS = [
    (instruct.check_dropped, dropped, DROPPED),
    (instruct.check_three_answers, three_answers, THREE_ANSWERS),
    (instruct.check_dual_guidance, dual_guidance, DUAL_GUIDANCE),
    (instruct.check_pointed_at, pointed_at, POINTED_AT),
]
test_right, test_wrong, test_unsolved = suite(CHECKS)
