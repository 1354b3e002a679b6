"""Pictures as tokens: change a picture as an instruction says, or draw one. FLUX.1 Kontext, 2506.15742.

The pictures to look at stand beside the noise in one sequence, clean at every step, each token with its place
(i, h, w), i the number of its picture: what to keep is found by attention. So pictures may be several, of
different sizes, or none at all: then the same network draws from words. The walk starts from pure noise, and
nothing is held fast on its way; what an edit did not change the editor puts back when it is over
(minidiff/edit.py). There is no step of its own here: the control sits inside the network, in the tokens it
sees (denoisers/dit.py), and the reverse process is the flow, by Euler's steps, in the latents of a VAE.
"""

from minidiff.control import register
from minidiff.process.guidance import cfg, norm_preserving
from minidiff.process.sample import normal_like, sample

GUIDES = {"plain": cfg, "norm": norm_preserving}
SCALE = 3.0                                                     # of edits, which hardly need it
DRAWING_SCALE, DRAWING_ABOVE = 5.0, 0.3                         # below that level it adds grain, and no thing


def context_walk(model, prompts, contexts, noise, generator, steps=20, scale=1.0, guidance="norm",
                 shift=None, guided_above=None):
    """Walk from noise down to latents, yielding every State: `sample`, by Euler's steps.

    model: a LatentModel.  prompts: B strings or None, as LatentModel.denoiser has them.  contexts: up to 3
    latents, each (B, C, h, w), of any sizes.  noise: (B, C, h, w), its size is that of the result.
    steps: levels to go down.  scale: guidance, 1 = off; guidance: "plain" or "norm", which keeps lengths.
    shift: how far levels move towards the noise, as in Flow.times. None: without contexts as far as FLUX.1
    moves them for so many tokens. Departure: with contexts by shift_for_edits, since words and pictures
    settle what becomes of an edit, and what is left for low levels is to keep it.
    guided_above: at this level and below guidance is off, the lower end of the interval of 2404.07724. None:
    without contexts .3. Departure: with contexts it is off in the last step, where it only gets in the way of
    what is to be kept; so a walk of one step is not guided at all.
    Raises ValueError for another guidance, a shift of 0 or less, a level outside 0..1, and for what does not
    fit.
    """
    denoise, times = planned(model, prompts, contexts, noise, steps, scale, guidance, shift, guided_above)
    return sample(model.process, denoise, noise, times, generator, model.process.euler_step)


def planned(model, prompts, contexts, noise, steps, scale, guidance="norm", shift=None, guided_above=None):
    """What `context_walk` walks by, for any solver: (a denoise callable, levels). All is as it has it."""
    if guidance not in GUIDES:
        raise ValueError(f'guidance = "{guidance}": one of {", ".join(GUIDES)} expected')
    shift = shift_for_edits(steps) if contexts and shift is None else shift
    times = model.times(steps, noise, shift)
    if guided_above is None:
        guided_above = times[-2] if contexts else DRAWING_ABOVE
    if not 0 <= guided_above <= 1:
        raise ValueError(f"guided_above = {guided_above}: 0..1 expected")
    scale = scale if guided_above < times[0] else 1.0           # else both branches were prepared for nothing
    return model.denoiser(prompts, scale, contexts, noise.shape[2:], GUIDES[guidance], guided_above), times


def shift_for_edits(steps):
    """The shift of Flow.times that leaves one step, the last, for all levels below t = 1/2, or a little more.

    It is the number of steps; the last one leads down from 1 / (2 - 1 / steps).
    """
    return float(steps)


@register("edit", "context", weights="town-context", kind="latent denoiser")
def context_edit(model, image, edit_mask, prompt, *, generator, others=(), steps=20, scale=SCALE,
                 guidance="norm"):
    """Edit image as the prompt says, yielding every State, in latents; no prompt: no States, no change.

    image: (B, 3, H, W), "image 1" of the prompt.  others: up to 2 more, "image 2" and "image 3", (1 or B, 3,
    h, w) each, of any size.  edit_mask: not looked at, an instruction edits everywhere.  The rest as in
    context_walk.
    """
    if not prompt.strip():
        return iter([])
    others = [other.to(image).expand(len(image), -1, -1, -1) for other in others]
    contexts = [model.latents(picture) for picture in (image, *others)]
    noise = normal_like(contexts[0], generator)
    return context_walk(model, [prompt] * len(image), contexts, noise, generator, steps, scale, guidance)


@register("generate", "context", weights="town-context", kind="latent denoiser")
def context_generate(model, image, edit_mask, prompt, *, generator, steps=20, scale=DRAWING_SCALE,
                     guidance="norm", guided_above=DRAWING_ABOVE):
    """Walk from pure noise down to pictures of the prompt, yielding every State, in latents.

    image: only its shape counts, (B, 3, H, W).  prompt: "" = anything.  The rest as in context_walk.
    """
    noise = normal_like(model.latents(image), generator)
    return context_walk(model, [prompt] * len(image), (), noise, generator, steps, scale, guidance,
                        guided_above=guided_above)
