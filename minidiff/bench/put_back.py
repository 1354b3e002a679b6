"""What an edit did not change is put back: from which difference on is a pixel edited?

The unified editor, every kind of the grammar, on the val split, where the usual value, 8, was chosen: up to
half as much again no edit is lost (`grammar` has it on the test split). A result is compared with what the
codec makes of the source, and where they are alike the source's own pixels come back. "least": a difference
up to that much, in levels of 255, is none; "as decoded": nothing is put back; "gaps left": between pixels
that differ, too, the source's come back where the two happen to agree. "edited" is the share of pixels that
count as edited, of local edits; of "true regions": of those that truly change. "lost": edits that succeed as
decoded and no longer do, "won": those that only do now. "seam": how far the steps across the region's edge
are from the truth's, in 255ths. The other columns are those of `grammar`. ± is half of a 95 % interval.
"""

from functools import partial

from minidiff.bench.common import seeded
from minidiff.bench.edits import edited
from minidiff.bench.grammar import by_context, judged_in_latents, put_back
from minidiff.measure import bootstrap, seam
from minidiff.toytown.splits import load_split

WEIGHTS, DECODED, GAPS = "town-context", "as decoded", "8, gaps left"
QUICK = dict(n=24, steps=2, levels=(8,))
COLUMNS = (("success", "success", "mean"), ("truth (dB)", "truth", "median"), ("kept (dB)", "kept", "median"),
           ("over floor (dB)", "over floor", "median"), ("strict", "strict", "mean"))


def rows(model, n=None, steps=20, levels=(2, 4, 6, 8, 10, 12, 16, 32), seed=0):
    """A row for each threshold.  n: edits, the first of the split (None: all)."""
    edits = load_split("val", model.size).edits[:n]
    decoded, _ = edited(partial(by_context, steps=steps), model, edits, seeded(seed), "edits")
    outputs = {DECODED: decoded} | {
        f"{level}": put_back(model, decoded, edits, 2 * level / 255) for level in levels}
    outputs[GAPS] = put_back(model, decoded, edits, gap=0)
    found, begun, local = [], None, ~edits.is_global
    for least, output in outputs.items():
        figures = judged_in_latents(output, edits, model)
        succeeded = figures["success"] == 1
        begun = succeeded if begun is None else begun
        changed = (output != edits.source).any(1)[local]
        found.append({"least": least, "n": len(edits), "edited": changed.double().mean().item(),
                      **{title: bootstrap(figures[name], statistic) for title, name, statistic in COLUMNS},
                      "seam": bootstrap(seam(output, edits.target, edits.region).double()),
                      "lost": int((begun & ~succeeded).sum()), "won": int((~begun & succeeded).sum())})
    return [*found, {"least": "true regions", "edited": edits.region[local].double().mean().item()}]


def chief(rows):
    """Threshold -> edits lost."""
    return {WEIGHTS: {f"lost, {row['least']}": row["lost"] for row in rows if "lost" in row}}
