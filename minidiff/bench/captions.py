"""Captions: do pictures drawn from a caption show its season, time of day and style?

No learned reader looks at them. A picture is held against renders of scenes that fit its caption, freely
placed, once in every season (time, style); it shows the season of the nearest render. "another legal
render" is a second true picture of the same caption: the most that this measure can see. "a fresh scene"
ignores the caption. Not measured: objects, their colours and places, and writing. ± is half of a 95 %
interval.
"""

from functools import partial
from time import perf_counter

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import fresh_scenes, held_out, last, seeded
from minidiff.measure import bootstrap
from minidiff.process.sample import normal_like, sample
from minidiff.toytown.scene import OBJECTS, SEASONS, STYLES, TIMES

QUICK = dict(n=4, renders=8, steps=4)
READ = {"season": len(SEASONS), "time": len(TIMES), "style": len(STYLES)}
STATED = (*READ, *OBJECTS, "fence", "tree_kind", "house_color", "jacket_color", "car_color", "sign_text")


def rows(model, n=32, renders=64, steps=50, seed=0):
    """One row for each editor: the share of n captions whose season, time and style its pictures show."""
    scenes, captions = held_out(n)
    pictures, costs = zip(*(drawn(edit, model, scenes, captions, steps, seed) for edit in EDITORS.values()))
    pictures = torch.stack(pictures, dim=1)                                            # (n, editors, 3, H, W)
    pool = toytown.scenes(renders, seed + 1)
    hits = torch.stack([hit(pictures[i], scenes[i], pool)
                        for i in tqdm(range(n), "captions", leave=False, disable=None)])
    return [{"editor": name, **shares(hits[:, e].double()), **costs[e]} for e, name in enumerate(EDITORS)]


def chief(rows):
    """Editor -> share of captions whose season, time and style all show, where the network was asked."""
    found = {row["editor"]: round(row["all three"].value, 3) for row in rows if "network calls" in row}
    return {"town-ddpm": found}


def drawn(edit, model, scenes, captions, steps, seed):
    """An editor's pictures, and what each of them cost."""
    start = perf_counter()
    with model.counted() as calls:
        pictures = edit(model, scenes, captions, steps, seeded(seed)).cpu()
    if not calls[0]:
        return pictures, {}
    seconds = (perf_counter() - start) / len(scenes)
    return pictures, {"network calls": calls[0] // len(scenes), "seconds": seconds}


def hit(pictures, scene, pool):
    """Which attributes of a scene's caption show in pictures of it, (P, 3, H, W): bool (P, len(READ))."""
    legal = pool.with_(**{column: getattr(scene, column) for column in STATED})
    found = []
    for attribute, values in READ.items():
        gaps = []
        for value in range(values):
            renders = toytown.paint(legal.with_(**{attribute: value}), pictures.shape[-1])
            gaps.append(torch.cdist(pictures.flatten(1), renders.flatten(1)).amin(1))  # (P,)
        found.append(torch.stack(gaps).argmin(0) == getattr(scene, attribute))
    return torch.stack(found, dim=1)


def shares(hits):
    """The share of hits for each attribute and for all at once, with intervals: (n, len(READ)) -> cells."""
    columns = dict(zip(READ, hits.unbind(1))) | {"all three": hits.prod(1)}
    return {name: bootstrap(column) for name, column in columns.items()}


def another_legal_render(model, scenes, captions, steps, generator):
    """The oracle: other scenes that fit the same captions."""
    stated = {column: getattr(scenes, column) for column in STATED}
    return toytown.paint(fresh_scenes(len(scenes), generator).with_(**stated), model.size)


def a_fresh_scene(model, scenes, captions, steps, generator):
    """The re-roll: any scene, whatever the caption says."""
    return toytown.paint(fresh_scenes(len(scenes), generator), model.size)


def sampled(model, scenes, captions, steps, generator, scale):
    """The network's pictures of the captions, at a scale of guidance."""
    denoise, times = model.denoiser(captions, scale), model.process.times(steps)
    noise = normal_like(torch.empty(len(scenes), 3, model.size, model.size, device=model.device), generator)
    return last(sample(model.process, denoise, noise, times, generator))


EDITORS = {"another legal render": another_legal_render, "a fresh scene": a_fresh_scene,
           "sampled, scale 1": partial(sampled, scale=1), "sampled, scale 3": partial(sampled, scale=3)}
