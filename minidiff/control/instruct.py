"""InstructPix2Pix: change a picture as an instruction says. Brooks et al., 2211.09800.

The picture to edit is three more input channels, seen at every level; the walk starts from pure noise all the
same. Nothing is masked and nothing held fast: what stays the same does so because the network has learnt to
copy it. Two scales of guidance trade the two wishes off: image_scale pulls towards the picture, text_scale
towards the instruction.
"""

from itertools import pairwise

import torch

from minidiff.control import register
from minidiff.process.guidance import dual_cfg, rescaled
from minidiff.process.sample import State, clamp_x0, normal_like


def instruct_prediction(process, x_t, none, image, both, t, image_scale, text_scale, rescale=0.0):
    """The three predictions as one, by dual_cfg, with x0_hat within [-1, 1].

    none, image, both: (B, C, H, W), of the network that was told nothing, the picture, picture and text.
    rescale: 0..1, how far to bring the contrast back to that of `both`, as in rescaled_cfg.
    """
    guided = rescaled(dual_cfg(none, image, both, image_scale, text_scale), both, rescale)
    return clamp_x0(process, x_t, guided, t)


def instruct_step(process, x_t, none, image, both, t, t_next, image_scale, text_scale, noise, rescale=0.0):
    """One step down, guided twice: InstructPix2Pix, eq. 3, then a step as ever.

    x_t, noise: (B, C, H, W).  t, t_next: levels, t_next < t.  The others: as in instruct_prediction.
    """
    prediction = instruct_prediction(process, x_t, none, image, both, t, image_scale, text_scale, rescale)
    return process.step(x_t, prediction, t, t_next, noise)


@torch.no_grad()
def instruct(process, predict, x, times, generator, image_scale=1.5, text_scale=7.5, rescale=0.0):
    """Walk x down the levels `times`, yielding a State after every step; the last one holds the edit.

    predict: (x_t, t) -> (none, image, both), in one pass through the network.  x: (B, C, H, W), pure noise.
    times, generator: as in `sample`.  The scales are the paper's defaults.
    """
    for t, t_next in pairwise(times):
        told = predict(x, t)
        x0_hat = process.predict_x0(
            x, instruct_prediction(process, x, *told, t, image_scale, text_scale, rescale), t)
        noise = normal_like(x, generator)
        x = instruct_step(process, x, *told, t, t_next, image_scale, text_scale, noise, rescale)
        yield State(t_next, x, x0_hat)


def instruct_branches(model, image, instructions):
    """predict, as `instruct` needs it, of a network with the picture as extra channels; no picture is all 0.

    image: (B, 3, H, W).  instructions: B strings.  No text without a picture: the paper never asks that.
    """
    no_text, no_image = [""] * len(image), torch.zeros_like(image)
    return model.branches((no_text, no_image), (no_text, image), (instructions, image))


@register("edit", "dual-cfg", weights="town-instruct")
def instruct_edit(model, image, edit_mask, prompt, *, generator, steps=50, image_scale=1.5, text_scale=3.0,
                  rescale=0.0):
    """Edit image as the prompt says, yielding every State; no prompt: the picture itself, unchanged.

    image: (B, 3, H, W).  edit_mask: not looked at, an instruction edits everywhere.  image_scale: how closely
    to stay with the picture, text_scale: how closely to follow the instruction, 1 = as learnt.
    """
    if not prompt.strip():
        return iter([State(0, image, image)])
    predict, noise = instruct_branches(model, image, [prompt] * len(image)), normal_like(image, generator)
    times = model.process.times(steps)
    return instruct(model.process, predict, noise, times, generator, image_scale, text_scale, rescale)
