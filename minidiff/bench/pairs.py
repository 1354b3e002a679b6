"""How InstructPix2Pix made its data, in miniature: pairs of pictures drawn from pairs of captions

Captions of Toytown scenes before and after an edit, which differ in few words more than the edit must
change; the caption model draws both pictures. Prompt-to-Prompt shares attention in the first .1 to .9 of the
steps, by chance; "same noise" shares none; "independent noise" not even the noise. "exact" are the renders,
which no such data set has; "nothing changes" is the source twice, "another scene" a fresh one after it.
town-clip judges: "image" is how alike both pictures are, "direction" whether they change as the captions do,
"caption" how well they show them, "kept" the share that passes the thresholds of InstructPix2Pix (.7, .2,
.2). Its cosines are not CLIP's: compare rows. Calls and seconds are those of a pair. ± is half of a 95 %
interval.
"""

from difflib import SequenceMatcher
from functools import partial
from math import inf
from time import perf_counter

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import fresh_scenes, last, seeded
from minidiff.control.attention import caption_pair, prompt_to_prompt
from minidiff.control.restart import deterministic_step
from minidiff.encoders.clip import CLIP, keep_pair
from minidiff.measure import bootstrap
from minidiff.process.sample import normal_like, sample

QUICK = dict(n=6, steps=2)
KINDS = ("recolour", "season", "time", "replace", "remove", "style")
THROWS = 16                                                     # of the dice, for captions that agree


def rows(model, n=192, steps=30, scale=3.0, seed=0):
    """One row for each way to make n pairs of pictures.  steps, scale: of the sampling."""
    edits, clip = toytown.edits(n, seed, kinds=KINDS, size=model.size), CLIP.load("town-clip", model.device)
    words = caption_pairs(edits.scenes, edits.target_scenes, seed)
    found = []
    for name, make in WAYS.items():
        start = perf_counter()
        with model.counted() as calls:
            before, after = make(model, edits, words, steps, scale, seeded(seed))
        cost = {"network calls": calls[0] // n, "seconds": (perf_counter() - start) / n} if calls[0] else {}
        found.append({"pairs": name, **judged(clip, before, after, *words), **cost})
    return found


def chief(rows):
    """Way -> share of pairs that the filter keeps."""
    return {"town-clip": {row["pairs"]: round(row["kept"].value, 3) for row in rows}}


def judged(clip, before, after, said_before, said_after):
    """The similarities of n pairs, and the share that is kept, with intervals.

    before, after: (n, 3, size, size).  said_before, said_after: n captions.
    """
    image = clip.image_similarity(before, after)
    direction = clip.direction_similarity(before, after, said_before, said_after)
    shown = clip.caption_similarity(before, said_before), clip.caption_similarity(after, said_after)
    columns = {"image": image, "direction": direction, "caption": (shown[0] + shown[1]) / 2,
               "kept": keep_pair(image, direction, *shown)}
    return {name: bootstrap(values) for name, values in columns.items()}


def caption_pairs(scenes, target_scenes, seed):
    """(n captions before, n captions after), each pair by one throw of the dice; the same for the same seed.

    A thing more or less throws all later dice off, so of THROWS pairs that one is taken whose captions differ
    in the fewest words; but in one at least, since a colour need not be told. scenes, target_scenes: n each.
    """
    pairs = []
    for i in range(len(scenes)):
        both, first = (scenes[i], target_scenes[i]), (seed * len(scenes) + i) * THROWS
        throws = [[toytown.captions(one, first + k)[0] for one in both] for k in range(THROWS)]
        pairs.append(min(throws, key=lambda pair: words_apart(*pair) or inf))
    before, after = zip(*pairs)
    return list(before), list(after)


def words_apart(one, other):
    """How many words are put in, taken out or swapped between two texts."""
    changes = SequenceMatcher(None, one.split(), other.split(), autojunk=False).get_opcodes()
    return sum(max(i_end - i, j_end - j) for kind, i, i_end, j, j_end in changes if kind != "equal")


def exact(model, edits, words, steps, scale, generator):
    """The oracle: the renders of the scenes that the captions speak of."""
    return edits.source.to(model.device), edits.target.to(model.device)


def nothing_changes(model, edits, words, steps, scale, generator):
    """The identity: the first render, twice."""
    return edits.source.to(model.device), edits.source.to(model.device)


def another_scene(model, edits, words, steps, scale, generator):
    """The re-roll: after the first render any scene, whatever the caption says."""
    after = toytown.paint(fresh_scenes(len(edits), generator), model.size)
    return edits.source.to(model.device), after.to(model.device)


def drawn(model, edits, words, steps, scale, generator, draw):
    """Both pictures by the caption model, pair by pair."""
    times = model.process.times(steps)
    progress = tqdm(zip(*words), "pairs", len(edits), leave=False, disable=None)
    pairs = [draw(model, *pair, times, scale, generator) for pair in progress]
    return torch.stack(pairs, dim=1)                                                   # (2, n, 3, H, W)


def together(model, before, after, times, scale, generator, least, most):
    """One pair, (2, 3, H, W), from one noise; attention is shared for a share least..most of the steps."""
    share = least + (most - least) * torch.rand((), generator=generator).item()
    predict, origin = caption_pair(model, before, after, 1)
    return last(prompt_to_prompt(model.process, predict, model.attention, noise(model, 1, generator), times,
                                 origin, generator, scale, words=share, cells=share))


def apart(model, before, after, times, scale, generator):
    """One pair, (2, 3, H, W), each picture from a noise of its own."""
    denoise, step = model.denoiser([before, after], scale), deterministic_step(model.process)
    return last(sample(model.process, denoise, noise(model, 2, generator), times, generator, step))


def noise(model, n, generator):
    """What n pictures start from."""
    return normal_like(torch.empty(n, 3, model.size, model.size, device=model.device), generator)


WAYS = {"exact": exact, "nothing changes": nothing_changes, "another scene": another_scene,
        "independent noise": partial(drawn, draw=apart),
        "same noise": partial(drawn, draw=partial(together, least=0, most=0)),
        "Prompt-to-Prompt": partial(drawn, draw=partial(together, least=0.1, most=0.9))}
