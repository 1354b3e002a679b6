"""Scenes: the same for the same seed, all visible, categories at their odds, held-out colours kept out."""

import pytest
import torch

from minidiff import toytown
from minidiff.toytown.glyphs import CHARACTERS, LATIN
from minidiff.toytown.scene import (
    COLORS,
    HELD_OUT,
    OBJECTS,
    PIXEL,
    POSES,
    SEASONS,
    STYLES,
    TIMES,
    TREES,
    Scenes,
    crowding,
    has_held_out,
)

SHOWN_ON = {"car_color": "car", "house_color": "house", "roof_color": "house", "jacket_color": "person"}


@pytest.fixture(scope="module")
def many():
    return toytown.scenes(6000, seed=1)


def wears_held_out(scenes):
    """bool (n,): column by column, written anew."""
    found = torch.zeros(len(scenes), dtype=torch.bool)
    for column, color in HELD_OUT.items():
        for row, value in enumerate(getattr(scenes, column).tolist()):
            found[row] |= COLORS[value] == color and getattr(scenes, SHOWN_ON[column])[row].item() == 1
    return found


def same(first, second):
    return all(torch.equal(getattr(first, name), column) for name, column in second.columns().items())


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    assert same(toytown.scenes(50, seed=7), toytown.scenes(50, seed=7))
    assert not torch.equal(toytown.scenes(50, seed=7).sun_x, toytown.scenes(50, seed=8).sun_x)


def test_drawing_scenes_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    toytown.scenes(5, seed=1)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("n", [0, -1])
def test_no_scenes_is_an_error(n):
    with pytest.raises(ValueError, match=f"n is {n}: at least 1 scene expected"):
        toytown.scenes(n, seed=0)


def test_of_every_object_about_a_third_is_seen():
    """From the masks: the object in its scene, over the same object with nothing else there."""
    scenes = toytown.scenes(200, seed=2).with_(style=0)
    shown = toytown.masks(scenes).sum((2, 3))
    for number, name in enumerate(OBJECTS):
        alone = scenes.with_(**{other: 0 for other in OBJECTS if other != name})
        there = getattr(scenes, name) == 1
        share = shown[there, number] / toytown.masks(alone)[there, number].sum((1, 2))
        assert there.sum() > 50
        assert share.min() > 0.3, name
        assert share.min() < 0.9 or name == "car", name         # nothing stands before the car


def test_training_scenes_never_wear_the_colours_held_out():
    for seed in range(20):
        assert not wears_held_out(toytown.scenes(200, seed)).any()


def test_other_scenes_do_and_has_held_out_says_which():
    scenes = toytown.scenes(600, seed=3, held_out=True)
    expected = wears_held_out(scenes)
    assert torch.equal(has_held_out(scenes), expected)
    assert 0.1 < expected.float().mean() < 0.6
    for column, color in HELD_OUT.items():
        assert (getattr(scenes, column) == COLORS.index(color)).any(), column


@pytest.mark.parametrize("column, odds", [
    ("season", [1 / 4] * 4), ("time", [0.5, 0.25, 0.25]), ("style", [0.6, 0.1, 0.1, 0.1, 0.1]),
    ("fence", [0.6, 0.4]), ("house_brick", [0.5, 0.5]), ("tree_kind", [0.6, 0.4]),
    ("person_pose", [1 / 3] * 3), ("car_direction", [0.5, 0.5]),
])
def test_categories_come_at_their_odds(many, column, odds):
    share = torch.bincount(getattr(many, column), minlength=len(odds)) / len(many)
    assert len(share) == len(odds)
    assert (share - torch.tensor(odds)).abs().max() < 0.035      # dropping crowded scenes shifts a little


@pytest.mark.parametrize("column", HELD_OUT)
def test_every_other_colour_comes_equally_often(many, column):
    share = torch.bincount(getattr(many, column), minlength=len(COLORS)) / len(many)
    expected = torch.tensor([0 if color == HELD_OUT[column] else 1 / 7 for color in COLORS])
    assert (share - expected).abs().max() < 0.02


def test_each_object_is_there_in_some_scenes_and_missing_in_others(many):
    for name in OBJECTS:
        assert 0.3 < getattr(many, name).float().mean() < 0.8, name
    nothing = sum(getattr(many, name) for name in OBJECTS) == 0
    assert nothing.any()


def test_numbers_of_categories_point_into_their_lists(many):
    lists = {"season": SEASONS, "time": TIMES, "style": STYLES, "tree_kind": TREES, "person_pose": POSES}
    for column, names in lists.items():
        assert getattr(many, column).unique().tolist() == list(range(len(names)))
        assert getattr(many, column).dtype == torch.int64


def test_writing_is_one_to_three_latin_or_one_or_two_chinese_characters(many):
    latin, chinese = set(), set()
    for row in many.sign_text.tolist():
        numbers = [number for number in row if number]
        assert row == numbers + [0] * (3 - len(numbers))         # no gaps
        text = "".join(CHARACTERS[number - 1] for number in numbers)
        is_latin = [character in LATIN for character in text]
        assert all(is_latin) or (not any(is_latin) and len(text) <= 2)
        (latin if is_latin[0] else chinese).add(len(text))
    assert latin == {1, 2, 3} and chinese == {1, 2}
    used = many.sign_text.unique().tolist()
    assert used == list(range(len(CHARACTERS) + 1))              # every character of the font is drawn


def test_signs_stand_on_the_grid_of_64ths_so_that_they_can_be_read(many):
    for column in (many.sign_x, many.sign_y):
        assert torch.equal((column / PIXEL).round() * PIXEL, column)
    assert (many.sign_size == 1).all()


def test_no_scene_is_crowded(many):
    assert 0.4 < crowding(many).max() < 0.6


def test_crowding_of_two_known_boxes():
    """A sign, 0.36 wide, in front of a house of the same width whose middle is a quarter of it away."""
    empty = toytown.scenes(1, seed=0).with_(**dict.fromkeys(OBJECTS, 0))
    two = empty.with_(house=1, house_x=0.5, house_y=0.70, house_size=1, sign=1, sign_x=0.59, sign_y=0.72)
    wide, high = 0.36 - 0.09, 0.70 - (0.72 - 0.28)
    assert crowding(two).item() == pytest.approx(wide * high / (0.36 * 0.42), abs=1e-5)
    assert crowding(two.with_(sign=0)).item() == 0
    behind = two.with_(sign_y=0.68)                              # now the house covers the sign
    assert crowding(behind).item() == pytest.approx(wide * 0.28 / (0.36 * 0.28), abs=1e-5)


def test_scenes_are_picked_by_number_slice_list_and_flags():
    scenes = toytown.scenes(6, seed=4)
    flags = torch.tensor([False, False, True, False, False, True])
    for index, rows in ((2, [2]), (-1, [5]), (slice(1, 3), [1, 2]), ([4, 0], [4, 0]), (flags, [2, 5])):
        expected = Scenes(**{name: column[rows] for name, column in scenes.columns().items()})
        assert same(scenes[index], expected)
    assert same(Scenes.cat([scenes[:2], scenes[2:]]), scenes)


def test_with_sets_only_what_it_names_and_leaves_the_original():
    scenes = toytown.scenes(5, seed=5)
    before = scenes.car_color.clone()
    changed = scenes.with_(car_color=3, sun_x=torch.linspace(0.2, 0.6, 5))
    assert changed.car_color.tolist() == [3] * 5
    assert changed.sun_x.tolist() == pytest.approx([0.2, 0.3, 0.4, 0.5, 0.6])
    assert same(changed.with_(car_color=before, sun_x=scenes.sun_x), scenes)       # all others as they were
    assert torch.equal(scenes.car_color, before)
    changed.car_color[0] = 0                                     # nor do they share memory
    assert torch.equal(scenes.car_color, before) and changed.car_color.tolist() == [0, 3, 3, 3, 3]


def test_rows_are_the_scenes_as_dictionaries():
    scenes = toytown.scenes(3, seed=6)
    rows = scenes.rows()
    assert [row["season"] for row in rows] == scenes.season.tolist()
    assert rows[1]["sign_text"] == scenes.sign_text[1].tolist()
    assert list(rows[0]) == list(scenes.columns())


def test_scenes_move_to_another_device():
    moved = toytown.scenes(2, seed=0).to("meta")
    assert {column.device.type for column in moved.columns().values()} == {"meta"}
