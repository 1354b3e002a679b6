"""Outpainting: grow the canvas, and the new part is the mask. The rest is inpainting.

A canvas larger than the network was trained on is denoised in windows that overlap and are averaged.
"""

from inspect import Parameter, Signature, signature
from math import ceil

import torch
from torch.nn.functional import pad

from minidiff.control import derive


def outpaint_canvas(image, left=0, right=0, top=0, bottom=0):
    """Put the image on a larger canvas, grey (0) where it is new: (canvas, edit_mask), True on the new part.

    image: (B, C, H, W).  left, right, top, bottom: pixels to add, 0 or more.
    Returns (B, C, top + H + bottom, left + W + right) and bool (B, 1, ...).
    """
    sides = (left, right, top, bottom)
    if min(sides) < 0:
        raise ValueError(f"left, right, top, bottom = {sides}: pixels to add, 0 or more, expected")
    keep = torch.ones_like(image[:, :1], dtype=torch.bool)
    return pad(image, sides), ~pad(keep, sides)


def window_starts(length, size, overlap):
    """Where windows of `size` start to cover `length`, evenly spread, neighbours sharing `overlap` or more.

    0 <= overlap < size.  One window, at 0, where length <= size.
    """
    check_overlap(overlap, size)
    room = max(length - size, 0)
    gaps = ceil(room / (size - overlap))
    return [room * i // max(gaps, 1) for i in range(gaps + 1)]


def check_overlap(overlap, size):
    """Raise ValueError unless windows of `size` that share `overlap` get anywhere."""
    if not 0 <= overlap < size:
        raise ValueError(f"overlap = {overlap}, size = {size}: 0 <= overlap < size expected")


def windows(height, width, size, overlap):
    """The windows that cover a picture: a list of (rows, columns) slices, each at most size x size."""
    rows = [slice(y, y + size) for y in window_starts(height, size, overlap)]
    columns = [slice(x, x + size) for x in window_starts(width, size, overlap)]
    return [(row, column) for row in rows for column in columns]


def tent(length, like):
    """Weights that rise evenly from the ends of a window to its middle, never 0: (length,)."""
    ramp = torch.arange(1, length + 1, dtype=like.dtype, device=like.device)
    return torch.minimum(ramp, ramp.flip(0))


def windowed(denoise, size, overlap):
    """Wrap denoise for pictures larger than it was trained on: average its predictions over windows.

    sum of w_i prediction_i / sum of w_i over windows that see a pixel: MultiDiffusion, eq. 5 (2302.08113);
    w fades towards the ends of a window, so that no seam shows. All go to denoise in one batch, window after
    window, (windows * B, C, size, size): prompts bound to it are needed that many times over.
    """

    def denoise_all(x_t, t):
        cuts = windows(*x_t.shape[2:], size, overlap)
        t = t.repeat(len(cuts)) if isinstance(t, torch.Tensor) and t.ndim else t
        parts = denoise(torch.cat([x_t[..., row, column] for row, column in cuts]), t).chunk(len(cuts))
        weight = torch.outer(*(tent(length, x_t) for length in parts[0].shape[2:]))  # (h, w)
        total, weights = torch.zeros_like(x_t), torch.zeros_like(x_t)
        for (row, column), part in zip(cuts, parts):
            total[..., row, column] += weight * part
            weights[..., row, column] += weight
        return total / weights

    return denoise_all


class Windowed:
    """A model for canvases of one size, larger than it was trained on: it denoises them in windows.

    model: as in minidiff.model.  height, width: of the canvas.  overlap: of the windows, in pixels.
    """

    def __init__(self, model, height, width, overlap):
        self.model, self.process, self.size = model, model.process, model.size
        self.overlap, self.cuts = overlap, windows(height, width, model.size, overlap)

    def denoiser(self, prompts, scale=1.0, extra=None):
        """As the model's own, with its prompts and extra channels for every window."""
        if extra is not None:
            extra = torch.cat([extra[..., row, column] for row, column in self.cuts])
        denoise = self.model.denoiser(list(prompts) * len(self.cuts), scale, extra)
        return windowed(denoise, self.size, self.overlap)


class WindowedLatents:
    """The same of a model that works in latents: its windows are of cells, each of factor x factor pixels.

    model: as in minidiff.latent.  height, width, overlap: in pixels; windows share all cells that fit into
    the overlap, or more.
    """

    def __init__(self, model, height, width, overlap):
        check_overlap(overlap, model.size)
        self.model, self.process = model, model.process
        self.latents, self.cells = model.latents, model.cells
        self.side, self.overlap = model.size // model.factor, overlap // model.factor
        self.cuts = windows(height // model.factor, width // model.factor, self.side, self.overlap)

    def times(self, steps, z):
        """As the model's own, for what it sees at once: a window of z."""
        return self.model.times(steps, z[..., : self.side, : self.side])

    def denoiser(self, prompts, scale, contexts, size, guide):
        """As the model's own, with its prompts for every window, for latents of this size (h, w)."""
        window = tuple(min(self.side, length) for length in size)
        denoise = self.model.denoiser(list(prompts) * len(self.cuts), scale, contexts, window, guide)
        return windowed(denoise, self.side, self.overlap)


WINDOWED = {"denoiser": Windowed, "latent denoiser": WindowedLatents}           # by the model's kind


@derive("outpaint", base="inpaint")
def outpainter(inpaint):
    """Outpainting by any editor that inpaints: fill the new part of a canvas, in windows where it is large.

    image, edit_mask: from outpaint_canvas.  Its options, and overlap: of the windows, in pixels; half of one
    unless given.
    """

    def outpaint(model, image, edit_mask, prompt, *, generator, overlap=None, **options):
        if model.kind in WINDOWED and max(image.shape[2:]) > model.size:
            overlap = model.size // 2 if overlap is None else overlap
            model = WINDOWED[model.kind](model, *image.shape[2:], overlap)
        return inpaint(model, image, edit_mask, prompt, generator=generator, **options)

    takes = dict(signature(inpaint).parameters)
    takes["overlap"] = Parameter("overlap", Parameter.KEYWORD_ONLY, default=None)
    outpaint.__signature__ = Signature(takes.values())
    outpaint.weights, outpaint.kind = inpaint.weights, inpaint.kind
    return outpaint
