"""What a scene looks like, in words: captions with several phrasings, some of them kept out of training.

A caption names every object in the picture and its colour; size, place and the like only now and then.
Writing on the sign stands in double quotes.
"""

import random

from minidiff.toytown.glyphs import CHARACTERS
from minidiff.toytown.scene import COLORS, POSES, SEASONS, STYLES, TIMES, TREES, Scenes

PICTURES = {"plain": ("", "", "a picture of"), "sketch": ("a sketch of", "a pencil sketch of"),
            "blueprint": ("a blueprint of",), "pixel-art": ("a pixel-art picture of", "pixel-art of"),
            "watercolour": ("a watercolour of", "a watercolour painting of")}
MOMENTS = {"day": ("on {a_season} day", "by day in {season}"),
           "dusk": ("at dusk in {season}", "on {a_season} evening"),
           "night": ("at night in {season}", "on {a_season} night")}
SENTENCES = ("{picture} {things} {moment}", "{picture} {things}, {moment}", "{moment}, {picture} {things}")
HELD_OUT_SENTENCES = ("{scene} {moment} with {things}", "{things} in {scene} {moment}")

# Instructions (instructions.py) are built from these words too: one vocabulary, so that an editor can start
# from a caption model.
WORDS = """
a an the and of in on at by with to from into that says is are it there this but no not as for
picture scene image photo sketch pencil blueprint pixel-art watercolour painting plain drawing style normal
spring summer autumn winter day dusk night evening season daytime sunset
red orange yellow green blue purple white black color colour coloured painted
house tree person car sign fence pine round brick walls roof jacket board text writing words word letters
small large little big bigger smaller larger size standing waving walking someone wearing
left right middle center side behind front meadow empty nothing empty road object everything
add put place insert draw remove delete erase take away get rid make turn change paint recolour replace swap
move shift push resize shrink enlarge grow write let read should become set give out where what stands
one two first second 1 2 3 same use using its let's please now so than like
better nicer more interesting something fun it's up
""".split()
VOCABULARY = tuple(dict.fromkeys(WORDS))


def captions(scenes: Scenes, seed: int = 0, held_out: bool = False) -> list[str]:
    """One caption a scene, the same for the same scenes and seed.

    held_out: in phrasings that training never uses.
    """
    dice = random.Random(seed)
    return [_caption(row, dice, held_out) for row in scenes.rows()]


def written(text) -> str:
    """The characters of a sign: [3, 1, 2] -> "CAB", 0 stands for none."""
    return "".join(CHARACTERS[number - 1] for number in text if number)


def place(x: float) -> str:
    """Where an object with its middle at x stands, in words."""
    return "on the left" if x < 0.36 else "on the right" if x > 0.64 else "in the middle"


def _caption(s, dice, held_out):
    things = [describe(s, dice) for name, describe in DESCRIPTIONS.items() if s[name]]
    dice.shuffle(things)
    if len(things) > 1:
        things = [", ".join(things[:-1]), things[-1]]
    listed = " and ".join(things) or "an empty meadow"
    picture = dice.choice(PICTURES[STYLES[s["style"]]])
    season = SEASONS[s["season"]]
    moment = dice.choice(MOMENTS[TIMES[s["time"]]]).format(season=season, a_season=article(season))
    sentence = dice.choice(HELD_OUT_SENTENCES if held_out else SENTENCES)
    scene = picture.removesuffix(" of") or "a scene"
    return " ".join(sentence.format(picture=picture, scene=scene, things=listed, moment=moment).split())


def _house(s, dice):
    brick = "brick " if s["house_brick"] and dice.random() < 0.5 else ""
    roof = f" with {article(COLORS[s['roof_color']])} roof" if dice.random() < 0.6 else ""
    house = _sized(s, "house", f"{COLORS[s['house_color']]} {brick}house", dice)
    return house + roof + _placed(s, "house", dice)


def _tree(s, dice):
    name = dice.choice(("pine", "pine tree") if TREES[s["tree_kind"]] == "pine" else ("tree", "round tree"))
    return _sized(s, "tree", name, dice) + _placed(s, "tree", dice)


def _person(s, dice):
    pose = f" {POSES[s['person_pose']]}" if dice.random() < 0.4 else ""
    return f"a person in {article(COLORS[s['jacket_color']])} jacket{pose}" + _placed(s, "person", dice)


def _car(s, dice):
    return _sized(s, "car", f"{COLORS[s['car_color']]} car", dice) + _placed(s, "car", dice)


def _sign(s, dice):
    return f'a sign that says "{written(s["sign_text"])}"' + _placed(s, "sign", dice)


def _fence(s, dice):
    return "a fence"


DESCRIPTIONS = {"house": _house, "tree": _tree, "person": _person, "car": _car, "sign": _sign,
                "fence": _fence}


def _sized(s, name, words, dice):
    size = s[name + "_size"]
    word = "small " if size < 0.9 else "large " if size > 1.1 else ""
    return article((word if dice.random() < 0.4 else "") + words)


def _placed(s, name, dice):
    return f" {place(s[name + '_x'])}" if dice.random() < 0.5 else ""


def article(words: str) -> str:
    """The words with their indefinite article: "orange car" -> "an orange car"."""
    return ("an " if words[0] in "aeiou" else "a ") + words
