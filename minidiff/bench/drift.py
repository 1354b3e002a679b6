"""Edits in a chain, and undone again: what is left of the pixels that no turn should have touched?

Eight local edits of plain scenes, one after the other, then the eight that undo them, by their own
instructions: at the end the picture should be the first one again. "untouched": dB against the first picture,
outside all regions so far, the median of the chains; "largest": the largest difference there, in 255ths.
"truth": dB of the whole picture against what it should be after this turn. "done": share of this turn's edits
that look more like the true result than like what was to be changed. The unified editor goes through its
codec every turn, as one who saves each picture does; "put back": then pixels that it did not change are those
of the picture before, as `minidiff edit` hands them out; or it stays in latents, so that pictures are only
looked at. "codec alone" is the round trip, turn after turn; "identity" never changes a thing. ± is half of a
95 % interval over chains.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from tqdm import tqdm

from minidiff import toytown
from minidiff.bench.common import fresh_scenes, last, seeded
from minidiff.bench.edits import INSTRUCT, by_instruction
from minidiff.bench.grammar import by_context, put_back
from minidiff.control.context import SCALE, context_walk
from minidiff.images import to_uint8, to_x0
from minidiff.measure import bootstrap, success
from minidiff.measure.drift import drift
from minidiff.model import load_model
from minidiff.process.sample import normal_like
from minidiff.show import BLUE, GREEN, GREY, ORANGE, PINK, VERMILION, chart
from minidiff.toytown.instructions import instruction
from minidiff.toytown.requests import Request

WEIGHTS, INSTRUCT_WEIGHTS = "town-context", "town-instruct"
QUICK = dict(n=2, turns=2, steps=2)
UNDOABLE = ("recolour", "resize", "text", "add")                # by an edit of the grammar, in words
OPPOSITE = {"bigger": "smaller", "smaller": "bigger"}
CODEC, EACH = "codec alone", "tokens, through the codec each turn"
BACK, INSIDE = "tokens, put back each turn", "tokens, staying in latents"


class Hand(NamedTuple):
    """An editor that goes on from its own results, in whatever form it keeps them.

    start: first pictures -> that form.  turn: (form, edits, generator) -> the next.  look: form -> pictures.
    """

    start: Callable
    turn: Callable
    look: Callable


def rows(model, n=16, turns=8, steps=20, seed=0):
    """A row for each editor and every other turn.  n: chains; turns: edits in each, then as many undoings."""
    chain = chains(n, turns, seed, model.size)
    shown = [turn for turn in range(1, 2 * turns + 1) if turn in (1, turns) or turn % 2 == 0]
    found = []
    for name, hand in hands(model, steps).items():
        outputs = followed(hand, chain, seeded(seed), name)
        figures = judged(outputs, chain)
        found += [{"editor": name, "turn": turn, "undone": max(0, turn - turns),
                   **{column: bootstrap(values[turn - 1], statistic)
                      for column, (values, statistic) in figures.items()}} for turn in shown]
    return found


def chief(rows):
    """What is left of untouched pixels after the last edit and after the last undoing, in dB, by editor."""
    found = {WEIGHTS: {}, INSTRUCT_WEIGHTS: {}}
    for row in rows:
        if row["editor"] in (CODEC, EACH, BACK, INSIDE, INSTRUCT) and 2 * row["undone"] in (0, row["turn"]):
            weights = INSTRUCT_WEIGHTS if row["editor"] == INSTRUCT else WEIGHTS
            when = "all undone" if row["undone"] else "all edited"         # the last row of each counts
            found[weights][f"untouched (dB), {row['editor']}, {when}"] = round(row["untouched (dB)"].value, 2)
    return found


def plot(rows):
    """Untouched pixels and truth by turn, a line for each editor: a matplotlib figure."""
    figure, axes = chart(2, height=3, xlabel="turn")
    editors = dict.fromkeys(row["editor"] for row in rows)
    colors = dict(zip(editors, (GREY, VERMILION, ORANGE, PINK, BLUE, GREEN)))
    for axis, column in zip(axes, ("untouched (dB)", "truth (dB)")):
        for editor, color in colors.items():
            line = [(row["turn"], row[column].value) for row in rows if row["editor"] == editor]
            axis.plot(*zip(*line), "o-", color=color, label=editor, markersize=3)
        axis.axvline(max(row["turn"] for row in rows) / 2, color=GREY, linestyle=":")  # from here on: undoing
        axis.set(ylabel=column)
    axes[0].legend(fontsize=7)
    return figure


# Chains

def chains(n, turns, seed, size):
    """2 turns of n edits each, a list of Edits: each goes on from the targets of the one before.

    Of plain scenes, with colours and phrasings of training. The second half undoes the first, last come,
    first undone.
    """
    scenes, done = fresh_scenes(n, seeded(seed)).with_(style=0), []
    for turn in range(turns):
        done.append(toytown.edits_of(scenes, seed * turns + turn, kinds=UNDOABLE, size=size))
        scenes = done[-1].target_scenes
    words = random.Random(seed)
    return done + [undone(edits, words) for edits in reversed(done)]


def undone(edits, words):
    """The edits that undo these, with instructions in phrasings drawn with the dice `words`."""
    requests = tuple(map(inverse, edits.requests))
    before, after = edits.target_scenes, edits.scenes
    each = zip(requests, before.rows(), after.rows(), strict=True)
    told = tuple(instruction(*one, words) for one in each)
    back = replace(edits, scenes=before, target_scenes=after, requests=requests, instruction=told)
    return back.keeping(edits.target, edits.source)


def inverse(request):
    """The request that undoes another one of a kind of UNDOABLE: colours and writing come from the scenes."""
    if request.kind == "add":
        return Request("remove", request.subject)
    if request.kind == "resize":
        opposite = OPPOSITE[request.how]
        return replace(request, verb=f"resize {opposite}", how=opposite)
    return request


def followed(hand, chain, generator, name):
    """The pictures of an editor after each turn: (T, n, 3, size, size)."""
    now, outputs = hand.start(chain[0].source), []
    for edits in tqdm(chain, name, leave=False, disable=None):
        now = hand.turn(now, edits, generator)
        outputs.append(hand.look(now).cpu())
    return torch.stack(outputs)


def judged(outputs, chain):
    """Column -> (figures (T, n), "mean" or "median").  outputs: (T, n, 3, size, size)."""
    truths, regions = (torch.stack(part) for part in zip(*[(edits.target, edits.region) for edits in chain]))
    found = drift(chain[0].source, outputs, truths, regions)
    done = [success(output, torch.stack([edits.target, edits.source], 1), edits.region)
            for output, edits in zip(outputs, chain)]
    return {"untouched (dB)": (found.preserved, "median"), "largest": (found.max_diff, "median"),
            "truth (dB)": (found.truth, "median"), "done": (torch.stack(done).double(), "mean")}


# Editors

def as_saved(x):
    """A picture as it comes back from a file: (B, 3, H, W), in 256 steps."""
    return to_x0(to_uint8(x))


def hands(model, steps):
    """Name -> Hand."""
    instruct, device = load_model(INSTRUCT_WEIGHTS, model.device), model.device

    def same(x):
        return x

    def on_device(x):
        return x.to(device)

    def codec_turn(x, edits, generator):
        return as_saved(model.vae.round_trip(x))

    def latent_turn(z, edits, generator, scale=SCALE):
        noise = normal_like(z, generator)
        return last(context_walk(model, list(edits.instruction), [z], noise, generator, steps, scale))

    def by_context_put_back(edits, generator, steps):
        return put_back(model, by_context(model, edits, generator, steps), edits)

    def picture_turn(x, edits, generator, edit):
        return as_saved(edit(edits=replace(edits).keeping(x, edits.target), generator=generator, steps=steps))

    return {"identity": Hand(same, lambda x, *_: x, same), CODEC: Hand(on_device, codec_turn, same),
            EACH: Hand(same, partial(picture_turn, edit=partial(by_context, model)), same),
            BACK: Hand(same, partial(picture_turn, edit=by_context_put_back), same),
            INSIDE: Hand(lambda x: model.latents(on_device(x)), latent_turn, model.decode),
            INSTRUCT: Hand(same, partial(picture_turn, edit=partial(by_instruction, instruct)), same)}
