"""What a caption asks of a picture: things, their colours, season, time of day, style; and what was found.

Three tables of one form, attribute -> (n,) int64, an index into ATTRIBUTES[attribute] or UNKNOWN:

    named(captions)     what captions say
    truth(scenes)       what can be seen in the renders of scenes
    reader.read(x0)     what a network sees in pictures (encoders/reader.py), never UNKNOWN

Not among them: sizes, places, poses, bricks, and what a sign says.
"""

import re

import torch
from torch import Tensor

from minidiff.toytown.scene import COLORS, OBJECTS, SEASONS, STYLES, TIMES, TREES, Scenes

UNKNOWN = -1
THINGS = (*OBJECTS, "fence")
OWNER = {"tree_kind": "tree", "house_color": "house", "roof_color": "house", "jacket_color": "person",
         "car_color": "car"}
COLORED = ("house_color", "roof_color", "jacket_color", "car_color")
ATTRIBUTES = {**dict.fromkeys(THINGS, ("absent", "present")), "tree_kind": TREES,
              **dict.fromkeys(COLORED, COLORS), "season": SEASONS, "time": TIMES, "style": STYLES}
THINGS_AND_COLORS = (*THINGS, "tree_kind", *COLORED)
BLUEPRINT = STYLES.index("blueprint")

# where a caption's words stand; an attribute of which they say nothing is UNKNOWN
_COLOR = f"({'|'.join(COLORS)})"
_PATTERNS = {"tree_kind": r"\b(pine|round(?= tree))\b", "house_color": rf"\b{_COLOR} (?:brick )?house\b",
             "roof_color": rf"\b{_COLOR} roof\b", "jacket_color": rf"\b{_COLOR} jacket\b",
             "car_color": rf"\b{_COLOR} car\b", "season": rf"\b({'|'.join(SEASONS)})\b",
             "time": r"\b(day|dusk|evening|night)\b", "style": rf"\b({'|'.join(STYLES[1:])})\b"}
_SAME = {"evening": "dusk"}


def named(captions: list[str]) -> dict[str, Tensor]:
    """What each caption names: the table of the module's docstring.

    A thing without a word is absent, since captions name every one; without a style the picture is plain.
    A blueprint shows how bright things are, no colours, so none is asked of it: UNKNOWN.
    Raises ValueError for a single string.
    """
    if isinstance(captions, str):
        raise ValueError(f"captions is one string, {captions!r}: a list of strings expected")
    rows = [_named(re.sub('"[^"]*"', "", caption)) for caption in captions]    # what a sign says is no thing
    return {attribute: torch.tensor([row[attribute] for row in rows], dtype=torch.long)
            for attribute in ATTRIBUTES}


def truth(scenes: Scenes) -> dict[str, Tensor]:
    """What the renders of scenes show, on their device.

    UNKNOWN, since it cannot be seen: what an absent thing would look like, and the colours of a blueprint.
    """
    values = {attribute: getattr(scenes, attribute).clone() for attribute in ATTRIBUTES}
    for attribute, owner in OWNER.items():
        values[attribute][getattr(scenes, owner) == 0] = UNKNOWN
    for attribute in COLORED:
        values[attribute][scenes.style == BLUEPRINT] = UNKNOWN
    return values


def named_and_found(named: dict[str, Tensor], read: dict[str, Tensor],
                    among: tuple[str, ...] = THINGS_AND_COLORS) -> tuple[Tensor, Tensor]:
    """How many attributes does each caption name, and how many of them does its picture show? (n,) twice.

    named: as `named` and `truth` give it.  read: of the pictures, n as well.  among: the attributes to count.
    A thing counts where it is named as present. A kind or a colour is found only where its thing is, too:
    "a red car" names two, and a picture without a car shows neither.
    Raises ValueError for unknown attributes, and for tables of different lengths.
    """
    _check(named, read, among)
    asked = torch.stack([named[attribute] >= (attribute in THINGS) for attribute in among])     # (among, n)
    found = torch.stack([_shows(attribute, named, read) for attribute in among])
    return asked.sum(0), (asked & found).sum(0)


def absent_and_invented(named: dict[str, Tensor], read: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """How many THINGS does each caption leave out, and how many of them does its picture show all the same?

    (n,) twice. A reader that sees everything everywhere finds all that is named: this is where it fails.
    """
    _check(named, read, THINGS)
    absent = torch.stack([named[thing] == 0 for thing in THINGS])                               # (THINGS, n)
    shown = torch.stack([read[thing] == 1 for thing in THINGS])
    return absent.sum(0), (absent & shown).sum(0)


def _named(caption):
    row = {thing: int(re.search(rf"\b{thing}\b", caption) is not None) for thing in THINGS}
    for attribute, pattern in _PATTERNS.items():
        word = re.search(pattern, caption)
        row[attribute] = ATTRIBUTES[attribute].index(_SAME.get(word[1], word[1])) if word else UNKNOWN
    row["tree"] |= row["tree_kind"] == TREES.index("pine")
    row["style"] = max(row["style"], STYLES.index("plain"))
    if row["style"] == BLUEPRINT:
        row |= dict.fromkeys(COLORED, UNKNOWN)
    return row


def _shows(attribute, named, read):
    """bool (n,): is what is named what is read?"""
    same = read[attribute] == named[attribute]
    return same & (read[OWNER[attribute]] == 1) if attribute in OWNER else same


def _check(named, read, among):
    if unknown := [attribute for attribute in among if attribute not in ATTRIBUTES]:
        raise ValueError(f"among has {', '.join(unknown)}: some of {', '.join(ATTRIBUTES)} expected")
    lengths = [len(table["house"]) for table in (named, read)]
    if lengths[0] != lengths[1]:
        raise ValueError(f"{lengths[0]} captions are named, {lengths[1]} pictures read: as many expected")
