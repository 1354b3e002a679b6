"""What captions name, against the scenes that they were made from; how much of it is found, by counting."""

import random

import pytest
import torch

from minidiff.toytown import captions, paint, scenes
from minidiff.toytown.named import (
    ATTRIBUTES,
    COLORED,
    OWNER,
    THINGS,
    THINGS_AND_COLORS,
    UNKNOWN,
    absent_and_invented,
    named,
    named_and_found,
    truth,
)
from minidiff.toytown.scene import COLORS, STYLES
from minidiff.toytown.splits import load_split


def words(table, i=0):
    """One row of a table in words, without what is unknown and the things that are absent."""
    row = {name: values[i].item() for name, values in table.items()}
    return {name: ATTRIBUTES[name][value] for name, value in row.items() if value >= (name in THINGS)}


# What captions name

@pytest.mark.parametrize("caption, expected", [
    ('a small red brick house with a yellow roof and a sign that says "A1", at dusk in winter',
     dict(house="present", sign="present", house_color="red", roof_color="yellow", season="winter",
          time="dusk", style="plain")),
    ("a large pine on the left, a fence and a person in an orange jacket waving on an autumn evening",
     dict(tree="present", tree_kind="pine", fence="present", person="present", jacket_color="orange",
          season="autumn", time="dusk", style="plain")),
    ("by day in spring, a watercolour painting of a round tree and a large black car",
     dict(tree="present", tree_kind="round", car="present", car_color="black", season="spring", time="day",
          style="watercolour")),
    ("a tree in a pixel-art picture on a summer night",
     dict(tree="present", season="summer", time="night", style="pixel-art")),
    ("a blueprint of a red house and a blue car on a spring day",
     dict(house="present", car="present", season="spring", time="day", style="blueprint")),
    ('a sign that says "red car at night"', dict(sign="present", style="plain")),
    ("", dict(style="plain"))])
def test_captions_with_known_answers(caption, expected):
    assert words(named([caption])) == expected


@pytest.mark.parametrize("held_out", [False, True])
def test_what_is_named_is_there(held_out):
    drawn = scenes(300, seed=5, held_out=True)
    said = captions(drawn, seed=6, held_out=held_out)
    asked, seen = named(said), truth(drawn)
    for attribute in ATTRIBUTES:
        known = asked[attribute] != UNKNOWN
        assert torch.equal(asked[attribute][known], seen[attribute][known]), attribute
        if attribute not in ("tree_kind", "roof_color"):                # these two are named now and then
            assert torch.equal(asked[attribute], seen[attribute]), attribute
    plain = drawn.style != STYLES.index("blueprint")
    assert torch.equal(asked["roof_color"] >= 0, torch.tensor([" roof" in one for one in said]) & plain)
    kinds = [any(kind in one for kind in ("pine", "round tree")) for one in said]
    assert torch.equal(asked["tree_kind"] >= 0, torch.tensor(kinds))


def test_the_words_of_the_frozen_split_are_understood():
    test = load_split("test")
    asked, seen = named(list(test.captions)), truth(test.scenes)
    for attribute in (*THINGS, "house_color", "jacket_color", "car_color", "season", "time", "style"):
        assert torch.equal(asked[attribute], seen[attribute]), attribute


# The truth about scenes

@pytest.mark.parametrize("attribute", [*OWNER])
def test_what_is_unknown_cannot_be_seen_and_what_is_known_can(attribute):
    """The same scenes with another value: their pictures differ just where the truth is known."""
    drawn = scenes(24, seed=8).with_(style=0, person_y=0.7, car_y=0.9)
    drawn = drawn[(drawn.house_y < 0.69) | (drawn.house == 0)]
    other = (getattr(drawn, attribute) + 1) % len(ATTRIBUTES[attribute])
    differs = (paint(drawn) != paint(drawn.with_(**{attribute: other}))).flatten(1).any(1)
    assert torch.equal(differs, truth(drawn)[attribute] != UNKNOWN) and differs.any() and not differs.all()


def test_a_blueprint_does_not_tell_red_from_green():
    """The flat body of a large car: they differ by less than a 255th; in a plain picture by more than 100."""
    drawn = scenes(1, seed=0).with_(car=1, time=0, car_x=0.5, car_y=0.9, car_size=1)
    apart = {}
    for style in ("plain", "blueprint"):
        red, green = (paint(drawn.with_(style=STYLES.index(style), car_color=COLORS.index(color)), 256)
                      for color in ("red", "green"))
        apart[style] = 127.5 * (red - green).abs()[0, :, 213, 126:130].max()
        assert (truth(drawn.with_(style=STYLES.index(style)))["car_color"] >= 0) == (style == "plain")
    assert apart["blueprint"] < 1 and apart["plain"] > 100


def test_the_truth_leaves_the_scenes_as_they_are():
    drawn = scenes(20, seed=1)
    before = drawn.rows()
    truth(drawn)
    assert drawn.rows() == before


# Counting

def random_tables(n=40, seed=0):
    """What is named, with unknown values; what is read, mostly the same."""
    dice = random.Random(seed)
    many = {name: len(values) for name, values in ATTRIBUTES.items()}
    asked = {name: [dice.randrange(many[name]) for _ in range(n)] for name in many}
    read = {name: [value if dice.random() < 0.6 else dice.randrange(many[name]) for value in asked[name]]
            for name in many}
    for name in (*OWNER, "season"):
        asked[name] = [UNKNOWN if dice.random() < 0.4 else value for value in asked[name]]
    return asked, read


def tensors(table):
    return {name: torch.tensor(column) for name, column in table.items()}


@pytest.mark.parametrize("among", [THINGS_AND_COLORS, ("season", "time", "style"), COLORED, ("tree_kind",)])
def test_counting_by_hand(among):
    asked, read = random_tables()
    for i in range(40):
        of = found = 0
        for name in among:
            if name in THINGS:
                of += asked[name][i] == 1
                found += asked[name][i] == 1 == read[name][i]
            elif asked[name][i] != UNKNOWN:
                of += 1
                found += asked[name][i] == read[name][i] and (name not in OWNER or read[OWNER[name]][i] == 1)
        counts = named_and_found(tensors(asked), tensors(read), among)
        assert [count[i].item() for count in counts] == [of, found]


def test_what_was_left_out_by_hand():
    asked, read = random_tables(seed=1)
    absent, invented = absent_and_invented(tensors(asked), tensors(read))
    for i in range(40):
        left_out = [thing for thing in THINGS if asked[thing][i] == 0]
        assert absent[i] == len(left_out) and invented[i] == sum(read[thing][i] for thing in left_out)


def test_readers_with_known_answers():
    drawn = scenes(50, seed=2)
    asked, seen = named(captions(drawn)), truth(drawn)
    of, found = named_and_found(asked, seen)
    assert torch.equal(of, found) and of.sum() > 100
    assert absent_and_invented(asked, seen)[1].sum() == 0
    nothing = {**seen, **dict.fromkeys(THINGS, torch.zeros(50, dtype=torch.long))}
    assert named_and_found(asked, nothing)[1].sum() == 0        # a colour without its thing is not found
    everything = {**seen, **dict.fromkeys(THINGS, torch.ones(50, dtype=torch.long))}
    assert torch.equal(named_and_found(asked, everything)[1], of)
    absent, invented = absent_and_invented(asked, everything)
    assert torch.equal(absent, invented) and absent.sum() > 50


def test_bad_input_is_refused():
    asked = named(["a red car", "a house"])
    with pytest.raises(ValueError, match="captions is one string, 'a red car': a list of strings expected"):
        named("a red car")
    with pytest.raises(ValueError, match="among has hat: some of house, .* expected"):
        named_and_found(asked, asked, ("house", "hat"))
    for count in (named_and_found, absent_and_invented):
        with pytest.raises(ValueError, match="2 captions are named, 1 pictures read: as many expected"):
            count(asked, named(["a red car"]))
