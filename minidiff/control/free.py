"""No control at all: everything may change, and the reverse process runs free. That is generation."""

from ..process.sample import normal_like, sample
from . import register


@register("generate", "free")
def free_generate(model, image, edit_mask, prompt, *, generator, steps=50, scale=2.0):
    """Walk from pure noise down to pictures of the prompt, yielding every State.

    image: only its shape counts, (B, C, H, W).  steps: levels to go down.  scale: guidance, 1 = off.
    """
    denoise = model.denoiser([prompt] * len(image), scale)
    noise = normal_like(image, generator)
    return sample(model.process, denoise, noise, model.process.times(steps), generator)
