"""Checks for 11_latents_and_the_codec_floor: drawn, divergence, floor, touched."""

from dataclasses import replace
from math import log

import torch
from torch.nn.functional import avg_pool2d, max_pool2d

from minidiff.encoders.vae import VAE, VAEConfig, cells_of, codec_floor, kl_divergence

from .verdict import Case, judge, normal


def check_drawn(answer):
    """answer(mean, log_variance, noise) -> latents drawn from where the encoder says."""
    cases = []
    for seed, shape in enumerate([(2, 3, 4, 4), (1, 5, 2, 6)]):
        cases.append(Case(f"latents {shape}", tuple(normal(seed + k, *shape) for k in (0, 10, 20))))

    def steadied(function):
        """The same function, with torch's own noise the same at every call: so who draws it can be told."""
        def steady(*arguments):
            with torch.random.fork_rng(devices=[]):
                return function(*arguments)
        return steady

    def drawing(spread=lambda log_variance: (log_variance / 2).exp(), sign=1, own=False):
        def draw(mean, log_variance, noise):
            noise = torch.randn_like(mean) if own else noise
            return mean + sign * spread(log_variance) * noise
        return steadied(draw)

    verdict = judge("drawn", steadied(answer), drawing(), cases, [
        (drawing(own=True),
         "it draws noise of its own: use the noise that is passed in. The same seed then gives the same "
         "latents, and training resumes to the bit."),
        (drawing(lambda log_variance: log_variance.exp()),
         "the noise is multiplied by the *variance*: it must be the deviation, its root, exp(log_variance / "
         "2)."),
        (drawing(lambda log_variance: (log_variance / 4).exp()),
         "one root too many: exp(log_variance / 2) is the deviation already."),
        (drawing(lambda log_variance: (-log_variance / 2).exp()),
         "the sign of log_variance is turned: where the encoder is surer, less noise is added, not more."),
        (drawing(lambda log_variance: log_variance),
         "the *logarithm* is taken for the deviation: exp(log_variance / 2)."),
        (drawing(lambda log_variance: log_variance / 2),
         "exp is missing: log_variance / 2 is the logarithm of the deviation."),
        (drawing(lambda log_variance: (2 * log_variance).exp()),
         "the variance is squared, where its root is asked for: exp(log_variance / 2)."),
        (drawing(lambda log_variance: 1),
         "noise of deviation 1, whatever the encoder says: it is scaled by exp(log_variance / 2)."),
        (drawing(lambda log_variance: 0),
         "no noise is added: that is the mean, which is right once training is over, not before."),
        (drawing(sign=-1),
         "the noise is subtracted: as random, but the equation has a plus, and who passes noise in wants to "
         "find it again."),
        (lambda mean, log_variance, noise: (log_variance / 2).exp() * noise,
         "the mean is gone: all that is left of the picture is how sure the encoder was."),
        (lambda mean, log_variance, noise: (log_variance / 2).exp() * (mean + noise),
         "the mean is scaled, too: only the noise is."),
        (lambda mean, log_variance, noise: mean + (log_variance / 2).exp() + noise,
         "the deviation is added: it multiplies the noise."),
    ], raised={
        "NaN or infinite": "a root of log_variance, perhaps? It may be negative: take exp(log_variance / 2).",
    }, praise="right. The chance comes from outside, so the gradient goes through mean and deviation.")
    return with_own(answer, verdict)


def check_divergence(answer):
    """answer(mean, log_variance) -> (B,): KL(N(mean, variance) | N(0, 1)) of each picture, in nats."""
    cases = []
    for seed, shape in enumerate([(3, 2, 4, 4), (2, 5, 2, 3)]):
        cases.append(Case(f"latents {shape}", (normal(seed, *shape), normal(seed + 10, *shape))))

    def summed(each, total=lambda nats: nats.sum((1, 2, 3))):
        return lambda mean, log_variance: total(each(mean, log_variance))

    def nats(mean, log_variance):
        return (mean**2 + log_variance.exp() - 1 - log_variance) / 2

    def reversed_(mean, log_variance):
        return ((mean**2 + 1) / log_variance.exp() - 1 + log_variance) / 2

    return judge("divergence", answer, kl_divergence, cases, [
        (summed(lambda mean, log_variance: 2 * nats(mean, log_variance)),
         "it is twice as much: the half in front is missing."),
        (summed(lambda mean, log_variance: -nats(mean, log_variance)),
         "the sign is turned: a divergence is never negative. (The paper's eq. 3 is a bound to be *raised*; "
         "a loss is lowered.)"),
        (summed(nats, lambda nats: nats.mean((1, 2, 3))),
         "it is a mean over the latents: the divergence of many independent numbers is their *sum*."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) - mean**2 / 2),
         "the mean is missing: latents that lie far from 0 are far from noise, however spread."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) - (mean**2 - mean) / 2),
         "the mean is not squared."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) - (mean**2 - mean.abs()) / 2),
         "|mean| is taken: it is mean squared."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) + 0.5),
         "the -1 is missing: latents that *are* standard normal have a divergence of 0."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) + log_variance),
         "the logarithm is added: it is subtracted, or a very sure encoder would pay nothing."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) + log_variance / 2),
         "the logarithm is missing: then the encoder may be as sure as it likes, for nothing."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) - log_variance.exp() / 2),
         "the variance itself is missing: then it may grow without end."),
        (summed(lambda mean, log_variance: (mean**2 - 1) / 2),
         "log_variance stands where the variance should: that is exp(log_variance)."),
        (summed(lambda mean, log_variance: nats(mean, 2 * log_variance)),
         "log_variance is taken for the logarithm of the *deviation*: the variance is exp(log_variance), not "
         "its square."),
        (summed(lambda mean, log_variance: nats(mean, log_variance)
                + ((log_variance / 2).exp() - log_variance.exp()) / 2),
         "the deviation stands where the variance should: exp(log_variance), without the half."),
        (summed(reversed_),
         "it is the other way round, KL(N(0, 1) | N(mean, variance)): a divergence is no distance, its sides "
         "differ."),
        (summed(lambda mean, log_variance: nats(mean, log_variance) / log(2)),
         "it is in bits: nats, without a division by log 2."),
    ], raised={
        "NaN or infinite": "the logarithm of log_variance? It is a logarithm already, and may be negative.",
        "the result is () ": "one number for the batch: one for each picture, so sum over dimensions 1 to 3.",
        "float32: (3,)": "some dimensions are left: sum over 1, 2 and 3, one number a picture remains.",
    }, praise="right. 0 for noise, and more for each latent that can be told from it.")


def check_floor(answer):
    """answer(vae, x0, where) -> (B,): what a round trip keeps of each picture in a region, in dB."""
    regions = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
    regions[0, :, 2:5, 3:9] = regions[1, :, 4:, :7] = True
    cases = []
    for seed in range(2):
        x0 = normal(seed + 5, 2, 3, 8, 12).tanh()
        cases.append(Case(f"pictures {seed}", (tiny_vae(seed), x0, regions.flip(seed))))

    def measuring(trip=lambda vae, x0: vae.round_trip(x0), error=torch.square,
                  level=lambda error: 10 * torch.log10(4 / error), region=lambda where: where,
                  mean=lambda error, where: (error * where).sum((1, 2, 3)) / (3 * where.sum((1, 2, 3)))):
        return lambda vae, x0, where: level(mean(error(trip(vae, x0) - x0), region(where)))

    def over_all(error, where):
        return (error * where).mean((1, 2, 3))

    def pooled(error, where):
        return ((error * where).sum() / (3 * where.sum())).expand(len(error))

    def pixel_by_pixel(vae, x0, where):
        each = 10 * torch.log10(4 / (vae.round_trip(x0) - x0).square().mean(1, keepdim=True))
        return (each * where).sum((1, 2, 3)) / where.sum((1, 2, 3))

    return judge("floor", answer, codec_floor, cases, [
        (measuring(region=lambda where: ~where),
         "the region is turned round: `where` is True at the pixels that count."),
        (measuring(region=torch.ones_like),
         "the region is forgotten: that is the whole picture, where the quiet sky outvotes the rest."),
        (measuring(mean=over_all),
         "the mean is taken over *all* pixels, those outside the region counted as perfect: the smaller the "
         "region, the more that flatters."),
        (measuring(mean=lambda error, where: (error * where).sum((1, 2, 3)) / where.sum((1, 2, 3))),
         "the three channels are added, not averaged: each pixel has three numbers, so 4.8 dB are missing."),
        (measuring(mean=pooled),
         "both pictures got the figure of the whole batch: one for each picture."),
        (measuring(level=lambda error: 10 * torch.log10(1 / error)),
         "6 dB are missing: pictures run from -1 to 1, so the range is 2, and its square 4."),
        (measuring(level=lambda error: 10 * torch.log10(2 / error)),
         "the range is not squared: 10 log10(2^2 / error)."),
        (measuring(level=lambda error: 20 * torch.log10(4 / error)),
         "20 log10 is for *roots*: of squares it is 10 log10(4 / error)."),
        (measuring(level=lambda error: 10 * torch.log10(error / 4)),
         "the sign is turned: more dB should mean less error, 10 log10(4 / error)."),
        (measuring(level=lambda error: 10 * torch.log(4 / error)),
         "the natural logarithm was taken: dB want log10."),
        (measuring(level=lambda error: error),
         "that is the mean squared error: dB are 10 log10(4 / error)."),
        (measuring(error=torch.abs, level=lambda error: 20 * torch.log10(2 / error)),
         "the error is not squared before the mean."),
        (pixel_by_pixel,
         "dB were averaged over pixels: first the mean of the squares, then the logarithm. One pixel that "
         "happens to be exact would count as endless dB."),
        (measuring(lambda vae, x0: vae.decode(vae.encode(x0)[0])),
         "the latents went into `decode` as the network has them: it expects those of `latents`, with shift "
         "and scale taken out."),
        (measuring(lambda vae, x0: vae.pixels(vae.latents(x0)).clamp(-1, 1)),
         "shift and scale were taken out and never put back: `decode` does, `pixels` does not."),
        (measuring(lambda vae, x0: vae.pixels(vae.encode(x0)[0])),
         "the pictures that come back are not clamped to [-1, 1]: no screen shows more. `decode` clamps."),
    ], raised={
        "'tuple' object": "`encode` gives mean *and* log_variance: the latents are vae.latents(x0), or let "
                          "vae.round_trip(x0) do both ways.",
        "argument: 'noise'": "vae(x0, noise) is the trip in training, by way of drawn latents: "
                             "vae.round_trip(x0) draws nothing.",
        "the result is () ": "one number for the batch: one for each picture, (B,).",
        "float32: (2,)": "one number for each picture, (B,): the mean goes over channels, rows and columns.",
    }, praise="right. What is lost here, the decoder does not give back; the source's own pixels would.")


def check_touched(answer):
    """answer(edit_mask, factor) -> bool (B, 1, H/factor, W/factor): the cells that may change."""
    cases = []
    for seed, (shape, factor) in enumerate([((2, 1, 8, 12), 4), ((1, 1, 6, 12), 2), ((1, 1, 18, 12), 3)]):
        cases.append(Case(f"cells of {factor} x {factor}", (blobs(seed, shape, factor), factor)))

    def blocks(edit_mask, factor):
        return edit_mask.unfold(2, factor, factor).unfold(3, factor, factor).flatten(4)   # (B, 1, h, w, f f)

    def share(edit_mask, factor):
        return avg_pool2d(edit_mask.float(), factor)

    def strict(edit_mask, factor):
        """The answer, refused if it is not bool: `same` compares values, and 1 is True to it."""
        found = answer(edit_mask, factor)
        if isinstance(found, torch.Tensor) and found.dtype != torch.bool:
            raise TypeError(f"the result is {found.dtype}: torch.bool expected")
        return found

    def striding(edit_mask, factor):
        batch, _, height, width = edit_mask.shape
        return edit_mask.view(batch, 1, factor, height // factor, factor, width // factor).any(4).any(2)

    def grown(edit_mask, factor):
        return max_pool2d(cells_of(edit_mask, factor).float(), 3, stride=1, padding=1) > 0

    verdict = judge("touched", strict, cells_of, cases, [
        (lambda edit_mask, factor: blocks(edit_mask, factor).all(4),
         "a cell may change only if *all* of its pixels may: then the rim of every hole can never be "
         "painted. One pixel is enough."),
        (lambda edit_mask, factor: share(edit_mask, factor) > 0.5,
         "a cell may change if *most* of its pixels may: thin lines vanish, and rims are left unpainted. One "
         "pixel is enough."),
        (lambda edit_mask, factor: share(edit_mask, factor) >= 0.5,
         "a cell may change if *half* of its pixels may: thin lines vanish, and rims are left unpainted. One "
         "pixel is enough."),
        (lambda edit_mask, factor: edit_mask[..., ::factor, ::factor],
         "only one pixel of each cell is asked, its first: a hole that misses it is lost. (F.interpolate "
         "with mode nearest does so.)"),
        (lambda edit_mask, factor: edit_mask[..., factor // 2 :: factor, factor // 2 :: factor],
         "only one pixel of each cell is asked, in its middle: a hole that misses it is lost."),
        (lambda edit_mask, factor: ~cells_of(edit_mask, factor),
         "all is turned round: True = may change, for cells as for pixels."),
        (lambda edit_mask, factor: cells_of(~edit_mask, factor),
         "these are the cells with a *kept* pixel: asked for are those with one that may change."),
        (grown,
         "the neighbours of those cells are in it, too: that may be wise (section 8), but it is another "
         "question."),
        (lambda edit_mask, factor: cells_of(edit_mask, 4),
         "cells of 4 x 4, whatever `factor` says."),
        (striding,
         "the reshape is turned round: it joins pixels that lie far apart. A row of pixels is (cell, pixel "
         "in the cell), in this order: view(B, 1, h, factor, w, factor)."),
        (lambda edit_mask, factor: torch.ones_like(cells_of(edit_mask, factor)),
         "every cell may change."),
        (lambda edit_mask, factor: cells_of(edit_mask.any(0, True).expand_as(edit_mask), factor),
         "the pictures of a batch share one mask: each has its own."),
    ], raised={
        "torch.bool expected": "the cells must be bools, like the mask: numbers of 0 and 1 choose nothing in "
                               "torch.where. `> 0` makes bools of them.",
        "not implemented for 'Bool'": "pooling wants numbers: edit_mask.float(), and `> 0` afterwards.",
        "bool: (2, 1, 2, 3)": "not the number of cells: H / factor and W / factor, so steps of `factor` each "
                              "way.",
    }, praise="right. Rather a kept pixel too many in the hole than one of the hole that cannot be painted.")
    return with_own(answer, verdict)


def tiny_vae(seed):
    """A VAE of a few random weights, whose pictures leave [-1, 1] here and there."""
    shape = VAEConfig(latent_channels=3, channels=4, encoder_blocks=0, decoder_blocks=0)
    vae = VAE(shape).requires_grad_(False)
    for i, parameter in enumerate(vae.parameters()):
        parameter.copy_(0.3 * normal(10 * seed + i, *parameter.shape))
    vae.shift.copy_(normal(seed, 3))
    vae.scale.copy_(0.5 + normal(seed + 1, 3).abs())
    return vae


def blobs(seed, shape, factor):
    """A mask with a solid hole, a thin line and a lone pixel, so that no two rules for cells agree on it."""
    edit_mask = normal(seed, *shape) > 2.2
    edit_mask[:1, :, : 2 * factor - 1, factor - 1 : 2 * factor] = True
    edit_mask[-1:, :, factor + 1 :, -1] = True
    return edit_mask


def with_own(answer, verdict):
    """The verdict on a wrapped answer, handing on the answer itself if it is right."""
    return replace(verdict, function=answer) if verdict.state == "right" else verdict
