"""The signs' font: the right characters, all of them told apart, and some known by heart."""

from importlib.resources import files
from itertools import combinations

import pytest
import torch

from minidiff.toytown.glyphs import CHARACTERS, CHINESE, LATIN, bitmaps, widths

R = """
####.
#...#
#...#
####.
#.#..
#..#.
#...#"""
EARTH = """
...#...
...#...
.#####.
...#...
...#...
...#...
#######"""


def dots(character):
    return bitmaps()[CHARACTERS.index(character)]


def apart(first, second):
    return (dots(first) ^ dots(second)).sum().item()


def test_latin_is_all_capitals_and_digits_and_chinese_about_100_others():
    assert LATIN == "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    assert CHARACTERS == LATIN + CHINESE and len(set(CHARACTERS)) == len(CHARACTERS)
    assert 95 <= len(CHINESE) <= 110
    assert all("\u4e00" <= character <= "\u9fff" for character in CHINESE)


def test_every_chinese_character_is_of_simplified_writing():
    CHINESE.encode("gb2312")                                    # raises where mainland writing lacks one


@pytest.mark.parametrize("character, drawing", [("R", R), ("土", EARTH)])
def test_known_glyphs(character, drawing):
    rows = drawing.split()
    expected = torch.zeros(8, 8, dtype=torch.bool)
    for y, row in enumerate(rows):
        expected[y, : len(row)] = torch.tensor([dot == "#" for dot in row])
    assert torch.equal(dots(character), expected)


def test_ink_leaves_the_space_that_the_width_promises():
    assert bitmaps().shape == (len(CHARACTERS), 8, 8) and bitmaps().dtype == torch.bool
    assert widths().tolist() == [6] * len(LATIN) + [8] * len(CHINESE)
    columns = torch.arange(8)
    assert not (bitmaps().any(1) & (columns >= widths()[:, None] - 1)).any()
    assert bitmaps().flatten(1).any(1).all()


def test_no_two_chinese_characters_look_alike():
    assert min(apart(*pair) for pair in combinations(CHINESE, 2)) >= 4


@pytest.mark.parametrize("pair", ["0O", "1I", "5S", "8B", "2Z"])
def test_letters_and_digits_that_people_confuse_are_told_apart(pair):
    assert apart(*pair) >= 5


def test_all_latin_glyphs_differ():
    assert min(apart(*pair) for pair in combinations(LATIN, 2)) >= 2


def test_the_font_file_names_its_sources_and_licences():
    header = files("minidiff.toytown").joinpath("glyphs.txt").read_text(encoding="utf-8").split("\nA ")[0]
    sources = ("misc-fixed 6x10", "Misaki Gothic 2nd, version 2021-05-05", "Num Kadoma")
    for words in (*sources, "Public domain", "free software", "WITHOUT WARRANTY"):
        assert words in header
