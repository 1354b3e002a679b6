"""Checks for 10_the_diffusion_transformer: into_patches, turn, gated, look_together."""

from math import pi, sqrt

import torch
import torch.nn.functional as F
from einops import rearrange

from minidiff.denoisers.blocks import modulated
from minidiff.denoisers.dit import patchify

from .verdict import Case, judge, normal


def check_into_patches(answer):
    """answer(picture, patch) -> (B, N, C patch^2)."""
    cases = [Case(f"{tuple(shape)}, patch {patch}", (normal(seed, *shape), patch))
             for seed, (shape, patch) in enumerate([((2, 3, 4, 6), 2), ((1, 2, 9, 6), 3)])]

    def cut(pattern):
        return lambda picture, patch: rearrange(picture, f"b c {pattern}", p=patch, q=patch)

    def strips(picture, patch):
        return picture.reshape(len(picture), -1, picture.shape[1] * patch**2)

    def strips_by_channel(picture, patch):
        b, c, h, w = picture.shape
        return picture.reshape(b, c, -1, patch**2).transpose(1, 2).flatten(2)

    return judge("into_patches", answer, patchify, cases, [
        (strips,
         "a reshape alone: memory goes row by row through the whole picture, so these tokens are strips of "
         "one channel. Split H and W into two axes each, and permute."),
        (strips_by_channel,
         "each token has all channels, but of a strip, not of a patch: H and W must be split first, and the "
         "axis of columns in a patch brought beside that of rows."),
        (cut("(h p) (w q) -> b (h w) (p q c)"),
         "the channels come last in a token: first all pixels of channel 1, then of channel 2."),
        (cut("(h p) (w q) -> b (w h) (c p q)"),
         "tokens go column by column: `unpatchify` expects them row by row."),
        (cut("(h p) (w q) -> b (h w) (c q p)"),
         "the pixels of a patch go column by column: each patch comes back as its mirror image."),
        (cut("(h p) (w q) -> b (w h) (c q p)"),
         "rows and columns are swapped, in the picture and in each patch."),
        (cut("(p h) (q w) -> b (h w) (c p q)"),
         "each token takes every so many-th pixel of the whole picture: H splits into (H / patch, patch), in "
         "this order."),
    ], raised={
        "the result is (2, 4, 18)": "the picture is cut into patch x patch pieces, not into pieces of patch "
                                    "x patch pixels.",
        "the result is (2, 12, 6)": "the tokens come last: (B, N, C patch^2) is asked for, one row a token.",
        "the result is (2, 3, 6": "the channels are kept apart: a token has the pixels of all channels.",
        "the result is (2, 2, 3": "rows and columns of tokens are two axes: make them one, N.",
        "invalid for input": "the sizes of a reshape do not fit: H splits into (H / patch, patch), and so "
                             "does W.",
    }, praise="right. `unpatchify` brings the picture back.")


def check_turn(answer):
    """answer(x, angle) -> x, each pair of channels turned."""
    cases = [Case("4 heads, 4 tokens", (normal(0, 2, 4, 4, 8), 2 * normal(1, 4, 4))),
             Case("2 heads, 5 tokens", (normal(2, 3, 2, 5, 12), 2 * normal(3, 5, 6)))]

    def halves(x):
        return x.chunk(2, dim=3)

    def neighbours(x):
        return x[..., 0::2], x[..., 1::2]

    def side_by_side(a, b):
        return torch.cat([a, b], dim=3)

    def alternating(a, b):
        return torch.stack([a, b], dim=4).flatten(3)

    def right(a, b, cos, sin):
        return a * cos - b * sin, a * sin + b * cos

    def turning(split=halves, mix=right, join=side_by_side, of=lambda angle: angle):
        def turn(x, angle):
            angle = of(angle)
            return join(*mix(*split(x), angle.cos(), angle.sin()))
        return turn

    return judge("turn", answer, turning(), cases, [
        (turning(mix=lambda a, b, cos, sin: (a * cos + b * sin, b * cos - a * sin)),
         "it turns the other way: (a cos - b sin, a sin + b cos). Scores would be the same, but a network "
         "trained with one cannot be used with the other."),
        (turning(split=neighbours, join=alternating),
         "the pairs are neighbours, channels 1 and 2, 3 and 4: others do it so; here one is from the first "
         "half and one from the second."),
        (turning(split=neighbours),
         "the pairs are neighbours, and what comes out is halves: one is from the first half and one from "
         "the second, before and after."),
        (turning(join=alternating),
         "the pairs are right, but come out alternating: put the two halves back one behind the other."),
        (turning(mix=lambda a, b, cos, sin: (a * cos + b * sin, a * sin + b * cos)),
         "a sign is missing: this is no turn, it changes lengths. (a cos - b sin, a sin + b cos)."),
        (turning(mix=lambda a, b, cos, sin: (a * cos - b * sin, a * sin - b * cos)),
         "the second half has the wrong sign: a sin + b cos. Yours mirrors, and does not turn."),
        (turning(mix=lambda a, b, cos, sin: (a * cos - b * sin, b)),
         "only the first half is turned: the second becomes a sin + b cos."),
        (turning(mix=lambda a, b, cos, sin: (a * cos, b * cos)),
         "the sines are missing: this shrinks each pair, and does not turn it."),
        (turning(mix=lambda a, b, cos, sin: (a * cos - b * sin, b * cos - a * sin)),
         "the second half has the wrong sign before its sine: a sin + b cos."),
        (turning(mix=lambda a, b, cos, sin: (a * sin - b * cos, a * cos + b * sin)),
         "sine and cosine are swapped: an angle of 0 must change nothing."),
        (turning(mix=lambda a, b, cos, sin: right(b, a, cos, sin)),
         "the halves are swapped before they are turned: a is the first."),
        (turning(mix=lambda a, b, cos, sin: right(a, b, cos, sin)[::-1]),
         "the halves come back in the wrong order."),
        (turning(mix=lambda a, b, cos, sin: ((new := a * cos - b * sin), new * sin + b * cos)),
         "the second half is made from the *turned* first half: keep a until both are computed."),
        (turning(of=lambda angle: angle[:, None]),
         "the angles run along the heads, which happens to fit: the *token* says the angle, and its axis is "
         "the third."),
        (turning(of=lambda angle: angle * pi / 180),
         "the angles are taken for degrees: they are in radians."),
        (turning(of=lambda angle: angle.flip(0)),
         "the tokens get each other's angles, last first."),
        (lambda x, angle: x + torch.cat([angle.cos(), angle.sin()], dim=1),
         "a code of the place is added: here queries and keys are turned, so that scores see differences."),
        (lambda x, angle: x,
         "nothing is turned: then no token knows where it stands."),
    ], raised={
        "must match the size": "angles and halves do not broadcast: angle is (N, D / 2), a half (B, heads, "
                               "N, D / 2).",
    }, praise="right. It changes no length, and an angle of 0 changes nothing.")


def check_gated(answer):
    """answer(x, layer, shift, scale, gate) -> (B, N, D)."""
    cases = []
    for seed, (b, n) in enumerate([(4, 4), (2, 5)]):
        x, told = 2 * normal(seed, b, n, 8) + 0.7, [normal(10 * k + seed, b, 8) for k in (1, 2, 3)]
        cases.append(Case(f"{b} pictures of {n} tokens", (x, layer, *told)))

    def column(part):
        return part[:, None]

    def norm(x, dims=(2,), correction=0):
        mean, var = x.mean(dims, keepdim=True), x.var(dims, correction=correction, keepdim=True)
        return (x - mean) / (var + 1e-5).sqrt()

    def adding(normed=norm, see=lambda h, shift, scale: h * (1 + scale) + shift, kept=lambda x, gate: x,
               said=lambda x, layer, h, gate: gate * layer(h), share=column):
        def add(x, layer, shift, scale, gate):
            shift, scale, gate = share(shift), share(scale), share(gate)
            return kept(x, gate) + said(x, layer, see(normed(x), shift, scale), gate)
        return add

    def reference(x, layer, shift, scale, gate):
        return x + gate[:, None] * layer(modulated(x, shift[:, None], scale[:, None]))

    def of_the_normed(x, layer, shift, scale, gate):
        return norm(x) + gate[:, None] * layer(modulated(x, shift[:, None], scale[:, None]))

    return judge("gated", answer, reference, cases, [
        (adding(see=lambda h, shift, scale: h * scale + shift),
         "the scale is scale, not 1 + scale: it starts at 0, and then the layer would see nothing of the "
         "tokens."),
        (adding(see=lambda h, shift, scale: (h + shift) * (1 + scale)),
         "the shift comes before the scale: norm(x) (1 + scale) + shift."),
        (adding(see=lambda h, shift, scale: h * (1 + shift) + scale),
         "shift and scale are swapped."),
        (adding(see=lambda h, shift, scale: h),
         "shift and scale are not used: the condition should say what range the layer sees."),
        (adding(normed=lambda x: x),
         "there is no norm: the layer sees the tokens at whatever size they have grown to."),
        (adding(normed=lambda x: norm(x, (1,))),
         "the norm runs over the tokens: each *token* is normed by itself, over its channels (dim=2)."),
        (adding(normed=lambda x: norm(x, (1, 2))),
         "the norm runs over tokens and channels together: each *token* by itself, over its channels (dim=2)."
         ),
        (adding(normed=lambda x: norm(x, correction=1)),
         "the variance is divided by D - 1: a layer norm divides by D (correction=0)."),
        (adding(normed=lambda x: F.rms_norm(x, x.shape[2:], eps=1e-5)),
         "the mean is not taken away: that is the RMS norm of queries and keys; here it is a layer norm."),
        (adding(normed=lambda x: (x - x.mean(2, keepdim=True)) / (x.var(2, correction=0, keepdim=True) + 1e-5)
                ),
         "the root is forgotten: it divides by the variance, not by its root."),
        (adding(kept=lambda x, gate: 0),
         "x itself is gone: the layer *adds* to it. With all gates 0, nothing would be left."),
        (of_the_normed,
         "the sum starts from the normed tokens: it starts from x, so that with gates of 0 nothing changes."),
        (adding(kept=lambda x, gate: gate * x),
         "the gate closes x as well: only what the layer says goes through the gate."),
        (adding(said=lambda x, layer, h, gate: layer(h)),
         "the gate is missing: a fresh network, whose gates are 0, must change nothing."),
        (adding(said=lambda x, layer, h, gate: (1 + gate) * layer(h)),
         "the gate is 1 + gate: it starts at 0, and must be closed then."),
        (adding(said=lambda x, layer, h, gate: gate.sigmoid() * layer(h)),
         "the gate goes through a sigmoid: it would begin half open. It is a plain factor."),
        (adding(said=lambda x, layer, h, gate: layer(gate * h)),
         "the gate is before the layer: a layer with a bias would speak through a closed gate. Multiply what "
         "comes out."),
        (adding(said=lambda x, layer, h, gate: gate * (layer(h) + x)),
         "x goes through the gate, too, and is added twice."),
        (adding(said=lambda x, layer, h, gate: gate * h),
         "the layer is not asked."),
        (adding(share=lambda part: part),
         "shift, scale and gate run along the tokens, which happens to fit: they are one row a *picture*, so "
         "make them (B, 1, D)."),
    ], raised={
        "must match the size": "shift, scale and gate are (B, D), tokens (B, N, D): make them (B, 1, D).",
    }, praise="right. With a gate of 0 it is x, bit for bit.")


def layer(h):
    """A stand-in for what a block does with its tokens; it has a bias, as layers do."""
    return h.sin() + 0.3


def check_look_together(answer):
    """answer(text, picture) -> (B, L + N, heads D).  text: (3, B, heads, L, D), picture: the same."""
    cases = []
    for seed, (b, heads, length, n, dim) in enumerate([(2, 2, 3, 4, 8), (3, 4, 2, 5, 4)]):
        text, picture = normal(seed, 3, b, heads, length, dim), normal(seed + 10, 3, b, heads, n, dim)
        cases.append(Case(f"{length} words, {n} patches", (1.5 * text, 1.5 * picture)))

    def attend(q, k, v, scale=sqrt, dim=3, soft=lambda scores, dim: scores.softmax(dim)):
        return soft(q @ k.transpose(2, 3) / scale(q.shape[3]), dim) @ v

    def side_by_side(heads):
        return heads.transpose(1, 2).flatten(2)

    def looking(join=lambda text, picture: torch.cat([text, picture], dim=3), beside=side_by_side, **how):
        return lambda text, picture: beside(attend(*join(text, picture), **how))

    def apart(see_text, see_picture):
        """Each kind asks for itself: what it sees is chosen from its own and the other's."""
        def look(text, picture):
            parts = {"text": text, "picture": picture, "both": torch.cat([text, picture], dim=3)}
            seen = attend(text[0], *parts[see_text][1:]), attend(picture[0], *parts[see_picture][1:])
            return side_by_side(torch.cat(seen, dim=2))
        return look

    def two_softmaxes(text, picture):
        q = torch.cat([text[0], picture[0]], dim=2)
        return side_by_side((attend(q, *text[1:]) + attend(q, *picture[1:])) / 2)

    def values_turned(text, picture):
        q, k, _ = torch.cat([text, picture], dim=3)
        return side_by_side(attend(q, k, torch.cat([picture[2], text[2]], dim=2)))

    def keys_ask(text, picture):
        q, k, v = torch.cat([text, picture], dim=3)
        return side_by_side(attend(k, q, v))

    return judge("look_together", answer, looking(), cases, [
        (apart("text", "picture"),
         "words look at words only, and patches at patches: joint attention is one softmax over all tokens."),
        (apart("text", "both"),
         "words do not look at the picture: so it is with the conditions of section 6, but in joint "
         "attention all look at all."),
        (apart("both", "picture"),
         "patches do not look at the words: then no text can say what to draw. All look at all."),
        (apart("picture", "text"),
         "words look at patches only and patches at words only: all look at all, their own kind included."),
        (two_softmaxes,
         "two softmaxes, and their mean: then words always get half of the attention. One softmax over all."),
        (looking(scale=lambda dim: 1),
         "scores are not divided by sqrt(D)."),
        (looking(scale=lambda dim: dim),
         "scores are divided by D: it is sqrt(D)."),
        (lambda text, picture: looking(scale=lambda dim: sqrt(dim * text.shape[2]))(text, picture),
         "scores are divided by the root of heads D: each head is by itself, so it is sqrt(D)."),
        (looking(dim=2),
         "the softmax runs over the queries: for each query, the weights of the *keys* sum to 1 (the last "
         "dim)."),
        (looking(soft=lambda scores, dim: scores),
         "there is no softmax: weights must be positive, and sum to 1."),
        (looking(soft=lambda scores, dim: scores.exp()),
         "the weights do not sum to 1: softmax, not exp."),
        (looking(soft=lambda scores, dim: F.one_hot(scores.argmax(dim), scores.shape[dim]).to(scores)),
         "each token looks at one other only, the likeliest: softmax weighs all."),
        (looking(join=lambda text, picture: torch.cat([picture, text], dim=3)),
         "the picture comes first: text first."),
        (values_turned,
         "keys and values are joined in different orders: the weight of a word then falls on a patch."),
        (keys_ask,
         "keys ask, and queries answer: softmax(q k^T)."),
        (looking(beside=lambda heads: heads.reshape(len(heads), heads.shape[2], -1)),
         "the heads are not side by side: a reshape alone mixes tokens and heads. Transpose (1, 2) first."),
        (looking(beside=lambda heads: heads.permute(0, 2, 3, 1).flatten(2)),
         "the channels of the heads alternate: first all of head 1, then all of head 2."),
        (looking(beside=lambda heads: heads.mean(1).repeat(1, 1, heads.shape[1])),
         "the heads are averaged: they stand side by side."),
    ], raised={
        "the result is (2, 2, 7, 8)": "the heads are still apart: (B, L + N, heads D) is asked for, heads "
                                      "side by side.",
        "the result is (2, 4, 16)": "only the patches come back: words are tokens, too, and go first.",
    }, praise="right. Words read the picture and patches read the words, in one softmax.")
