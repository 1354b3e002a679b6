"""Every legal answer to a request, as (names, scenes): success is to be nearest to the requested one.

The first is the requested one, the second the unchanged picture, the others what else may have been done.
"""

import torch

from minidiff.toytown.changes import FACTOR
from minidiff.toytown.glyphs import CHARACTERS, LATIN, bitmaps
from minidiff.toytown.language import written
from minidiff.toytown.paint import change, paint
from minidiff.toytown.requests import COLOR_OF, COLUMNS, OWNER, PLACES, Request
from minidiff.toytown.scene import COLORS, LOOKS, OBJECTS, POSES, SEASONS, STYLES, TIMES, TREES, Scenes

CATEGORIES = {**dict.fromkeys(COLUMNS, COLORS), "season": SEASONS, "time": TIMES, "style": STYLES,
              "tree_kind": TREES, "person_pose": POSES, "car_direction": ("to the left", "to the right")}
SEEN = 1e-3                                                     # an eighth of an 8-bit step: less is nothing
TOLD = 4                                                        # pixels, in a picture of 64x64
LOOKALIKES = 3                                                  # other writings for each character asked for


def legal(request: Request, source: Scenes, target: Scenes, reference: Scenes) -> tuple[list[str], Scenes]:
    """Names and scenes of all legal answers to one request; source, target and reference hold one scene each.

    An answer that differs from the requested one in fewer than TOLD pixels of the true region cannot be told
    from it, and is left out.
    """
    others = ALTERNATIVES[request.kind](request, source, target, reference)
    named = {"requested": target, "unchanged": source, **others}
    scenes = Scenes.cat(named.values())
    pictures = paint(scenes)
    wanted, unchanged = pictures[:1], pictures[1:2]
    told = (change(pictures, wanted, SEEN) & change(unchanged, wanted, SEEN)).sum((1, 2, 3)) >= TOLD
    told[0] = True
    return [name for name, kept in zip(named, told.tolist(), strict=True) if kept], scenes[told]


def _recoloured(request, source, target, reference):
    return {**_others(target, source, request.subject), "gone": source.with_(**{OWNER[request.subject]: 0})}


def _added(request, source, target, reference):
    name = request.subject
    if name == "fence":
        return _removed(request, source, source, reference)
    return {**_elsewhere(request, target), **_other_looks(target, source, name)}


def _removed(request, source, target, reference):
    """Any other thing gone instead."""
    there = [name for name in (*OBJECTS, "fence") if name != request.subject and getattr(source, name) == 1]
    return {f"{name} gone": source.with_(**{name: 0}) for name in there}


def _replaced(request, source, target, reference):
    gone = source.with_(**{request.subject: 0})
    return {"gone": gone, **_other_looks(target, source, request.other)}


def _moved(request, source, target, reference):
    return {**_elsewhere(request, source), "gone": source.with_(**{request.subject: 0})}


def _resized(request, source, target, reference):
    column, opposite = request.subject + "_size", {"bigger": "smaller", "smaller": "bigger"}[request.how]
    wrong_way = source.with_(**{column: getattr(source, column) * FACTOR[opposite]})
    return {opposite: wrong_way, "gone": source.with_(**{request.subject: 0})}


def _set(request, source, target, reference):
    """Season, time of day, style: every other one."""
    return _others(target, source, request.subject)


def _written(request, source, target, reference):
    return {**_misspelled(target, source), "empty sign": source.with_(sign_text=0)}


def _combined(request, source, target, reference):
    """Whatever else image 1 could have been given, and image 2 as it is.

    Not for "combine add": there image 2 shows the very thing in the very place.
    """
    copied = {} if request.verb == "combine add" else {"image 2": reference}
    if request.subject in CATEGORIES:
        return {**copied, **_others(target, source, request.subject)}
    return {**copied, **_other_looks(target, source, request.subject)}


def _related(request, source, target, reference):
    """The right thing to another object, or another colour."""
    if request.verb == "relational remove":
        return _removed(request, source, target, reference)
    column = COLOR_OF[request.subject]
    color = getattr(target, column)
    wrong = {}
    for other, mistaken in COLOR_OF.items():
        if other != request.subject and getattr(source, other) == 1 and getattr(source, mistaken) != color:
            wrong[f"{other} {COLORS[int(color)]}"] = source.with_(**{mistaken: color})
    return {**_others(target, source, column), **wrong, "gone": source.with_(**{request.subject: 0})}


ALTERNATIVES = {"recolour": _recoloured, "add": _added, "remove": _removed, "replace": _replaced,
                "move": _moved, "resize": _resized, "season": _set, "time": _set, "style": _set,
                "text": _written, "combine": _combined, "relational": _related}


def _elsewhere(request, scene):
    """The scene with the object of the request in each place that was not asked for."""
    others = {place: x for place, x in PLACES.items() if place != request.how}
    return {f"{place} instead": scene.with_(**{request.subject + "_x": x}) for place, x in others.items()}


def _others(target, source, column):
    """The target with every other value of one column, but for the source's: that is "unchanged"."""
    taken = {int(getattr(target, column)), int(getattr(source, column))}
    return {name: target.with_(**{column: i}) for i, name in enumerate(CATEGORIES[column]) if i not in taken}


def _other_looks(target, source, name):
    """The target with every other colour, kind, pose or direction of one object, or with other writing."""
    if name == "sign":
        return _misspelled(target, source)
    others = {}
    for column in LOOKS[name]:
        for i, value in enumerate(CATEGORIES.get(column, ())):
            if i != int(getattr(target, column)):
                others[f"{column} {value}"] = target.with_(**{column: i})
    return others


def _misspelled(target, source):
    """The target with one character replaced by each of LOOKALIKES of its script that look most like it."""
    text, dots = target.sign_text[0].cpu(), bitmaps().flatten(1).float()
    is_latin = torch.tensor([character in LATIN for character in CHARACTERS])
    others = {}
    for place in text.nonzero().flatten().tolist():
        right = text[place] - 1
        distance = (dots - dots[right]).abs().sum(1)
        distance[(is_latin != is_latin[right]) | (distance == 0)] = float("inf")
        for character in distance.argsort()[:LOOKALIKES].tolist():
            wrong = text.clone()
            wrong[place] = character + 1
            if not torch.equal(wrong, source.sign_text[0].cpu()):
                others[f'"{written(wrong.tolist())}"'] = target.with_(sign_text=wrong)
    return others


def side_effects(request: Request, target: Scenes) -> tuple[list[str], Scenes | None]:
    """Names and scenes of the target with one more attribute changed that the request leaves alone."""
    changed = {}
    for column in ("season", "time", "style"):
        changed[column] = target.with_(**{column: (getattr(target, column) + 1) % len(CATEGORIES[column])})
    changed["fence"] = target.with_(fence=1 - target.fence)
    for name in OBJECTS:
        if getattr(target, name) == 1 and name not in request.changes():
            changed |= _slips(target, name)
    changed = {name: scene for name, scene in changed.items() if name != request.subject}
    return list(changed), Scenes.cat(changed.values())


def _slips(target, name):
    x = getattr(target, name + "_x")
    inwards = torch.where(x < 0.5, 0.125, -0.125)
    slips = {f"{name} gone": target.with_(**{name: 0}),
             f"{name} moved": target.with_(**{name + "_x": x + inwards})}
    for column in LOOKS[name]:
        if column in CATEGORIES:
            slips[column] = target.with_(**{column: (getattr(target, column) + 1) % len(CATEGORIES[column])})
    if name == "sign":
        slips["sign_text"] = next(iter(_misspelled(target, target).values()))
    return slips
