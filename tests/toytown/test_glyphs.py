"""The font of the signs: the right characters, all told apart, some known by heart, all legible on a sign."""

from importlib.resources import files

import pytest
import torch

from minidiff.toytown import paint, scenes
from minidiff.toytown.glyphs import CHARACTERS, CHINESE, LATIN, bitmaps, widths
from minidiff.toytown.scene import OBJECTS, TIMES

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


def apart(characters):
    """(N, N): how many dots differ between any two of the characters, themselves left out."""
    bits = torch.stack([dots(character) for character in characters]).flatten(1).int()
    return (bits[:, None] - bits).abs().sum(2) + 64 * torch.eye(len(bits), dtype=torch.int)


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
    assert apart(CHINESE).min() >= 4


@pytest.mark.parametrize("pair", ["0O", "1I", "5S", "8B", "2Z"])
def test_letters_and_digits_that_people_confuse_are_told_apart(pair):
    assert apart(pair).min() >= 5


def test_all_latin_glyphs_differ():
    assert apart(LATIN).min() >= 2


def test_the_font_file_names_its_sources_and_licences():
    header = files("minidiff.toytown").joinpath("glyphs.txt").read_text(encoding="utf-8").split("\nA ")[0]
    sources = ("misc-fixed 6x10", "Misaki Gothic 2nd, version 2021-05-05", "Num Kadoma")
    for words in (*sources, "Public domain", "free software", "WITHOUT WARRANTY"):
        assert words in header


# --- painted on a sign

@pytest.fixture(scope="module")
def signs():
    """One sign for each character, all at the same place by day; and where the writing starts, in pixels."""
    n = len(CHARACTERS)
    scene = scenes(1, seed=0).with_(season=1, time=0, style=0, fence=0, **dict.fromkeys(OBJECTS, 0))
    text = torch.zeros(n, 3, dtype=torch.long)
    text[:, 0] = torch.arange(1, n + 1)
    return scene[[0] * n].with_(sign=1, sign_x=32 / 64, sign_y=45 / 64, sign_text=text)


def writing(signs):
    """(n, 8, 8): how dark the first character's dots are in pictures of 64x64, by knowing their place."""
    gray = paint(signs).mean(1)
    left = [32 - (width - 1) // 2 for width in widths().tolist()]
    return torch.stack([-picture[30:38, x:x + 8] for picture, x in zip(gray, left, strict=True)])


def test_every_character_can_be_read_dot_by_dot_off_a_sign(signs):
    dark = writing(signs)
    read = dark > (dark.amax((1, 2), keepdim=True) + dark.amin((1, 2), keepdim=True)) / 2
    assert torch.equal(read, bitmaps())


@pytest.mark.parametrize("time", TIMES)
def test_every_character_on_a_noisy_sign_is_nearest_to_itself(signs, time):
    """In the region where any two signs differ, among all characters, with noise that hides single dots."""
    clean = paint(signs.with_(time=TIMES.index(time)))
    region = (clean != clean[:1]).any(1).any(0)
    clean = clean[:, :, region].flatten(1)
    contrast = clean.std(0).mean()
    noisy = clean + contrast * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(torch.cdist(noisy, clean).argmin(1), torch.arange(len(CHARACTERS)))


def test_several_characters_stand_side_by_side_in_the_middle_of_the_board():
    scene = scenes(1, seed=0).with_(season=1, time=0, style=0, fence=0, **dict.fromkeys(OBJECTS, 0))
    sign = scene.with_(sign=1, sign_x=32 / 64, sign_y=45 / 64)
    for text in ("A", "I7", "CAB", CHINESE[0], CHINESE[5] + CHINESE[9]):
        numbers = [CHARACTERS.index(character) + 1 for character in text] + [0] * (3 - len(text))
        board = paint(sign.with_(sign_text=numbers))[0].mean(0)[28:39, 21:43]
        ink = board < 0
        ink[[0, -1]], ink[:, [0, -1]] = False, False             # the frame
        line = torch.cat([dots(one)[:, :widths()[CHARACTERS.index(one)]] for one in text], 1)
        start = 11 - (line.shape[1] - 1) // 2
        expected = torch.zeros_like(ink)
        expected[2:10, start:start + line.shape[1]] = line
        assert torch.equal(ink, expected), text
