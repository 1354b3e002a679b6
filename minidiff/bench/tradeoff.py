"""Both scales of InstructPix2Pix: what does each of them buy?

Edits of the test split: recolour, remove, season, time. Every pair of scales edits the same ones, from the
same noise. "success", "kept" and "strict" are those of `minidiff bench --only edits`. "direction" and "image"
are CLIP similarities by town-clip, the axes of figure 8 of 2211.09800: does the picture change as the
captions do, and how near is it to its source? ± is half of a 95 % interval.
"""

from functools import partial

from minidiff.bench.common import seeded
from minidiff.bench.edits import by_instruction, edited
from minidiff.bench.judging import TARGETED, held_out_edits, judged
from minidiff.bench.pairs import caption_pairs
from minidiff.encoders.clip import CLIP
from minidiff.measure import bootstrap
from minidiff.show import BLUE, GREEN, ORANGE, VERMILION, chart

WEIGHTS = "town-instruct"
IMAGE_SCALES = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)              # of figure 8
QUICK = dict(each=1, steps=2, image_scales=(1.0, 1.5), text_scales=(3.0,))


def rows(model, each=16, steps=20, image_scales=IMAGE_SCALES, text_scales=(1.5, 3.0, 7.5), seed=0):
    """One row for each pair of scales."""
    edits, clip = held_out_edits(each), CLIP.load("town-clip")             # on the CPU, where outputs come
    edits = edits[[i for i, kind in enumerate(edits.kind) if kind in TARGETED]]
    before, after = caption_pairs(edits.scenes, edits.target_scenes, seed)
    found = []
    for text_scale in text_scales:
        for image_scale in image_scales:
            edit = partial(by_instruction, steps=steps, image_scale=image_scale, text_scale=text_scale)
            outputs, costs = edited(edit, model, edits, seeded(seed), f"{image_scale}, {text_scale}")
            figures = judged(outputs, edits)
            found.append({
                "text scale": text_scale, "image scale": image_scale,
                "success": bootstrap(figures["success"]), "kept (dB)": bootstrap(figures["kept"], "median"),
                "survived": bootstrap(figures["survived"]), "strict": bootstrap(figures["strict"]),
                "direction": bootstrap(clip.direction_similarity(edits.source, outputs, before, after)),
                "image": bootstrap(clip.image_similarity(edits.source, outputs)), **costs})
    return found


def plot(rows):
    """A line for each text scale, from the smallest image scale to the largest: a matplotlib figure.

    Left the truth: success and what is kept. Right CLIP's opinion, as in figure 8 of 2211.09800.
    """
    figure, axes = chart(2, height=3)
    axes[0].set(xlabel="success", ylabel="kept (dB)", title="against the truth")
    axes[1].set(xlabel="CLIP: direction", ylabel="CLIP: image", title="as in the paper's figure 8")
    text_scales = sorted({row["text scale"] for row in rows})
    for text_scale, color in zip(text_scales, (GREEN, BLUE, VERMILION, ORANGE)):
        line = [row for row in rows if row["text scale"] == text_scale]
        for axis, (x, y) in zip(axes, [("success", "kept (dB)"), ("direction", "image")]):
            points = [(row[x].value, row[y].value) for row in line]
            axis.plot(*zip(*points), "o-", color=color, label=f"s_T = {text_scale}")
            for i in (0, -1):
                axis.annotate(line[i]["image scale"], points[i], textcoords="offset points", xytext=(5, 4),
                              color=color, fontsize=8)
    axes[0].legend(fontsize=8)
    return figure


def chief(rows):
    """The best strict success, and at which scales."""
    best = max(rows, key=lambda row: row["strict"].value)
    return {WEIGHTS: {"text scale": best["text scale"], "image scale": best["image scale"],
                      "strict": round(best["strict"].value, 3)}}
