"""Carry out a request on scenes: for each verb, where it is possible and the scene that it asks for.

Each verb has a function `can_*` (request, source, reference) -> bool (n,) and a function (request, source,
reference, dice) -> the target scenes; only "combine" looks at the reference, image 2.
"""

import torch
from torch import Tensor

from minidiff.toytown.dice import Dice
from minidiff.toytown.relations import stands_alone
from minidiff.toytown.requests import COLOR_OF, OWNER, PLACES, Request
from minidiff.toytown.scene import LOOKS, OBJECTS, PIXEL, SEASONS, STYLES, TIMES, Scenes

# What is added stands in size 1 on these baselines, no two of them equal: of two objects, one is in front.
CANONICAL = {"house": {"house_y": 0.66, "house_size": 1, "house_brick": 0},
             "tree": {"tree_y": 0.68, "tree_size": 1},
             "person": {"person_y": 0.715, "person_size": 1, "person_pose": 0},
             "car": {"car_y": 0.90, "car_size": 1, "car_direction": 1},
             "sign": {"sign_y": 45 / 64, "sign_size": 1}}
TELLING = {"house": "house_color", "tree": "tree_kind", "person": "jacket_color", "car": "car_color",
           "sign": "sign_text"}
FACTOR = {"bigger": 1.4, "smaller": 1 / 1.4}                    # "make it bigger" means 1.4 times,
SMALLEST, LARGEST = 0.6, 1.5                                    # within these sizes


def possible(request: Request, source: Scenes, reference: Scenes) -> Tensor:
    """bool (n,): where does the request make sense, so that pictures and words determine the answer?"""
    return CAN[request.verb](request, source, reference)


def carry_out(request: Request, source: Scenes, reference: Scenes, dice: Dice) -> Scenes:
    """The scenes that the request asks for; its open values (which colour, which text) come from the dice."""
    return DO[request.verb](request, source, reference, dice)


def shows(scenes, name):
    """bool (n,): is the object there?"""
    return getattr(scenes, name) == 1


def in_style(scenes, *styles):
    """bool (n,): is the scene drawn in one of these styles?"""
    wanted = torch.tensor([STYLES.index(style) for style in styles], device=scenes.style.device)
    return torch.isin(scenes.style, wanted)


def coloured(scenes):
    """bool (n,): can colours be told? A sketch hints at them, a blueprint has none."""
    return in_style(scenes, "plain", "pixel-art", "watercolour")


def tellable(scenes, name):
    """bool (n,): would the style show what the words say of this object: its colour, a sign's writing?"""
    if name == "sign":
        return in_style(scenes, "plain")
    return coloured(scenes) | (name == "tree")


def differs(column, other):
    """bool (n,) for columns (n,) or (n, 3)."""
    return (column != other).flatten(1).any(1) if column.ndim > 1 else column != other


def zone(x):
    """0, 1, 2: is x on the left, in the middle, on the right? As in language.place."""
    return (x >= 0.36).long() + (x > 0.64).long()


# --- appearance

def can_recolour(request, source, reference):
    """The column's owner is there, in a style that has colours."""
    return shows(source, OWNER[request.subject]) & coloured(source)


def recolour(request, source, reference, dice):
    """Any other colour than the one it has."""
    column = request.subject
    return source.with_(**{column: dice.color(column, len(source), other_than=getattr(source, column))})


def can_add(request, source, reference):
    """It is not there yet, and the style would show what the words say of it."""
    return ~shows(source, request.subject) & tellable(source, request.subject)


def add(request, source, reference, dice):
    """It stands at the place asked for, in size 1, with colours, kind or writing from the dice."""
    name = request.subject
    look = {**CANONICAL[name], **dice.look(name, len(source))}
    return source.with_(**{name: 1, f"{name}_x": PLACES[request.how]}, **look)


def can_add_fence(request, source, reference):
    """There is none yet."""
    return ~shows(source, "fence")


def add_fence(request, source, reference, dice):
    """A fence has no place and no look to choose."""
    return source.with_(fence=1)


def can_remove(request, source, reference):
    """It is there."""
    return shows(source, request.subject)


def remove(request, source, reference, dice):
    """It goes, and what it hid comes to light."""
    return source.with_(**{request.subject: 0})


def can_replace(request, source, reference):
    """The old object is there, the new one is not, and the style would show what the words say of it."""
    return shows(source, request.subject) & ~shows(source, request.other) & tellable(source, request.other)


def replace(request, source, reference, dice):
    """The new object stands where the old one stood, in size 1; a sign on the next point of its grid."""
    old, new = request.subject, request.other
    x, y = getattr(source, old + "_x"), getattr(source, old + "_y")
    if new == "sign":
        x, y = ((value / PIXEL).round() * PIXEL for value in (x.clamp(12 / 64, 52 / 64), y))
    look = {**CANONICAL[new], **dice.look(new, len(source)), f"{new}_x": x, f"{new}_y": y}
    return source.with_(**{old: 0, new: 1}, **look)


def can_move(request, source, reference):
    """It is there, and not yet in that part of the picture."""
    x = getattr(source, request.subject + "_x")
    return shows(source, request.subject) & (zone(x) != tuple(PLACES).index(request.how))


def move(request, source, reference, dice):
    """Only across: it stays as near as it was."""
    return source.with_(**{request.subject + "_x": PLACES[request.how]})


def can_resize(request, source, reference):
    """It is there, and its new size is within those allowed."""
    size = getattr(source, request.subject + "_size") * FACTOR[request.how]
    return shows(source, request.subject) & (size >= SMALLEST) & (size <= LARGEST)


def resize(request, source, reference, dice):
    """A fixed factor up or down; it stands where it stood."""
    column = request.subject + "_size"
    return source.with_(**{column: getattr(source, column) * FACTOR[request.how]})


# --- semantic and text

def can_relight(request, source, reference):
    """Seasons and times of day are seen by their colours: the style must have them."""
    return coloured(source)


def change_season(request, source, reference, dice):
    """Any other season than this one."""
    return source.with_(season=dice.category(len(SEASONS), source.season))


def change_time(request, source, reference, dice):
    """Any other time of day than this one."""
    return source.with_(time=dice.category(len(TIMES), source.time))


def can_restyle(request, source, reference):
    """Back to plain only where the drawing still tells what was there: its colours, and no writing."""
    return in_style(source, "plain") | (coloured(source) & ~shows(source, "sign"))


def restyle(request, source, reference, dice):
    """A plain picture takes any other style, every other one becomes plain."""
    return source.with_(style=torch.where(source.style == 0, dice.category(len(STYLES), source.style), 0))


def can_write(request, source, reference):
    """The sign is there, in a style in which it can be read."""
    return shows(source, "sign") & tellable(source, "sign")


def write(request, source, reference, dice):
    """New writing from the dice, on the sign as it is."""
    return source.with_(sign_text=dice.text(len(source)))


# --- combine: "the car of image 2 in image 1"

def can_combine_look(request, source, reference):
    """It is there in both images, and differs in what is telling of it, in styles that show it."""
    name = request.subject
    new = differs(getattr(source, TELLING[name]), getattr(reference, TELLING[name]))
    there = shows(source, name) & shows(reference, name)
    return there & tellable(source, name) & tellable(reference, name) & new


def combine_look(request, source, reference, dice):
    """The object keeps its place in image 1 and takes size, colours, direction, writing ... from image 2."""
    return source.with_(**{column: getattr(reference, column) for column in LOOKS[request.subject]})


def can_combine_add(request, source, reference):
    """It is there in image 2 alone, and both styles show what the words say of it."""
    name = request.subject
    return ~shows(source, name) & shows(reference, name) & tellable(source, name) & tellable(reference, name)


def combine_add(request, source, reference, dice):
    """The object comes to stand in image 1 just where it stands in image 2."""
    name = request.subject
    taken = (name, f"{name}_x", f"{name}_y", *LOOKS[name])
    return source.with_(**{column: getattr(reference, column) for column in taken})


def can_combine_colour(request, source, reference):
    """Both owners are there, in styles that have colours, and the two colours differ."""
    to_paint = shows(source, OWNER[request.subject]) & coloured(source)
    to_see = shows(reference, OWNER[request.other]) & coloured(reference)
    return to_paint & to_see & differs(getattr(source, request.subject), getattr(reference, request.other))


def combine_colour(request, source, reference, dice):
    """One thing in image 1 takes the colour of the same or another thing in image 2."""
    return source.with_(**{request.subject: getattr(reference, request.other)})


def can_combine_style(request, source, reference):
    """Image 1 is plain, image 2 is not."""
    return in_style(source, "plain") & ~in_style(reference, "plain")


def combine_style(request, source, reference, dice):
    """Image 1 is drawn as image 2 is."""
    return source.with_(style=reference.style)


# --- relational and ambiguous

def can_remove_related(request, source, reference):
    """The words fit this one object, and no other even nearly."""
    return stands_alone(source, request)


def can_recolour_related(request, source, reference):
    """The same, in a style that has colours."""
    return stands_alone(source, request) & coloured(source)


def recolour_related(request, source, reference, dice):
    """The words name the object by where it stands; what changes is as in `recolour`."""
    return recolour(Request("recolour", COLOR_OF[request.subject]), source, reference, dice)


def always(request, source, reference):
    """Whatever the scene: in none does anybody know the answer."""
    return torch.ones_like(source.season, dtype=torch.bool)


def no_truth(request, source, reference, dice):
    """Nobody can say what "make it better" asks for: a scene of NaN, which paints a picture of NaN."""
    empty = source.with_(**dict.fromkeys((*OBJECTS, "fence"), 0))
    lengths = [name for name, column in empty.columns().items() if column.is_floating_point()]
    return empty.with_(**dict.fromkeys(lengths, float("nan")))


VERBS = {
    "recolour": (can_recolour, recolour), "add": (can_add, add), "add fence": (can_add_fence, add_fence),
    "remove": (can_remove, remove), "replace": (can_replace, replace), "move": (can_move, move),
    "resize bigger": (can_resize, resize), "resize smaller": (can_resize, resize),
    "season": (can_relight, change_season), "time": (can_relight, change_time),
    "style": (can_restyle, restyle), "text": (can_write, write),
    "combine look": (can_combine_look, combine_look), "combine add": (can_combine_add, combine_add),
    "combine colour": (can_combine_colour, combine_colour),
    "combine style": (can_combine_style, combine_style),
    "relational remove": (can_remove_related, remove),
    "relational recolour": (can_recolour_related, recolour_related),
    "ambiguous": (always, no_truth),
}
CAN, DO = ({verb: pair[i] for verb, pair in VERBS.items()} for i in (0, 1))
