"""Checks for 12_pictures_as_tokens: sequence_positions, predicted, flow_loss, turned."""

import torch

from minidiff.process.guidance import cfg, norm_preserving, rescaled

from .verdict import Case, judge, normal


def check_sequence_positions(answer):
    """answer(length, contexts, target) -> int64 (N, 3): where each token of text, contexts, target stands."""
    cases = [Case("one picture", (5, [(2, 3)], (2, 2))),
             Case("two pictures", (3, [(2, 3), (3, 1)], (2, 3)))]

    def row_by_row(i, height, width):
        return torch.cartesian_prod(torch.tensor([i]), torch.arange(height), torch.arange(width))

    def column_by_column(i, height, width):
        return row_by_row(i, width, height)[:, [0, 2, 1]]

    def at_origin(length):
        return torch.zeros(length, 3, dtype=torch.int64)

    def along_w(length):
        return row_by_row(0, 1, length)

    def laying(text=at_origin, grid=row_by_row, numbers=lambda k: range(1, k + 1), own=lambda k: 0,
               order=lambda text, contexts, target: [text, *contexts, target]):
        def lay(length, contexts, target):
            pictures = [grid(i, *size) for i, size in zip(numbers(len(contexts)), contexts)]
            return torch.cat(order(text(length), pictures, grid(own(len(contexts)), *target)))
        return lay

    def side_by_side(length, contexts, target):
        pictures, right = [], 0
        for height, width in contexts:
            pictures.append(row_by_row(1, height, width) + torch.tensor([0, 0, right]))
            right += width
        return torch.cat([at_origin(length), *pictures, row_by_row(0, *target)])

    def columns(*order):
        return lambda *arguments: laying()(*arguments)[:, list(order)]

    return judge("sequence_positions", answer, laying(), cases, [
        (laying(numbers=range),
         "the first picture has i = 0, which is the target's own number: their tokens stand at the same "
         "places then, one on the other. Pictures count from 1."),
        (laying(numbers=range, own=lambda k: k),
         "the target comes last in the count here, so that its i depends on how many pictures there are. The "
         "target is always 0."),
        (laying(own=lambda k: k + 1),
         "the target is numbered after the pictures: then i changes with their number. It is always 0."),
        (laying(numbers=lambda k: [1] * k),
         "all pictures have i = 1: the network cannot tell \"image 2\" from image 1."),
        (laying(numbers=lambda k: range(k, 0, -1)),
         "the pictures are numbered from the last to the first: \"image 2\" would mean image 1."),
        (side_by_side,
         "the pictures stand side by side, as one wide one: then a token of image 2 has no partner at its "
         "own place in the target. Each has i of its own, and h and w from 0."),
        (columns(0, 2, 1),
         "h and w are swapped: it is (i, h, w), the row first."),
        (columns(1, 2, 0),
         "the columns are turned: it is (i, h, w), the number of the picture first."),
        (laying(grid=column_by_column),
         "the tokens come column by column: patches are cut row by row, so w runs fastest."),
        (laying(text=along_w),
         "the words are laid out along w: they are at no place of the picture, so all stand at (0, 0, 0). "
         "Their order is known to the text encoder."),
        (laying(text=lambda length: at_origin(length) + 1),
         "the words stand at (1, 1, 1), on top of a token of image 1: all stand at (0, 0, 0), where nothing "
         "turns."),
        (laying(order=lambda text, contexts, target: [text, target, *contexts]),
         "the order is text, pictures, target; here the target comes before the pictures, and its tokens get "
         "their places."),
        (laying(order=lambda text, contexts, target: [*contexts, text, target]),
         "the order is text, pictures, target; here the words come after the pictures."),
        (laying(grid=lambda *picture: row_by_row(*picture) + torch.tensor([0, 1, 1])),
         "h and w are counted from 1: from 0, as torch.arange does."),
    ], raised={
        "(10, 3) int64: (15, 3)": "the words are missing: `length` tokens at (0, 0, 0), before all others.",
        "(11, 3) int64: (15, 3)": "the target is missing: its tokens come last, with i = 0.",
        "(9, 3) int64: (15, 3)": "the pictures are missing: (i, h, w) for each of their tokens, i = 1, 2, 3.",
        "(13, 3) int64: (15, 3)": "the picture is given the target's size: pictures may have sizes of their "
                                  "own.",
        ") float": "places are whole numbers, int64: counted, not measured as shares of the side.",
    }, praise="right. A token of the target and its partner in image 1 differ in i, and in nothing else.")


def check_predicted(answer):
    """answer(network, text, contexts, target) -> (B, N, D): the target's part of one joint pass."""
    cases = []
    for seed, (batch, length, sizes, own) in enumerate([(2, 3, (4,), 5), (3, 2, (5, 6), 4), (2, 4, (), 6)]):
        parts = [normal(10 * seed + k, batch, n, 6) for k, n in enumerate((length, *sizes, own))]
        cases.append(Case(f"{len(sizes)} pictures", (network_on_tokens, parts[0], parts[1:-1], parts[-1])))

    def cut_last(out, text, target):
        return out[:, -target.shape[1] :]

    def cut_first(out, text, target):
        return out[:, : target.shape[1]]

    def cut_behind_text(out, text, target):
        return out[:, text.shape[1] : text.shape[1] + target.shape[1]]

    def joining(order=lambda text, contexts, target: [text, *contexts, target], cut=cut_last):
        def ask(network, text, contexts, target):
            return cut(network(torch.cat(order(text, contexts, target), dim=1)), text, target)
        return ask

    def one_by_one(network, text, contexts, target):
        passes = [predicted(network, text, [picture], target) for picture in contexts]
        return sum(passes) / len(passes) if passes else predicted(network, text, [], target)

    def padded(network, text, contexts, target):
        blank = [torch.zeros_like(target)] * (2 - len(contexts))
        return predicted(network, text, [*contexts, *blank], target)

    predicted = joining()
    return judge("predicted", answer, predicted, cases, [
        (joining(cut=cut_first),
         "the *first* tokens are taken: those are the words, and what became of them is nobody's velocity. "
         "The target stands last."),
        (joining(cut=cut_behind_text),
         "the tokens right behind the words are taken: that is where the first picture stands. The target "
         "stands last."),
        (joining(lambda text, contexts, target: [target, *contexts, text], cut_first),
         "the target stands first here, the words last: the order is text, pictures, target."),
        (joining(lambda text, contexts, target: [target, text, *contexts], cut_first),
         "the target stands first here: the order is text, pictures, target."),
        (joining(lambda text, contexts, target: [*contexts, text, target]),
         "the pictures stand before the words here: the order is text, pictures, target."),
        (joining(lambda text, contexts, target: [text, *contexts[::-1], target]),
         "the pictures are turned round: the first comes first, right behind the words."),
        (joining(lambda text, contexts, target: [text, target]),
         "the pictures are not shown: without them it is a network that draws from words."),
        (joining(lambda text, contexts, target: [*contexts, target]),
         "the words are not said: the network sees what there is, and not what is wanted."),
        (joining(lambda text, contexts, target: [text, *contexts[:1], target]),
         "only the first picture is shown: an instruction may speak of image 2."),
        (joining(lambda text, contexts, target: [text, *contexts[-1:], target]),
         "only the last picture is shown: a sequence has room for all of them."),
        (one_by_one,
         "each picture has a pass to itself, and the answers are averaged: then no token ever sees two "
         "pictures at once. All in one sequence."),
        (padded,
         "missing pictures are filled up with zeros: those are tokens, too, and are looked at. With fewer "
         "pictures the sequence is shorter, and that is all."),
        (lambda network, text, contexts, target: target + predicted(network, text, contexts, target),
         "the target is added to the prediction: what comes out of the network *is* the prediction."),
        (lambda network, text, contexts, target: target,
         "the target came back as it went in: cut the *output* of the network."),
    ], raised={
        "(2, 12, 6) float32: (2, 5, 6)": "the whole sequence came back: only what stands at the target's "
                                         "places is a prediction, the last N tokens.",
        "except in dimension 0": "the parts were put together along the batch: tokens make a longer "
                                 "*sequence*, dim=1.",
        "except in dimension 2": "the parts were put together along the channels, as InstructPix2Pix would: "
                                 "tokens make a longer *sequence*, dim=1.",
    }, praise="right. What is looked at may be of any number and size; what comes out has the target's.")


def network_on_tokens(tokens):
    """A stand-in: every token hears of all the others, of where they stand, and of how many there are."""
    if tokens.ndim != 3 or tokens.shape[2] != 6:
        raise ValueError(f"tokens are {tuple(tokens.shape)}: (B, N, 6) expected")
    places = torch.arange(1, tokens.shape[1] + 1).view(1, -1, 1)
    return torch.tanh(tokens + (tokens * places).mean(1, keepdim=True) / 4 + 0.02 * tokens.shape[1])


def check_flow_loss(answer):
    """answer(network, z0, contexts, t, noise) -> (B,): only the target is noised."""
    cases = []
    for seed, (batch, side, count) in enumerate([(4, 4, 1), (2, 4, 2), (3, 5, 0)]):
        shape = (batch, 3, side, side)
        z0, noise, *contexts = (normal(10 * seed + k, *shape) for k in range(2 + count))
        t = torch.rand(batch, generator=torch.Generator().manual_seed(seed + 40))
        cases.append(Case(f"{batch} examples with {count} pictures", (velocity, z0, contexts, t, noise)))

    def wide(t):
        return t.view(-1, 1, 1, 1)

    def at(x0, t, noise):
        return (1 - wide(t)) * x0 + wide(t) * noise

    def each_mean(gap):
        return gap.square().mean((1, 2, 3))

    def learning(noised=at, wanted=lambda z0, noise: noise - z0, size=each_mean, level=lambda t: t,
                 shown=lambda contexts, t, noise: contexts):
        def loss(network, z0, contexts, t, noise):
            found = network(noised(z0, t, noise), level(t), shown(contexts, t, noise))
            return size(found - wanted(z0, noise))
        return loss

    def from_the_picture(network, z0, contexts, t, noise):
        return learning()(network, z0, contexts, t, contexts[0] if contexts else noise)

    def copying(network, z0, contexts, t, noise):
        return learning()(network, contexts[0] if contexts else z0, contexts, t, noise)

    def asked_of_all(network, z0, contexts, t, noise):
        losses = [learning()(network, each, contexts, t, noise) for each in (z0, *contexts)]
        return torch.stack(losses).mean(0)

    return judge("flow_loss", answer, learning(), cases, [
        (learning(shown=lambda contexts, t, noise: [at(each, t, noise) for each in contexts]),
         "the pictures are noised as well: near t = 1 nothing of them is left, just where the network needs "
         "them most. They stay clean, only the target is noised."),
        (learning(shown=lambda contexts, t, noise: []),
         "the pictures are not shown to the network: it would learn to draw from words alone."),
        (learning(shown=lambda contexts, t, noise: contexts[:1]),
         "only the first picture is shown: hand over all of them."),
        (learning(wanted=lambda z0, noise: z0 - noise),
         "the sign is turned: levels go up towards the noise, so v = noise - z0. Elsewhere time runs the "
         "other way, and v with it."),
        (learning(wanted=lambda z0, noise: noise),
         "it is asked for the noise: that is DDPM's way. A flow's network predicts the velocity, noise - "
         "z0."),
        (learning(wanted=lambda z0, noise: z0),
         "it is asked for the clean target: a flow's network predicts the velocity, noise - z0."),
        (learning(noised=lambda z0, t, noise: at(noise, t, z0)),
         "signal and noise are swapped: t = 1 is pure noise, so z_t = (1 - t) z0 + t noise."),
        (learning(noised=lambda z0, t, noise: (1 - wide(t)).sqrt() * z0 + wide(t).sqrt() * noise),
         "there are square roots in it: those are DDPM's. A flow walks a straight line, (1 - t) z0 + t "
         "noise."),
        (learning(noised=lambda z0, t, noise: (1 - t) * z0 + t * noise),
         "t is (B,), and broadcasts along the width of the picture: one level a *column*. View it as "
         "(B, 1, 1, 1)."),
        (learning(noised=lambda z0, t, noise: z0),
         "the network is shown the clean target, which is the answer: it sees z_t."),
        (learning(noised=lambda z0, t, noise: z0 + wide(t) * noise),
         "noise is added, and the signal stays: z_t = (1 - t) z0 + t noise."),
        (learning(level=lambda t: 1 - t),
         "the network is told 1 - t: tell it the level, t."),
        (from_the_picture,
         "the walk starts from the first picture here, in place of the noise: that would be a bridge from "
         "picture to picture. This one starts from pure noise, and *looks* at the picture."),
        (copying,
         "noised and asked for is the picture before: so it learns to copy. z0 is the picture after."),
        (asked_of_all,
         "the pictures are asked for, too: nobody needs to predict what is given. The prediction is cut to "
         "the target."),
        (learning(size=lambda gap: gap.abs().mean((1, 2, 3))),
         "differences are not squared: it is the mean of squares that has its minimum at the mean velocity."),
        (learning(size=lambda gap: gap.square().sum((1, 2, 3))),
         "it is the sum over a picture: take the mean, or larger pictures count for more."),
        (learning(size=lambda gap: each_mean(gap).sqrt()),
         "a root too many: the mean of the squares itself."),
    ], raised={
        "the result is () ": "one number came for the whole batch: one for each example, the mean over dims "
                             "1, 2 and 3.",
        "t is (": "the network wants the levels as they came, (B,): only for the noising view them as "
                  "(B, 1, 1, 1).",
    }, praise="right. Clean pictures in, noise on the target alone, and a velocity for the target alone.")


def velocity(z_t, t, contexts):
    """A stand-in for the network: its answer depends on all that it is given."""
    if t.shape != z_t.shape[:1]:
        raise ValueError(f"t is {tuple(t.shape)}: ({len(z_t)},) expected")
    seen = sum(0.4 * k * picture for k, picture in enumerate(contexts, 1))
    return torch.tanh(z_t + seen) * (1 + t.view(-1, 1, 1, 1)) + 0.1 * len(contexts)


def check_turned(answer):
    """answer(uncond, cond, scale) -> guided, every cell as long as in cond."""
    cases = [Case(f"scale {scale}", (normal(seed, 2, 5, 3, 4), 1.5 * normal(seed + 10, 2, 5, 3, 4), scale))
             for seed, scale in enumerate((1.5, 4.0, 0.5))]

    def length(prediction, dim=1):
        return prediction.square().sum(dim, keepdim=True).sqrt()

    def bringing(dim=1, size=length, like=lambda uncond, cond: cond, ratio=lambda wanted, own: wanted / own,
                 guide=cfg):
        def bring(uncond, cond, scale):
            guided = guide(uncond, cond, scale)
            return guided * ratio(size(like(uncond, cond), dim), size(guided, dim))
        return bring

    def from_cond(uncond, cond, scale):
        return cond + scale * (cond - uncond)

    def only_the_way(uncond, cond, scale):
        way = scale * (cond - uncond)
        return uncond + way * length(cond) / length(way)

    def wrong_way_round(uncond, cond, scale):
        return cond * length(cfg(uncond, cond, scale)) / length(cond)

    return judge("turned", answer, norm_preserving, cases, [
        (cfg,
         "this is plain guidance: its length is not brought back. Multiply by |cond| / |guided|, cell by "
         "cell."),
        (bringing(dim=(1, 2, 3)),
         "one length for the whole picture: then a cell may still grow, if others shrink. Measure over the "
         "channels of each cell, dim=1."),
        (bringing(dim=(2, 3)),
         "the length is that of a channel, over all places: measure over the channels of a cell, dim=1."),
        (bringing(dim=(0, 1)),
         "the length is taken over the pictures of the batch as well: so they depend on each other. dim=1."),
        (bringing(dim=3),
         "the length is taken along the width: over the channels of each cell, dim=1."),
        (bringing(like=lambda uncond, cond: uncond),
         "it gets the length of the prediction *without* the text: take that of cond."),
        (bringing(ratio=lambda wanted, own: own / wanted),
         "the ratio is upside down, so what is too long gets longer: |cond| / |guided|."),
        (bringing(ratio=lambda wanted, own: 1 / own),
         "every cell has length 1 now: give it the length of cond back."),
        (bringing(ratio=lambda wanted, own: (wanted / own).square()),
         "the root is missing: a length is the root of the sum of squares."),
        (bringing(ratio=lambda wanted, own: (wanted / own).clamp(max=1)),
         "cells are only ever shortened: bring those back, too, that have become shorter than cond."),
        (bringing(size=lambda prediction, dim: prediction.abs().sum(dim, keepdim=True)),
         "this length is the sum of |values|: take the root of the sum of squares."),
        (bringing(size=lambda prediction, dim: prediction.std(dim, keepdim=True)),
         "this is the deviation over a cell's channels: a length is measured from 0, not from the mean."),
        (lambda uncond, cond, scale: rescaled(cfg(uncond, cond, scale), cond, 1.0),
         "this is `rescaled`: the contrast of whole pictures. Here every cell keeps its own length."),
        (bringing(guide=from_cond),
         "guidance starts from cond here: then scale 1 would overdo it. It starts from uncond."),
        (bringing(guide=lambda uncond, cond, scale: cfg(cond, uncond, scale)),
         "uncond and cond are swapped in the guidance: it walks away from the text."),
        (bringing(guide=lambda uncond, cond, scale: scale * (cond - uncond)),
         "the start is missing: a difference alone is no prediction. uncond + scale (cond - uncond)."),
        (only_the_way,
         "the *difference* is brought to the length of cond: it is the guided prediction, after the sum."),
        (wrong_way_round,
         "this points where cond points, and is as long as the guided prediction: it is the other way "
         "round."),
        (lambda uncond, cond, scale: cond,
         "this is cond: at scale 1 that is right, but guidance has to turn it."),
    ], praise="right. Guidance turns the prediction of every cell, and stretches none.")
