"""The edit grammar in words: every phrasing of every request, and how its gaps are filled.

    appearance    recolour, add, remove, replace, move, resize    local: something changes, the rest must stay
    semantic      season, time, style                             global: everything changes, and stays itself
    text          text                                            the writing on the sign
    multi-image   combine look, add, colour, style                something of image 2 comes into image 1
    relational    relational remove, recolour                     the thing is named by where it stands
    ambiguous     ambiguous                                       no truth exists

Each verb has phrasings for training and phrasings held out of it, which use no new words, only a new
order. Gaps:

    {the} the thing named ("the roof"), {thing} a new one ("a red car"), {its} that of image 2 ("the car"),
    {what} one named by where it stands ("what is left of the house"), {where} ("on the left"),
    {side} ("left"), {color}, {season}, {time}, {style} ("a sketch"), {text} the new writing,
    {old} the old writing, or the old time of day
"""

import random

from minidiff.toytown.language import article, written
from minidiff.toytown.requests import COLOR_OF, Request
from minidiff.toytown.scene import COLORS, SEASONS, STYLES, TIMES, TREES

# verb: (phrasings of training, phrasings held out)
PHRASINGS = {
    "recolour": (
        ("make {the} {color}", "paint {the} {color}", "turn {the} {color}",
         "recolour {the} in {color}", "change the colour of {the} to {color}",
         "give {the} the colour {color}"),
        ("{the} should become {color}", "let's paint {the} in {color}")),
    "add": (
        ("add {thing} {where}", "put {thing} {where}", "place {thing} {where}",
         "{where}, add {thing}", "insert {thing} {where} of the picture", "draw {thing} {where}"),
        ("{where}, put {thing}", "please add {thing} {where} of the picture")),
    "add fence": (
        ("add a fence", "put a fence in the picture", "draw a fence"),
        ("please put a fence into the picture",)),
    "remove": (
        ("remove {the}", "delete {the}", "erase {the}", "take away {the}", "get rid of {the}",
         "please remove {the} from the picture"),
        ("take {the} away", "please get rid of {the}")),
    "replace": (
        ("replace {the} with {thing}", "replace {the} by {thing}", "swap {the} for {thing}",
         "turn {the} into {thing}", "put {thing} where {the} is"),
        ("change {the} into {thing}", "swap {the} with {thing}")),
    "move": (
        ("move {the} to the {side}", "shift {the} to the {side}", "push {the} to the {side}",
         "put {the} {where}"),
        ("{the} should move to the {side}", "place {the} {where}")),
    "resize bigger": (
        ("make {the} bigger", "make {the} larger", "enlarge {the}", "let {the} grow",
         "give {the} a larger size"),
        ("{the} should become bigger", "let {the} become larger")),
    "resize smaller": (
        ("make {the} smaller", "shrink {the}", "let {the} shrink", "give {the} a smaller size"),
        ("{the} should become smaller", "let {the} become smaller")),
    "season": (
        ("make it {season}", "turn it into {season}", "change the season to {season}",
         "it's {season} now", "it should become {season}", "let it become {season}"),
        ("now it's {season}", "set the season to {season}")),
    "time": (
        ("make it {time}", "change it to {time}", "let's make it {time}", "it's {time} now",
         "turn {old} into {time}", "let it become {time}"),
        ("now let it become {time}", "turn it into {time}")),
    "style": (
        ("draw it as {style}", "make it {style}", "turn the picture into {style}",
         "change it into {style}"),
        ("let it become {style}", "the picture should become {style}")),
    "text": (
        ('write "{text}" on the sign', 'change the text to "{text}"',
         'change the writing on the sign to "{text}"', 'the sign should read "{text}"',
         'replace "{old}" with "{text}"', 'set the text on the board to "{text}"'),
        ('write "{text}" on the board', 'let the sign read "{text}"', 'change "{old}" to "{text}"')),
    "combine look": (
        ("replace {the} by {its} of image 2", "use {its} of image 2",
         "put {its} of image 2 in place of {the}", "swap {the} for {its} of image 2"),
        ("turn {the} into {its} of image 2", "let {the} become {its} of image 2")),
    "combine add": (
        ("add {its} of image 2 to image 1", "put {its} of image 2 in image 1",
         "{its} of image 2 in image 1"),
        ("insert {its} of image 2 into image 1", "add {its} from image 2")),
    "combine colour": (
        ("paint {the} in the colour of {its} of image 2",
         "give {the} the colour of {its} of image 2",
         "change the colour of {the} to the colour of {its} of image 2"),
        ("recolour {the} in the colour of {its} of image 2",
         "make {the} the colour of {its} of image 2")),
    "combine style": (
        ("use the style of image 2", "draw image 1 in the style of image 2", "the style of image 2",
         "give image 1 the style of image 2", "change the style to the style of image 2"),
        ("turn it into the style of image 2", "make it in the style of image 2")),
    "relational remove": (
        ("remove {what}", "delete {what}", "take away {what}", "get rid of {what}"),
        ("erase {what}", "please remove {what}")),
    "relational recolour": (
        ("make {what} {color}", "paint {what} {color}", "recolour {what} in {color}"),
        ("turn {what} {color}", "change the colour of {what} to {color}")),
    "ambiguous": (
        ("make it better", "make it nicer", "make it more interesting", "change something",
         "add something", "make the picture more fun"),
        ("let's make it nicer", "make something better")),
}

NAMES = {"house_color": ("the house",), "car_color": ("the car",),
         "roof_color": ("the roof", "the roof of the house"),
         "jacket_color": ("the jacket", "the jacket of the person")}
WHERE = {"left": "on the left", "middle": "in the middle", "right": "on the right"}
RELATED = {"left of": ("left of", "to the left of"), "right of": ("right of", "to the right of"),
           "behind": ("behind",), "in front of": ("in front of",)}
TIME_NAMES = {"day": ("day", "daytime"), "dusk": ("dusk", "evening"), "night": ("night",)}
STYLE_NAMES = {"plain": ("a plain picture", "a normal picture"), "sketch": ("a sketch", "a pencil sketch"),
               "blueprint": ("a blueprint",), "pixel-art": ("pixel-art", "a pixel-art picture"),
               "watercolour": ("a watercolour", "a watercolour painting")}


def instruction(request: Request, before: dict, after: dict, dice: random.Random, held_out=False) -> str:
    """The request in words, in a phrasing drawn with the dice.

    before, after: the scene before and after, column -> value.  held_out: as training never words it.
    """
    phrasing = dice.choice(PHRASINGS[request.verb][int(held_out)])
    return phrasing.format_map(_Gaps(request, before, after, dice))


def describe(name: str, scene: dict) -> str:
    """A new object in the words that determine it: "a green house with a red roof"."""
    if name == "sign":
        return f'a sign that says "{written(scene["sign_text"])}"'
    if name == "tree":
        return {"round": "a round tree", "pine": "a pine"}[TREES[scene["tree_kind"]]]
    color = article(COLORS[scene[COLOR_OF[name]]])
    if name == "person":
        return f"a person in {color} jacket"
    roof = f" with {article(COLORS[scene['roof_color']])} roof" if name == "house" else ""
    return f"{color} {name}{roof}"


class _Gaps(dict):
    """What stands in each gap, looked up when a phrasing asks for it."""

    def __init__(self, request, before, after, dice):
        self.request, self.before, self.after, self.dice = request, before, after, dice

    def __missing__(self, gap):
        return getattr(self, "_" + gap)()

    def _the(self):
        return self._named(self.request.subject)

    def _its(self):
        return self._named(self.request.other or self.request.subject)

    def _named(self, subject):
        return self.dice.choice(NAMES.get(subject, (f"the {subject}",)))

    def _thing(self):
        return describe(self.request.other or self.request.subject, self.after)

    def _where(self):
        return WHERE[self.request.how]

    def _side(self):
        return self.request.how

    def _what(self):
        start = self.dice.choice(("what is", "what stands", "the object"))
        return f"{start} {self.dice.choice(RELATED[self.request.how])} the {self.request.other}"

    def _color(self):
        return COLORS[self.after[COLOR_OF.get(self.request.subject, self.request.subject)]]

    def _season(self):
        return SEASONS[self.after["season"]]

    def _time(self):
        return self.dice.choice(TIME_NAMES[TIMES[self.after["time"]]])

    def _style(self):
        return self.dice.choice(STYLE_NAMES[STYLES[self.after["style"]]])

    def _text(self):
        return written(self.after["sign_text"])

    def _old(self):
        if self.request.verb == "text":
            return written(self.before["sign_text"])
        return TIMES[self.before["time"]]
