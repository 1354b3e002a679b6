"""Checks for 07_instructpix2pix: dropped, three_answers, dual_guidance, pointed_at."""

import torch

from minidiff.process.guidance import cfg, dual_cfg

from .verdict import Case, judge, normal


def check_dropped(answer):
    """answer(u, share) -> bool (2, n): who goes without text, who goes without picture."""
    cases = [Case(f"share = {share}", (torch.rand(40, generator=seeded(seed)), share))
             for seed, share in enumerate((0.05, 0.2, 1 / 3))]

    def losing(text=lambda u, share: u < 2 * share, image=lambda u, share: (u >= share) & (u < 3 * share)):
        return lambda u, share: torch.stack([text(u, share), image(u, share)])

    def once(u, share):
        return dropped(u[:1], share).expand(-1, len(u))

    dropped = losing()
    return judge("dropped", answer, dropped, cases, [
        (losing(text=lambda u, share: u < share),
         "the second share, which goes without *both*, keeps its text here: the text is missing below "
         "2 share."),
        (losing(image=lambda u, share: (u >= 2 * share) & (u < 3 * share)),
         "the second share, which goes without *both*, keeps its picture here: the picture is missing from "
         "share on."),
        (losing(lambda u, share: u < share, lambda u, share: (u >= share) & (u < 2 * share)),
         "nobody goes without both: that is the prediction with neither, from which all guidance starts."),
        (losing(image=lambda u, share: u < 2 * share),
         "text and picture always go together: then the network never learns the picture alone, nor the text "
         "alone."),
        (losing(image=lambda u, share: u < 3 * share),
         "the first share, which goes without text only, loses its picture, too."),
        (losing(text=lambda u, share: u < 3 * share),
         "the third share, which goes without picture only, loses its text, too."),
        (lambda u, share: dropped(u, share).flip(0),
         "the two are swapped: the text comes first."),
        (lambda u, share: ~dropped(u, share),
         "this says who *keeps* them: True = goes without."),
        (lambda u, share: dropped(1 - u, share),
         "the shares are taken from the top of the range: the first three shares of 0..1 lose something."),
        (once,
         "one number decides for the whole batch: each pair has its own."),
        (lambda u, share: torch.zeros(2, len(u), dtype=torch.bool),
         "nothing is dropped: such a network has no answer to a question without text or picture, and "
         "guidance asks two of them at every step."),
    ], praise="right. One number a pair, three shares, and one network learns all that guidance asks.")


def check_three_answers(answer):
    """answer(network, x_t, image, text, no_text) -> (3, B, 3, H, W): none, image, both, of one pass."""
    cases = []
    for n in (2, 3):
        x_t, image, text = normal(n, n, 3, 4, 4), normal(n + 10, n, 3, 4, 4), normal(n + 20, n, 5)
        cases.append(Case(f"{n} pictures", (network, x_t, image, text, normal(30, 5))))

    def asking(conditions, order=lambda answers, n: answers.unflatten(0, (3, n)),
               noisy=lambda x_t: torch.cat([x_t] * 3)):
        def ask(network, x_t, image, text, no_text):
            texts, images = conditions(text, no_text.expand_as(text), image, torch.zeros_like(image))
            return order(network(noisy(x_t), torch.cat(texts), torch.cat(images)), len(x_t))
        return ask

    def right(text, empty, image, grey):
        return (empty, empty, text), (grey, image, image)

    def one_by_one(network, x_t, image, text, no_text):
        (empty, _, _), (grey, _, _) = right(None, no_text.expand_as(text), image, torch.zeros_like(image))
        return torch.stack([network(x_t, empty, grey), network(x_t, empty, image), network(x_t, text, image)])

    three_answers = asking(right)
    return judge("three_answers", answer, three_answers, cases, [
        (one_by_one,
         "the answers are right, but they took three passes: put all three questions into one batch, of 3 B "
         "pictures."),
        (asking(lambda text, empty, image, grey: ((empty, text, text), (grey, grey, image))),
         "the second question has the text without the picture: that is the one which is never asked. It is "
         "the picture without text."),
        (asking(lambda text, empty, image, grey: ((empty, empty, text), (image, image, image))),
         "the first question shows the picture: without picture and text, zeros stand in its place."),
        (asking(lambda text, empty, image, grey: ((text, text, text), (grey, image, image))),
         "the text is never left out: only the third question has it, the first two have no_text."),
        (asking(lambda text, empty, image, grey: ((empty, text, text), (grey, image, image))),
         "the second question has the text already, so it is the third once more: leave it out."),
        (asking(lambda text, empty, image, grey: ((empty, empty, text), (grey - 1, image, image))),
         "no picture is black here: it is all 0, as in training, and in [-1, 1] that is grey."),
        (asking(right, lambda answers, n: answers.unflatten(0, (3, n)).flip(0)),
         "the order is turned round: none, image, both."),
        (asking(right, lambda answers, n: answers.unflatten(0, (n, 3)).transpose(0, 1)),
         "the answers are taken apart one by one: the batch has all of the first question, then all of the "
         "second, so chunk(3), or unflatten(0, (3, B))."),
        (asking(right, noisy=lambda x_t: x_t.repeat_interleave(3, 0)),
         "x_t is repeated picture by picture, the questions come block by block: so answers stand beside the "
         "wrong x_t. torch.cat([x_t] * 3)."),
    ], raised={
        "one batch size expected": "x_t, text and picture of one pass need the same batch size, 3 B: repeat "
                                   "x_t three times, and bring no_text to (B, D) by expand_as(text).",
    }, praise="right. Three questions, one pass: dearer than one question, cheaper than three passes.")


def network(x_t, text, image):
    """A stand-in: its answer depends on all that it is given, and on how many pictures come in one pass."""
    if not len(x_t) == len(text) == len(image):
        raise ValueError(f"{len(x_t)} x_t, {len(text)} texts, {len(image)} pictures: one batch size expected")
    words = (text * torch.arange(1, text.shape[1] + 1)).sum(1).view(-1, 1, 1, 1)
    return torch.tanh(x_t + 0.7 * image + 0.1 * words) + 0.05 * len(x_t)


def check_dual_guidance(answer):
    """answer(none, image, both, image_scale, text_scale) -> the guided prediction."""
    predictions = tuple(normal(seed, 2, 3, 4, 4) for seed in range(3))
    cases = [Case(f"scales {scales}", (*predictions, *scales))
             for scales in [(1.5, 7.5), (1.0, 0.0), (0.5, 3.0), (2.0, 2.0)]]

    def in_two_steps(none, image, both, image_scale, text_scale):
        return cfg(cfg(none, image, image_scale), both, text_scale)

    return judge("dual_guidance", answer, dual_cfg, cases, [
        (lambda none, image, both, s_i, s_t: none + s_i * (image - none) + s_t * (both - none),
         "the second way starts from `none`: then it has the picture in it, too, which counts twice. It goes "
         "from `image` to `both`, and that is the text alone."),
        (in_two_steps,
         "the second way starts from the guided prediction: both - image is the difference of two answers of "
         "the network, whatever image_scale is."),
        (lambda none, image, both, s_i, s_t: dual_cfg(none, image, both, s_t, s_i),
         "the scales are swapped: image_scale goes with image - none."),
        (lambda none, image, both, s_i, s_t: s_i * (image - none) + s_t * (both - image),
         "the start is missing: two differences alone are no picture. Add them to `none`."),
        (lambda none, image, both, s_i, s_t: image + s_i * (image - none) + s_t * (both - image),
         "it starts from `image`: then image_scale 1 goes that way twice. Start from `none`."),
        (lambda none, image, both, s_i, s_t: both + s_i * (image - none) + s_t * (both - image),
         "each way is gone once too often: it starts from `both`, or 1 is added to the scales. Start from "
         "`none`; scale 1 means guidance off, 0 that the condition is ignored."),
        (lambda none, image, both, s_i, s_t: cfg(none, image, s_i) + cfg(image, both, s_t),
         "two guided predictions are added up, so there is one picture too many: `image` stands for itself "
         "in the second. Add only s_T (both - image)."),
        (lambda none, image, both, s_i, s_t: cfg(none, both, s_t),
         "this is guidance with one scale, from `none` to `both`: image_scale does nothing."),
        (lambda none, image, both, s_i, s_t: cfg(none, both, s_i),
         "this is guidance with one scale, from `none` to `both`: text_scale does nothing."),
        (lambda none, image, both, s_i, s_t: none + s_i * (none - image) + s_t * (image - both),
         "the signs are turned: it walks away from the picture and from the text."),
        (lambda none, image, both, s_i, s_t: none + s_i * (image - none) + s_t * (image - both),
         "the sign of the second way is turned: both - image leads towards the text."),
        (lambda none, image, both, s_i, s_t: none + s_i * image + s_t * both,
         "predictions are added, not differences: the ways are image - none and both - image."),
    ], praise="right. At (1, 1) it is `both`, at (1, 0) `image`, at (0, 0) `none`.")


def check_pointed_at(answer):
    """answer(image, both) -> bool (1, 1, H, W), from predictions (N, 3, H, W) of one picture, N noises."""
    cases = []
    for seed, (n, size) in enumerate([(4, 1.0), (8, 0.3), (6, 2.0)]):
        spot = torch.linspace(0, 2, 16).view(1, 1, 1, 16) * torch.tensor([1.5, -0.3, -1.0]).view(1, 3, 1, 1)
        spot = spot.repeat(1, 1, 16, 1)                           # from left to right, more and more
        spot[..., : 9 + seed, :] = 0
        spot[..., 1, 1] = 9.0                                     # one extreme pixel
        flips = (torch.rand(n, 1, 1, 1, generator=seeded(seed)) < 0.5) * 2 - 1
        image, grain = normal(seed, n, 3, 16, 16), normal(seed + 10, n, 3, 16, 16)
        cases.append(Case(f"{n} noises", (image, image + size * (flips * spot + 0.3 * grain))))

    def pointing(heat=lambda gap: gap.abs().mean((0, 1), keepdim=True), above=lambda heat: 1.5 * heat.mean()):
        def found(image, both):
            hot = heat(both - image)
            return hot > above(hot)
        return found

    pointed_at = pointing()
    return judge("pointed_at", answer, pointed_at, cases, [
        (pointing(lambda gap: gap.mean((0, 1), keepdim=True)),
         "the sign is kept: brighter under one noise and darker under another cancel. Take .abs() before any "
         "mean."),
        (pointing(lambda gap: gap.mean(0, keepdim=True).abs().mean(1, keepdim=True)),
         "the mean over the noises is taken before .abs(): what one noise makes brighter and another darker "
         "cancels."),
        (pointing(lambda gap: gap.mean(1, keepdim=True).abs().mean(0, keepdim=True)),
         "the mean over the colours is taken before .abs(): more red and less blue cancel."),
        (pointing(lambda gap: gap.abs().amax(1, keepdim=True).mean(0, keepdim=True)),
         "the largest channel is taken: it is the mean over the channels."),
        (pointing(lambda gap: gap[:1].abs().mean(1, keepdim=True)),
         "only the first noise is looked at: average over all of them, or the map is mostly noise."),
        (pointing(lambda gap: gap.square().mean((0, 1), keepdim=True)),
         "differences are squared: the rule takes |both - image|."),
        (pointing(above=lambda heat: heat.max() / 2),
         "it is half of the largest value: one extreme pixel then hides all others. Clamp at 3 times the "
         "mean first."),
        (pointing(above=lambda heat: 3 * heat.mean()),
         "the limit itself is taken: above *half* of it, of 3 times the mean."),
        (pointing(above=lambda heat: heat.mean()),
         "above the mean is not enough: above half of 3 times the mean."),
        (pointing(above=lambda heat: heat.mean() / 2),
         "above half of the mean is not enough: above half of *3 times* the mean."),
        (pointing(above=lambda heat: 0.5),
         "the map is not normalised: divide it by 3 times its mean, then compare with .5."),
        (lambda image, both: ~pointed_at(image, both),
         "it is turned round: True = may change, where the difference is large."),
    ], raised={
        "the result is (1, 3, 16, 16)": "each channel has a mask of its own: a pixel may change or it may "
                                        "not, so take the mean over the channels, too.",
    }, praise="right. It is a mask that nobody drew.")


def seeded(seed):
    return torch.Generator().manual_seed(seed)
