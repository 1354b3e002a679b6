"""Masked editing in latents: RePaint, pinning and blending, by the functions that pixels have.

A cell may change if any of its pixels may. The kept cells are held as kept pixels are, but they are not yet
kept pixels: what the codec makes of them is only near. So the last word is spoken in pixel space, where the
editor (minidiff/edit.py) puts the kept ones back. The prompt is a caption of the whole picture.
"""

import torch
import torch.nn.functional as F

from minidiff.control import register
from minidiff.control.inpaint import inpaint
from minidiff.control.masks import check_mask
from minidiff.control.repaint import repaint, repaint_path
from minidiff.process.guidance import norm_preserving


def smoothed(image, edit_mask):
    """The picture with a smooth hole, from what surrounds it: the pull and push of the Lumigraph (1996).

    Pull: the kept pixels of 2 x 2 averaged, a picture half as large, whose hole is smaller; and so on. Push:
    what is still a hole takes its colours from the half as large picture. Without kept pixels: grey, 0.
    image: (B, C, H, W), whose hole is not looked at.  edit_mask: bool (B, 1, H, W), True = hole.
    """
    keep, kept = ~edit_mask, torch.where(edit_mask, 0, image)
    if max(image.shape[2:]) == 1 or keep.all():
        return kept
    share = F.avg_pool2d(keep.to(image.dtype), 2, ceil_mode=True)                  # (B, 1, H/2, W/2)
    half = F.avg_pool2d(kept, 2, ceil_mode=True) / share.clamp(min=1e-9)           # (B, C, H/2, W/2)
    pushed = F.interpolate(smoothed(half, share == 0), size=image.shape[2:], mode="bilinear")
    return torch.where(keep, image, pushed)


def held(model, image, edit_mask):
    """What a walk in latents is held by: (known, cells), the latents to keep, and which of them may change.

    image: (B, 3, H, W); what stands in its hole has no influence.  edit_mask: bool (B or 1, 1, H, W), True =
    may change.  Returns (B, C, h, w) and bool (B, 1, h, w). Raises ValueError for masks that do not fit.
    """
    # Convolutions see a few cells far, so the latents of kept cells beside the hole would tell what stood in
    # it, which is what should go. A smooth hole tells nothing, and is nearer to what the answer will put
    # there than grey is. To let these cells change, too, would cost more than it mends: their latents are
    # nearly right, and all that a walk knows of the hole's edge.
    check_mask(image, edit_mask)
    edit_mask = edit_mask.expand(len(image), -1, -1, -1)
    return model.latents(smoothed(image, edit_mask)), model.cells(edit_mask)


def bound(model, prompt, known, scale):
    """The network's denoise callable for latents like known, with a caption bound to it, and no pictures."""
    return model.denoiser([prompt] * len(known), scale, (), known.shape[2:], norm_preserving)


@register("inpaint", "latent-repaint", weights="town-context", kind="latent denoiser")
def latent_repaint(model, image, edit_mask, prompt, *, generator, steps=20, jump=5, visits=5, scale=2.0):
    """Fill edit_mask in image by RePaint in latents, yielding every State.

    The steps are ancestral, where plain sampling takes Euler's: fresh noise lets the hole forget what it
    settled on too early. Measured with exact denoisers, tests/science/test_latents_exact.py.
    image: (B, 3, H, W).  prompt: what the whole picture shows; "" = anything.  scale: guidance, 1 = off.
    """
    known, cells = held(model, image, edit_mask)
    path = repaint_path(model.times(steps, known), jump, visits)
    return repaint(model.process, bound(model, prompt, known, scale), known, cells, path, generator)


@register("inpaint", "latent-pin", weights="town-context", kind="latent denoiser")
def latent_pin(model, image, edit_mask, prompt, *, generator, steps=20, scale=2.0):
    """Fill edit_mask in image, the kept latents pinned in x0_hat at every step, yielding every State.

    The network was not trained on holes, as GLIDE's was: one walk down is cheap, and fits no better than
    RePaint's first visit. Steps and arguments as in latent_repaint.
    """
    known, cells = held(model, image, edit_mask)
    denoise, times = bound(model, prompt, known, scale), model.times(steps, known)
    return inpaint(model.process, denoise, known, cells, times, generator)


@register("inpaint", "latent-blend", weights="town-context", kind="latent denoiser")
def latent_blend(model, image, edit_mask, prompt, *, generator, steps=20, scale=2.0):
    """Fill edit_mask in image by Blended Latent Diffusion (2206.02779), yielding every State.

    foreground in the cells that may change, background elsewhere: a step of the network, without noise of its
    own, and the picture's latents, noised. To the letter that is `repaint_step` by Euler's rule, and one
    visit: so RePaint's loop is called. Departures: the authors' code noises the background to the level that
    the foreground has just left, here both land on t_next; no mask that shrinks on the way down, for thin
    holes; no decoder tuned to one picture, since compositing keeps pixels. Arguments as in latent_repaint.
    """
    known, cells = held(model, image, edit_mask)
    denoise, times = bound(model, prompt, known, scale), model.times(steps, known)
    return repaint(model.process, denoise, known, cells, times, generator, model.process.euler_step)
