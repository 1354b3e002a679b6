"""Edits by instruction or caption: did they succeed, and what else changed?

Edits of the frozen test split, by kind. "success": inside the true region, nearer to the requested render
than to every other legal answer. "truth" is PSNR there. "kept" is PSNR outside the region, the median of
local edits, "changed" the share of those pixels that moved by more than 4/255. "survived" is the share of
things nobody asked to change that global edits left alone. "strict": success, and 35 dB kept or all survived.
InstructPix2Pix is told the instruction; the others, which read only captions, the caption of the true result
(and Prompt-to-Prompt that of the source, too): an easier task. Calls and seconds are those of one edit. ± is
half of a 95 % interval.
"""

from functools import partial
from time import perf_counter

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import last, seeded
from minidiff.bench.judging import NULL_EDITORS, TARGETED, TESTED, first_of_each, held_out_edits, judged
from minidiff.control.attention import p2p_edit
from minidiff.control.instruct import instruct, instruct_branches
from minidiff.control.restart import sdedit
from minidiff.measure import bootstrap
from minidiff.model import load_model
from minidiff.process.sample import normal_like
from minidiff.toytown.requests import CLASSES

WEIGHTS = "town-instruct"
QUICK = dict(each=1, few=1, steps=2)
INSTRUCT = "InstructPix2Pix"
FOUR = ", ".join(TARGETED)
BATCH = 32                                                      # edits at once
COLUMNS = (("success", "success", "mean"), ("truth (dB)", "truth", "mean"), ("kept (dB)", "kept", "median"),
           ("changed", "changed", "mean"), ("survived", "survived", "mean"), ("strict", "strict", "mean"))


def rows(model, each=40, few=6, steps=30, seed=0):
    """A row for each editor and group of edits.  each: edits of a kind; few: for training-free editors."""
    edits, captioner = held_out_edits(each), load_model("town-ddpm", model.device)
    some = edits[first_of_each(edits.kind, TESTED, few)]
    editors = {name: (edit, None, edits) for name, edit in NULL_EDITORS.items()}
    editors["SDEdit, strength .6"] = partial(by_sdedit, steps=steps), captioner, some
    editors["inversion and Prompt-to-Prompt"] = partial(by_p2p, steps=steps), captioner, some
    editors[INSTRUCT] = partial(by_instruction, steps=steps), model, edits
    found = []
    for name, (edit, network, batch) in editors.items():
        outputs, costs = edited(edit, network, batch, seeded(seed), name)
        found += [row(name, group, chosen, judged_all, costs)
                  for judged_all in [judged(outputs, batch)]
                  for group, chosen in groups(batch, detailed=name == INSTRUCT).items()]
    return found


def chief(rows):
    """Group -> success, of the trained editor; and what it keeps, in dB."""
    own = {row["edits"]: row for row in rows if row["editor"] == INSTRUCT}
    found = {f"success, {group}": round(row["success"].value, 3) for group, row in own.items()}
    return {WEIGHTS: {**found, "kept (dB), all": round(own["all"]["kept (dB)"].value, 2)}}


def groups(edits, detailed):
    """Name -> bool (n,): all edits, the four kinds learnt first; detailed: classes, kinds, the held-out."""
    def of_kinds(kinds):
        return torch.tensor([kind in kinds for kind in edits.kind])

    four = of_kinds(TARGETED)
    found = {"all": of_kinds(TESTED), FOUR: four}
    if not detailed:
        return found
    classes = {name: of_kinds(kinds) for name, kinds in CLASSES.items()}
    found |= {name: chosen for name, chosen in classes.items() if chosen.any()}
    found |= {kind: of_kinds([kind]) for kind in TESTED}
    colours, wording = edits.held_out_colors, edits.held_out_phrasing
    return found | {f"{FOUR}: nothing held out": four & ~edits.held_out,
                    f"{FOUR}: held-out phrasing": four & wording, f"{FOUR}: held-out colour": four & colours}


def row(editor, group, chosen, figures, costs, columns=COLUMNS):
    """The figures of one editor on some edits.  columns: (title, measure, "mean" or "median") each."""
    cells = {"editor": editor, "edits": group, "n": int(chosen.sum())}
    for title, name, statistic in columns:
        values = figures[name][chosen]
        if not values.isnan().all():
            cells[title] = bootstrap(values, statistic)
    return cells | costs


def edited(edit, model, edits, generator, name, batch=BATCH):
    """An editor's pictures of all edits, `batch` at a time, and what one of them cost."""
    if model is None:
        return edit(edits, generator), {}
    start = perf_counter()
    with model.counted() as calls:
        parts = [edit(model, edits[i : i + batch], generator).cpu()
                 for i in tqdm(range(0, len(edits), batch), name, leave=False, disable=None)]
    seconds = (perf_counter() - start) / len(edits)
    return torch.cat(parts), {"network calls": round(calls[0] / len(edits)), "seconds": seconds}


def by_instruction(model, edits, generator, steps, image_scale=1.5, text_scale=3.0, rescale=0.0):
    """InstructPix2Pix."""
    source = edits.source.to(model.device)
    predict = instruct_branches(model, source, list(edits.instruction))
    times, noise = model.process.times(steps), normal_like(source, generator)
    return last(instruct(model.process, predict, noise, times, generator, image_scale, text_scale, rescale))


def by_sdedit(model, edits, generator, steps, strength=0.6, scale=3.0):
    """SDEdit, told the caption of the true result."""
    denoise = model.denoiser(toytown.captions(edits.target_scenes), scale)
    times = model.process.times(steps)
    return last(sdedit(model.process, denoise, edits.source.to(model.device), times, strength, generator))


def by_p2p(model, edits, generator, steps):
    """Inversion and Prompt-to-Prompt, one picture at a time, told both captions."""
    options = dict(generator=generator, steps=steps)
    before, after = (toytown.captions(scenes) for scenes in (edits.scenes, edits.target_scenes))
    return torch.cat([last(p2p_edit(model, source[None], None, new, source=old, **options))
                      for source, old, new in zip(edits.source.to(model.device), before, after)])
