"""The six masks of RePaint: RePaint by number of visits, GLIDE, LaMa, and harmonic fill

Scenes of the test split, their holes grey, no caption. "truth" is PSNR in the hole; "seam" the error of
the steps across the hole's edge, in 255ths; "kept" PSNR outside the hole, where 60 is identical; "over"
compares the truth columns on the same scenes. One sample is one possible picture; the mean of several is
the best guess, which PSNR rewards. In a big hole (wide, half, expand) many pictures are right and the
truth is one of them: PSNR says little. RePaint with one visit is plain replacement; "over most visits"
compares with the RePaint that has most. LaMa draws nothing by chance, so it has but one picture. Calls and
seconds are those of one picture. ± is half of a 95 % interval over scenes.
"""

from time import perf_counter

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import fresh_scenes, held_out, last, seeded
from minidiff.control import controls
from minidiff.control.masks import MASKS
from minidiff.measure import bootstrap, harmonic_fill, preservation, seam, truth_psnr
from minidiff.model import load_model

QUICK = dict(scenes=2, samples=2, visits=(1, 2), steps=6, glide_steps=2)
SIX = ("wide", "narrow", "super_resolve", "alternating_lines", "half", "expand")
ONE = "one sample"
REPAINT, GLIDE, LAMA = "RePaint", "GLIDE", "LaMa"
GLIDE_WEIGHTS, LAMA_WEIGHTS = "town-inpaint", "town-lama"


def kept_psnr(output, truth, edit_mask):
    """Preservation in dB: (B,)."""
    return preservation(truth, output, edit_mask).psnr


MEASURES = {"truth (dB)": truth_psnr, "seam": seam, "kept (dB)": kept_psnr}


def rows(model, scenes=5, samples=8, visits=(1, 10), steps=25, glide_steps=20, seed=0):
    """One row for each mask, editor and picture, which is one sample or the mean of `samples`."""
    editors = dict(NULL_EDITORS)
    for count in visits:
        editors[repainter(count)] = inpainter(model, "repaint", samples, steps=steps, visits=count)
    glide, lama = (load_model(name, model.device) for name in (GLIDE_WEIGHTS, LAMA_WEIGHTS))
    editors[GLIDE] = inpainter(glide, "glide", samples, steps=glide_steps)
    editors[LAMA] = inpainter(lama, "lama", 1)
    truths = toytown.paint(held_out(scenes)[0], model.size).to(model.device)
    measured = [judged(truths[i : i + 1], editors, seeded(seed + i))
                for i in tqdm(range(scenes), "masks", leave=False, disable=None)]
    return [row(case, measured) for case in sorted(measured[0], key=lambda case: SIX.index(case[0]))]


def chief(rows):
    """Mask -> truth PSNR in dB: of RePaint with most visits and of GLIDE the mean of samples, and of LaMa."""
    found = {"town-ddpm": {}, GLIDE_WEIGHTS: {}, LAMA_WEIGHTS: {}}
    for row in rows:
        if "network calls" in row:                              # the last row of an editor counts
            weights = {GLIDE: GLIDE_WEIGHTS, LAMA: LAMA_WEIGHTS}.get(row["editor"], "town-ddpm")
            found[weights][row["mask"]] = round(row["truth (dB)"].value, 2)
    return found


def judged(truth, editors, generator, measures=MEASURES):
    """All editors on the six masks of one scene: {(mask, editor, picture): {measure or cost: float}}."""
    edit_mask = torch.cat([MASKS[name](*truth.shape[2:], generator) for name in SIX]).to(truth.device)
    truth, found = truth.expand(len(SIX), -1, -1, -1), {}
    for editor, edit in editors.items():
        pictures, calls, seconds = run(edit, truth, edit_mask, generator)              # (S, 6, 3, H, W)
        views = {ONE: (pictures, 1)}
        if len(pictures) > 1:
            views[f"mean of {len(pictures)}"] = (pictures.mean(0, keepdim=True), len(pictures))
        for picture, (outputs, paid) in views.items():
            cost = {"network calls": paid * calls, "seconds": paid * seconds}
            for mask, figures in zip(SIX, figures_of(outputs, truth, edit_mask, measures)):
                found[mask, editor, picture] = figures | cost
    return found


def run(edit, truth, edit_mask, generator):
    """An editor's pictures of what the holes leave of the truth; network calls and seconds for each."""
    known = truth.where(~edit_mask, 0)
    start = perf_counter()
    pictures, calls = edit(known, edit_mask, truth, generator)
    count = pictures.shape[:2].numel()
    return pictures, calls / count, (perf_counter() - start) / count


def figures_of(outputs, truth, edit_mask, measures):
    """For each mask, every measure, the mean over outputs (S, 6, 3, H, W): a list of 6 dicts."""
    columns = {name: torch.stack([judge(output, truth, edit_mask) for output in outputs]).mean(0).tolist()
               for name, judge in measures.items()}
    return [dict(zip(columns, values)) for values in zip(*columns.values())]


def row(case, measured, measures=MEASURES):
    """The figures of one case over all scenes, with its gains over other cases on the same scenes."""
    mask, editor, picture = case

    def over_scenes(name, case=case):
        return torch.tensor([scene[case][name] for scene in measured], dtype=torch.float64)

    def gain(other):
        return bootstrap(over_scenes("truth (dB)") - over_scenes("truth (dB)", other))

    cells = {"mask": mask, "editor": editor, "picture": picture}
    cells |= {name: bootstrap(over_scenes(name)) for name in measures}
    cells |= {"over harmonic (dB)": gain((mask, HARMONIC, ONE))}
    if calls := round(over_scenes("network calls").mean().item()):
        plain = (mask, repainter(1), picture)
        thorough = (mask, [name for _, name, _ in measured[0] if name.startswith(REPAINT)][-1], picture)
        cells |= {"over one visit (dB)": gain(plain)} if editor.startswith(REPAINT) else {}
        cells |= {"over most visits (dB)": gain(thorough)} if not editor.startswith(REPAINT) else {}
        cells |= {"network calls": calls, "seconds": over_scenes("seconds").mean().item()}
    return cells


def repainter(visits):
    """The name of RePaint's row."""
    return f"{REPAINT}, visits {visits}"


def inpainter(model, control, samples, **options):
    """The editor registered for inpainting under this name, `samples` times on each picture and mask."""

    def edit(known, edit_mask, truth, generator):
        many = [tensor.repeat(samples, 1, 1, 1) for tensor in (known, edit_mask)]
        with model.counted() as calls:
            pictures = last(controls("inpaint")[control](model, *many, "", generator=generator, **options))
        return pictures.unflatten(0, (samples, len(known))), calls[0]

    return edit


def identity(known, edit_mask, truth, generator):
    """Changes nothing: the hole stays grey."""
    return known[None], 0


def re_roll(known, edit_mask, truth, generator):
    """Another scene in the hole."""
    pictures = toytown.paint(fresh_scenes(len(known), generator), known.shape[-1]).to(known)
    return torch.where(edit_mask, pictures, known)[None], 0


def oracle(known, edit_mask, truth, generator):
    """The exact render."""
    return truth[None], 0


def harmonic(known, edit_mask, truth, generator):
    """Smooth interpolation into the hole."""
    return harmonic_fill(known, edit_mask)[None], 0


HARMONIC = "harmonic fill"
NULL_EDITORS = {"identity": identity, "re-roll": re_roll, "oracle": oracle, HARMONIC: harmonic}
