"""Guidance: steer by the difference between predictions with and without a condition.

Scale 1 means guidance off, everywhere.
"""

import torch


def cfg(uncond, cond, scale):
    """Classifier-free guidance: from the unconditional prediction towards the conditional one, and past it.

    uncond + scale (cond - uncond).  Ho & Salimans (2207.12598), eq. 6, whose w is scale - 1.
    uncond, cond: (B, C, H, W).  scale 0: unconditional; 1: conditional, guidance off; above 1: overdone.
    """
    return uncond + scale * (cond - uncond)


def dual_cfg(none, image, both, image_scale, text_scale):
    """From nothing towards the image, then from the image towards image and text.

    none + image_scale (image - none) + text_scale (both - image).  InstructPix2Pix (2211.09800), eq. 3.
    Scales (1, 1): the conditional prediction; (1, 0): the text is ignored; (0, 0): unconditional.
    """
    return none + image_scale * (image - none) + text_scale * (both - image)


def rescaled(guided, cond, rescale):
    """A guided prediction, brought back towards the contrast of the conditional one.

    rescale guided std(cond) / std(guided) + (1 - rescale) guided, std over a picture; 2305.08891, sec. 3.4.
    guided, cond: (B, C, H, W).  rescale 0: guided as it is; 1: exactly the contrast of cond.
    """
    if rescale == 0:
        return guided
    per_picture = dict(dim=(1, 2, 3), keepdim=True)
    contrast = cond.std(**per_picture) / guided.std(**per_picture)                 # (B, 1, 1, 1)
    return (rescale * contrast + 1 - rescale) * guided


def rescaled_cfg(uncond, cond, scale, rescale=0.7):
    """cfg, with the contrast brought back by `rescaled`, since large scales over-expose."""
    return rescaled(cfg(uncond, cond, scale), cond, rescale)


def norm_preserving(uncond, cond, scale):
    """cfg, with every cell brought back to the length that it has in the conditional prediction.

    g |cond| / |g|, g = cfg(uncond, cond, scale), |.| over the channels of a cell: guidance turns it, and does
    not stretch it. As in Qwen-Image (2508.02324), whose code measures tokens, of 2 x 2 cells each.
    uncond, cond: (B, C, H, W).  Where g is 0, so is the result.
    """
    guided = cfg(uncond, cond, scale)
    lengths = [prediction.norm(dim=1, keepdim=True) for prediction in (cond, guided)]  # (B, 1, H, W) each
    return guided * lengths[0] / lengths[1].clamp(min=torch.finfo(guided.dtype).tiny)


def guided(predict, cond, uncond, scale):
    """A denoise callable that guides `predict` with cfg: both branches go to the network in one batch.

    predict: (x_t, t, condition) -> prediction.  cond, uncond: (B, ...), one shape.  Scale 1 asks cond only.
    """
    if scale == 1:
        return lambda x_t, t: predict(x_t, t, cond)
    both = torch.cat([uncond, cond])

    def denoise(x_t, t):
        t = torch.cat([t, t]) if isinstance(t, torch.Tensor) and t.ndim else t
        return cfg(*predict(torch.cat([x_t, x_t]), t, both).chunk(2), scale)

    return denoise


def drop_conditions(conditions, share, null, generator):
    """In training, put `null` for each condition with probability `share`, so that one network learns both.

    conditions: a list, one a picture (captions, say).  2207.12598, algorithm 1, whose p_uncond is the share.
    Raises ValueError unless 0 <= share <= 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: a probability 0..1 expected")
    drop = (torch.rand(len(conditions), generator=generator) < share).tolist()
    return [null if dropped else condition for condition, dropped in zip(conditions, drop)]


def drop_text_and_image(n, generator, share=0.05):
    """In training with two conditions, choose what each of n pictures goes without: text, image, or both.

    One uniform number u a picture: u < share no text; u < 2 share neither; u < 3 share no image. So one
    network learns the three predictions of `dual_cfg`. InstructPix2Pix (2211.09800), section 3.2.1: .05.
    Returns (without_text, without_image), bool (n,).
    """
    if not 0 <= share <= 1 / 3:
        raise ValueError(f"share = {share}: 0..1/3 expected")
    u = torch.rand(n, generator=generator)
    return u < 2 * share, (u >= share) & (u < 3 * share)
