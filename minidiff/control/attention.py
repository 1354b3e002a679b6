"""Prompt-to-Prompt: two samplings from one noise, the second looks where the first did.

Where a thing stands is decided by where the cells of the picture look, in the early steps. So let the picture
of the new caption use the attention of the old one for a share of the steps: the layout stays, and what the
changed words say goes into it. No training and no mask; only the weights of the attention are exchanged.
Hertz et al., 2208.01626.
"""

from contextlib import nullcontext
from difflib import SequenceMatcher
from functools import partial
from itertools import pairwise

import torch
from torch.nn.functional import pad

from minidiff.control import register
from minidiff.control.restart import ddim_invert, deterministic_step
from minidiff.process.guidance import cfg
from minidiff.process.sample import State, clamp_x0, normal_like


def align(source, target):
    """For each token of the target the token of the source that it takes its attention from, or -1 = its own.

    Tokens that stayed have theirs; a swapped word takes that of the word in whose place it stands, where as
    many words went as came. source, target: 1-D tensors of token numbers, without padding.
    Returns (len(target),) int64.
    """
    found = torch.full((len(target),), -1)
    pairs = SequenceMatcher(None, source.tolist(), target.tolist(), autojunk=False).get_opcodes()
    for kind, i, i_end, j, j_end in pairs:
        if kind == "equal" or (kind == "replace" and i_end - i == j_end - j):
            found[j:j_end] = torch.arange(i, i_end)
    return found


def share_words(source, target, origin, emphasis=None):
    """Cross-attention of the target, taken from the source wherever its tokens have an origin there.

    source, target: (B, heads, N, L), weights of N cells over L tokens.  origin: (L,) from `align`.
    emphasis: (L,) factors, 1 = as it is: the paper's re-weighting. Rows are made to sum to 1 before it, since
    tokens without an origin bring their own weights along; the paper leaves that.
    """
    mixed = torch.where(origin >= 0, source[..., origin.clamp(min=0)], target)
    mixed = mixed / mixed.sum(-1, keepdim=True)
    return mixed if emphasis is None else mixed * emphasis


def shared(name, weights, n, origin, emphasis, words, cells):
    """What adjusted attention does: the last n rows of a batch look as the n rows before them do.

    name, weights: of a layer, as in layers.adjusted.  words, cells: share cross- and self-attention now?
    """
    others, source, target = weights[: -2 * n], weights[-2 * n : -n], weights[-n:]
    if name.endswith("read_text") and words:
        target = share_words(source, target, origin, emphasis)
    elif name.endswith("look_around") and cells:
        target = source
    return torch.cat([others, source, target])


@torch.no_grad()
def prompt_to_prompt(process, predict, attention, x, times, origin, generator, scale=3.0, words=0.8,
                     cells=0.4, emphasis=None, step=None):
    """Walk two samplings down together, yielding States: first half the source, second half the target.

    predict: (x_t (2 n, ...), t) -> (uncond, cond), of the captions of both.  attention: adjust -> a context
    in which the network asks `adjust`, as Model.attention.  x: (n, C, H, W), the noise that both start from.
    origin: (L,) from `align`, -1 for padding.  scale: guidance, a number or (2 n, 1, 1, 1).  words, cells:
    shares 0..1 of the steps in which cross- and self-attention are shared; 0, 0: two plain samplings.
    emphasis: as in share_words.  step: the deterministic one unless given.
    """
    n, step, steps = len(x), step or deterministic_step(process), len(times) - 1
    x = torch.cat([x, x])
    for i, (t, t_next) in enumerate(pairwise(times)):
        now = dict(words=i < round(words * steps), cells=i < round(cells * steps))
        adjust = partial(shared, n=n, origin=origin, emphasis=emphasis, **now)
        with attention(adjust) if any(now.values()) else nullcontext():
            uncond, cond = predict(x, t)
        prediction = clamp_x0(process, x, cfg(uncond, cond, scale), t)
        x0_hat = process.predict_x0(x, prediction, t)
        noise = normal_like(x[:n], generator).repeat(2, 1, 1, 1)
        x = step(x, prediction, t, t_next, noise=noise)
        yield State(t_next, x, x0_hat)


def caption_pair(model, source, target, n):
    """(predict, origin) for prompt_to_prompt, of n pictures of the caption `source` and n of `target`.

    Padding takes its attention from nowhere: else words at the end of one caption would swap with it.
    """
    predict = model.branches(([""] * 2 * n, None), ([source] * n + [target] * n, None))
    tokens = [model.text.tokenize([caption])[0] for caption in (source, target)]   # (L,) each, its own L
    origin = align(*tokens)
    return predict, pad(origin, (0, max(map(len, tokens)) - len(origin)), value=-1)


@register("edit", "p2p")
def p2p_edit(model, image, edit_mask, prompt, *, generator, steps=50, source="", scale=2.0, words=0.8,
             cells=0.4):
    """Invert image under the caption `source`, then sample `source` and the prompt together, yielding States.

    image: (n, 3, H, W).  edit_mask: not looked at.  source, prompt: what image shows, and what the result
    shows.  scale: guidance of the prompt; the source is walked down without, as it was walked up.
    words, cells: shares of the steps in which attention is shared.
    """
    n, times, x = len(image), model.process.times(steps), image
    for state in ddim_invert(model.process, model.denoiser([source] * n), image, times):
        x = state.x
        yield state
    predict, origin = caption_pair(model, source, prompt, n)
    origin = origin.to(image.device)
    scales = torch.tensor([1.0] * n + [scale] * n, device=image.device).view(-1, 1, 1, 1)
    walk = prompt_to_prompt(
        model.process, predict, model.attention, x, times, origin, generator, scales, words, cells)
    for state in walk:
        yield State(state.t, state.x[n:], state.x0_hat[n:])
