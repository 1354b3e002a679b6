"""The masks: polarity, shape, chance from the generator only, and about as much hole as they say."""

import pytest
import torch

from minidiff.control.masks import (
    MASKS,
    alternating_lines,
    box,
    change_mask,
    distance_to_segments,
    expand,
    half,
    super_resolve,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("height, width", [(64, 64), (16, 16), (33, 70), (96, 64)])
def test_every_mask_is_bool_and_leaves_something_to_keep_and_to_paint(name, height, width):
    for seed in range(10):
        edit_mask = MASKS[name](height, width, seeded(seed))
        assert edit_mask.shape == (1, 1, height, width) and edit_mask.dtype == torch.bool
        assert edit_mask.any() and not edit_mask.all()


@pytest.mark.parametrize("name", MASKS)
def test_a_seed_decides_the_mask(name):
    masks = [MASKS[name](64, 64, seeded(seed)) for seed in (1, 1, 2)]
    assert torch.equal(masks[0], masks[1])
    by_chance = name in ("wide", "narrow", "scribble", "box")
    assert torch.equal(masks[0], masks[2]) != by_chance


@pytest.mark.parametrize("name, low, high", [
    ("wide", 0.37, 0.47), ("narrow", 0.2, 0.3), ("scribble", 0.05, 0.11), ("box", 0.11, 0.17),
])
def test_the_mean_share_that_may_change(name, low, high):
    share = torch.stack([MASKS[name](64, 64, seeded(seed)).float().mean() for seed in range(40)]).mean()
    assert low < share < high


def test_six_masks_of_the_paper_and_two_more():
    names = "wide narrow super_resolve alternating_lines half expand scribble box"
    assert list(MASKS) == names.split()


def test_super_resolve_keeps_every_second_pixel_each_way():
    kept = ~super_resolve(6, 8)[0, 0]
    assert kept.nonzero().tolist() == [[y, x] for y in (0, 2, 4) for x in (0, 2, 4, 6)]


def test_alternating_lines_keep_every_second_row():
    assert alternating_lines(5, 4)[0, 0].all(1).tolist() == [False, True, False, True, False]
    assert alternating_lines(5, 4).sum() == 8


def test_half_may_change_on_the_right():
    assert half(3, 6)[0, 0, 0].tolist() == [False] * 3 + [True] * 3


def test_expand_keeps_the_centre_as_in_the_paper():
    kept = (~expand(256, 256)[0, 0]).nonzero()
    assert kept.amin(0).tolist() == [96, 96] and kept.amax(0).tolist() == [159, 159] and len(kept) == 64 * 64


def test_box_is_a_full_rectangle_inside_the_picture():
    for seed in range(50):
        edit_mask = box(40, 80, seeded(seed))[0, 0]
        rows, columns = edit_mask.any(1).sum().item(), edit_mask.any(0).sum().item()
        assert edit_mask.sum() == rows * columns and 10 <= rows <= 20 and 20 <= columns <= 40


def test_distance_to_a_segment():
    start, end = torch.tensor([[0.5, 0.5]]), torch.tensor([[0.5, 4.5]])
    distance = distance_to_segments(start, end, 4, 8)[0]
    assert torch.allclose(distance[:, 2], torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert torch.allclose(distance[0, 4:], torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert abs(distance[3, 7].item() - 18**0.5) < 1e-5


# What an edit has changed

def chessboard(size=12):
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return ((rows + columns) % 2 == 0)[None, None]


@pytest.mark.parametrize("sign", [1, -1])
def test_changed_is_what_differs_by_more_than_eight_levels_in_any_channel(sign):
    unedited = torch.randn(2, 3, 8, 12, generator=seeded()).clamp(-0.4, 0.4)
    edited = unedited.clone()
    edited[0, 2, 3, 8] += 8.5 * 2 / 255 * sign                  # in one channel
    edited[0, :, 4, 3] += 7.5 * 2 / 255 * sign                  # in all, by less
    edited[1, 0, 7, 0] += 0.5 * sign                            # in a corner
    mask = change_mask(edited, unedited)
    assert mask.dtype == torch.bool and mask.shape == (2, 1, 8, 12)
    assert mask.nonzero().tolist() == [[0, 0, 3, 8], [1, 0, 7, 0]]
    assert change_mask(edited, unedited, 0.3).nonzero().tolist() == [[1, 0, 7, 0]]
    assert change_mask(edited, unedited, 0).sum() == 3 and not change_mask(unedited, unedited, 0).any()


def test_gaps_are_closed_and_nothing_around_is_opened():
    """A box with a hole of a pixel is full; a chessboard is, too; two pixels far apart stay two."""
    unedited, changed = torch.zeros(3, 3, 12, 12), torch.zeros(3, 1, 12, 12, dtype=torch.bool)
    changed[0, :, 3:8, 4:9] = True
    changed[0, :, 5, 6] = False
    changed[1:2, :, 2:9, 2:9] = chessboard(7)
    changed[2, :, 4, 2] = changed[2, :, 4, 6] = True
    mask = change_mask(unedited + changed, unedited)
    assert mask[0].sum() == 25 and mask[0, 0, 3:8, 4:9].all()
    assert mask[1].sum() == 49 and mask[1, 0, 2:9, 2:9].all()
    assert torch.equal(mask[2], changed[2])
    assert torch.equal(change_mask(unedited + changed, unedited, gap=0), changed)
    changed[2, :, 1, 2] = True                                  # a pixel from the edge: a gap, too
    assert change_mask(unedited + changed, unedited)[2, 0, 0].nonzero().tolist() == [[2]]


@pytest.mark.parametrize("gap", [0, 1, 2, 3])
def test_gaps_of_up_to_twice_the_gap_are_closed(gap):
    """Two pixels of a row, from next to each other to 8 apart: all between them, or nothing."""
    for apart in range(9):
        unedited = torch.zeros(1, 3, 24, 24)
        edited = unedited.clone()
        edited[:, :, 12, [8, 9 + apart]] = 1.0
        found = change_mask(edited, unedited, gap=gap).nonzero()[:, 2:].tolist()
        between = range(8, 10 + apart) if apart <= 2 * gap else (8, 9 + apart)
        assert found == [[12, column] for column in between]


def test_what_is_nan_has_changed():
    edited = torch.zeros(1, 3, 8, 8)
    edited[0, 1, 4, 4] = torch.nan
    assert change_mask(edited, torch.zeros(1, 3, 8, 8)).nonzero().tolist() == [[0, 0, 4, 4]]


def test_pictures_that_cannot_be_compared_are_refused():
    x = torch.zeros(2, 3, 8, 8)
    told = r"pictures are .* and .*: \(B, 3, H, W\) twice expected, floating"
    for other in (x[:1], x[..., :4], x.byte()):
        with pytest.raises(ValueError, match=told):
            change_mask(x, other)
    for alike in (x[0], x[:, :1], x.byte()):
        with pytest.raises(ValueError, match=told):
            change_mask(alike, alike)
    for least in (-0.1, 2.1, float("nan")):
        with pytest.raises(ValueError, match=f"least = {least}: 0..2 expected"):
            change_mask(x, x, least)
