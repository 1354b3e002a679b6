"""The painter: exact where it can be, the same at any size, in any batch; masks that know what hides what."""

import pytest
import torch
import torch.nn.functional as F

from minidiff import toytown
from minidiff.toytown.backdrop import paint_backdrop
from minidiff.toytown.paint import change, paint_layers, paint_pairs, paint_with_masks, visibility
from minidiff.toytown.scene import OBJECTS, SEASONS, STYLES, TIMES
from minidiff.toytown.shapes import Canvas


@pytest.fixture(scope="module")
def plain():
    return toytown.scenes(60, seed=1).with_(style=0)


@pytest.fixture(scope="module")
def every_style():
    return toytown.scenes(20, seed=2).with_(style=torch.arange(20) % len(STYLES))


@pytest.fixture
def meadow():
    """A summer's day with nothing on it."""
    return toytown.scenes(1, seed=0).with_(season=1, time=0, style=0, fence=0, **dict.fromkeys(OBJECTS, 0))


def with_only(scenes, name):
    return scenes.with_(**{other: 0 for other in OBJECTS if other != name})


@pytest.mark.parametrize("size", [32, 33, 64, 100, 400])
def test_pictures_have_the_size_asked_for_and_the_range_of_x0(every_style, size):
    pictures = toytown.paint(every_style[:5], size)
    assert pictures.shape == (5, 3, size, size) and pictures.dtype == torch.float32
    assert pictures.min() >= -1 and pictures.max() <= 1 and pictures.isfinite().all()
    assert (pictures.amax((2, 3)) - pictures.amin((2, 3))).min() > 0.1          # in every channel, something


def test_the_largest_size_shows_the_same_scene(meadow):
    scene = meadow.with_(car=1, car_x=0.5)
    picture = toytown.paint(scene, 2048)
    assert picture.shape == (1, 3, 2048, 2048)
    assert (F.avg_pool2d(picture, 32) - toytown.paint(scene, 64)).abs().mean() < 0.01


@pytest.mark.parametrize("size", [31, 2049, 0, -64])
@pytest.mark.parametrize("function", [toytown.paint, toytown.masks, toytown.depth, toytown.segmentation,
                                      toytown.pose])
def test_other_sizes_are_refused(function, size):
    with pytest.raises(ValueError, match=f"size is {size}: 32 to 2048 pixels expected"):
        function(toytown.scenes(1, seed=0), size)


@pytest.mark.parametrize("size", [48, 64, 96])
def test_a_batch_is_its_scenes_painted_one_by_one(every_style, size):
    pictures, masks = paint_with_masks(every_style, size)
    alone = [paint_with_masks(every_style[i], size) for i in range(len(every_style))]
    assert torch.equal(pictures, torch.cat([picture for picture, _ in alone]))
    assert torch.equal(masks, torch.cat([mask for _, mask in alone]))


def test_batches_larger_than_a_chunk_are_painted_whole():
    scenes = toytown.scenes(70, seed=3)
    pictures = toytown.paint(scenes, 96)                         # 56 a chunk
    assert len(pictures) == 70 and torch.equal(pictures[50:], toytown.paint(scenes[50:], 96))


def test_pairs_are_painted_as_each_alone(every_style):
    target = every_style.with_(time=2, car_color=0)
    source_picture, target_picture = paint_pairs(every_style, target)
    assert torch.equal(source_picture, toytown.paint(every_style))
    assert torch.equal(target_picture, toytown.paint(target))


def test_a_pair_that_differs_in_one_number_is_painted_as_each_alone():
    """What pairs share is painted once: so no number may be forgotten when that is decided."""
    source = toytown.scenes(1, seed=5).with_(style=0, time=0, season=1, fence=1, **dict.fromkeys(OBJECTS, 1))
    for name, column in source.columns().items():
        target = source.with_(**{name: column + 0.02 if column.is_floating_point() else column == 0})
        before, after = paint_pairs(source, target)
        assert torch.equal(before, toytown.paint(source)) and torch.equal(after, toytown.paint(target)), name
        assert not torch.equal(before, after) or name == "sign_size", name      # a sign's size is always 1


def test_edges_are_antialiased_a_larger_picture_averages_to_the_small_one(plain):
    twice = F.avg_pool2d(toytown.paint(plain, 128), 2)
    difference = (twice - toytown.paint(plain, 64)).abs()
    assert difference.mean() < 0.004                             # without antialiasing: 0.010
    assert (difference > 0.2).float().mean() < 0.001


def test_the_border_shows_more_of_the_same_world(plain):
    wide = toytown.paint(plain[:10], 64, border=(9, 3, 4, 12))
    assert wide.shape == (10, 3, 64 + 4 + 12, 64 + 9 + 3)
    assert torch.equal(wide[:, :, 4:-12, 9:-3], toytown.paint(plain[:10], 64))
    beyond = wide[:, :, 20:60, :9]
    assert beyond.std() > 0.1                                    # not one colour


def test_layers_painted_back_to_front_make_the_picture(plain):
    """The painter's formula needs no order; laying one object over the next, by their baselines, does."""
    canvas = Canvas.of_size(64)
    pictures = toytown.paint(plain)
    for i in range(20):
        scene = plain[i]
        picture, light = paint_backdrop(scene.shaped(), canvas)
        layers = paint_layers(scene, canvas, light)
        picture = picture[:, :3].double()
        for name in sorted(OBJECTS, key=lambda name: getattr(scene, name + "_y").item()):
            picture = picture * (1 - layers[name][:, 3:]) + layers[name][:, :3]
        assert (picture * 2 - 1 - pictures[i]).abs().max() < 1e-5


def test_masks_share_out_each_pixel(plain):
    masks = toytown.masks(plain)
    assert masks.shape == (60, 5, 64, 64) and masks.min() >= 0
    assert masks.sum(1).max() <= 1 + 1e-6
    for number, name in enumerate(OBJECTS):
        there = getattr(plain, name) == 1
        assert torch.equal(masks[:, number].amax((1, 2)) > 0.5, there), name
        assert masks[~there, number].max() == 0


def test_masks_where_nothing_overlaps_have_no_pixel_in_common(meadow):
    apart = meadow.with_(house=1, house_x=0.25, tree=1, tree_x=0.75, car=1, car_y=0.92, car_size=0.85)
    shown = toytown.masks(apart) > 0
    assert shown.sum(1).max() == 1 and (shown.flatten(2).any(2)).sum() == 3


@pytest.mark.parametrize("front, back", [("tree", "house"), ("sign", "person"), ("house", "tree")])
def test_what_stands_lower_hides_what_stands_higher(meadow, front, back):
    """mask of the one behind = its silhouette, times what the one in front leaves uncovered."""
    two = meadow.with_(**{front: 1, f"{front}_x": 0.5, f"{front}_y": 0.75, f"{front}_size": 1, back: 1,
                          f"{back}_x": 0.5, f"{back}_y": 0.65, f"{back}_size": 1, "sign_text": [5, 6, 7]})
    masks = dict(zip(OBJECTS, toytown.masks(two)[0], strict=True))
    alone = {name: toytown.masks(with_only(two, name))[0, OBJECTS.index(name)] for name in (front, back)}
    assert torch.equal(masks[front], alone[front])
    assert (masks[back] - alone[back] * (1 - alone[front])).abs().max() < 1e-6
    assert (alone[back] * alone[front]).max() > 0.99             # they do meet
    swapped = two.with_(**{f"{front}_y": 0.65, f"{back}_y": 0.75})
    masks = dict(zip(OBJECTS, toytown.masks(swapped)[0], strict=True))
    assert (masks[front] * masks[back]).max() < 0.26             # at a shared edge, at most a quarter
    assert masks[back].sum() > 0.98 * alone[back].sum()


@pytest.mark.parametrize("name", OBJECTS)
def test_removing_an_object_changes_its_mask_and_nothing_else(plain, name):
    scenes = plain[getattr(plain, name) == 1]
    mask = toytown.masks(scenes)[:, OBJECTS.index(name)]
    difference = (toytown.paint(scenes) - toytown.paint(scenes.with_(**{name: 0}))).abs().amax(1)
    assert len(scenes) > 20
    assert difference[mask == 0].max() == 0
    assert (difference[mask > 0.5] > 0.02).float().mean() > 0.99


@pytest.mark.parametrize("column, name", [("house_color", "house"), ("roof_color", "house"),
                                          ("jacket_color", "person"), ("car_color", "car")])
def test_recolouring_stays_inside_the_mask(plain, column, name):
    scenes = plain[getattr(plain, name) == 1]
    mask = toytown.masks(scenes)[:, OBJECTS.index(name)]
    other = scenes.with_(**{column: (getattr(scenes, column) + 1) % 8})
    changed = change(toytown.paint(scenes), toytown.paint(other))[:, 0]
    assert not changed[mask == 0].any()
    assert (changed.sum((1, 2)) > 8).all()


def test_visibility_is_the_shown_share_of_the_silhouette(meadow):
    two = meadow.with_(house=1, house_x=0.5, house_y=0.66, house_size=1,
                       tree=1, tree_x=0.5, tree_y=0.72, tree_size=1)
    shares = dict(zip(OBJECTS, visibility(two, 64)[0].tolist(), strict=True))
    alone = toytown.masks(with_only(two, "house"))[0, 0].sum()
    assert shares["house"] == pytest.approx((toytown.masks(two)[0, 0].sum() / alone).item(), abs=0.01)
    assert shares["house"] < 0.8
    assert all(shares[name] == 1 for name in OBJECTS if name != "house")


@pytest.mark.parametrize("column, names", [("season", SEASONS), ("time", TIMES), ("style", STYLES)])
def test_seasons_times_and_styles_all_look_different(plain, column, names):
    each = [toytown.paint(plain[:8].with_(**{column: number})) for number in range(len(names))]
    for i in range(len(names)):
        for j in range(i):
            assert ((each[i] - each[j]).abs().mean((1, 2, 3)) > 0.03).all(), (i, j)


def test_night_is_dark_but_its_windows_shine(meadow):
    """A house on the meadow: by night everything but its panes is darker."""
    house = meadow.with_(house=1, house_x=0.5, house_y=0.66, house_size=1, house_color=0, house_brick=0)
    day, night = toytown.paint(house, 128), toytown.paint(house.with_(time=TIMES.index("night")), 128)
    y, x = round((0.66 - 0.125) * 128), round((0.5 + 0.092) * 128)
    assert night.mean() < day.mean() - 0.3
    assert night[0, 0, y, x] > day[0, 0, y, x]                   # the pane's red
    assert night[0, 0, y, x - 8] < day[0, 0, y, x - 8]           # the wall's, beside it


def test_a_style_looks_the_same_at_any_size():
    scenes = toytown.scenes(5, seed=4).with_(style=torch.arange(5))
    small, large = toytown.paint(scenes, 64), F.avg_pool2d(toytown.paint(scenes, 256), 4)
    assert ((small - large).abs().mean((1, 2, 3)) < 0.15).all()
    across = (small[:, None] - large[None]).abs().mean((2, 3, 4))
    assert torch.equal(across.argmin(0), torch.arange(5))


def test_boxes_have_their_exact_area_wherever_they_lie():
    canvas = Canvas.of_size(16)
    for left, right, top, bottom in ((0.1, 0.9, 0.2, 0.3), (0.33, 0.34, 0.5, 0.77), (0.0, 1.0, 0.0, 1.0)):
        area = canvas.box(left, right, top, bottom).sum().item() / 16**2
        assert area == pytest.approx((right - left) * (bottom - top), abs=1e-6)


def test_round_and_slanted_shapes_have_nearly_their_area():
    canvas = Canvas.of_size(128)
    known = [
        (canvas.circle(0.47, 0.52, 0.2), torch.pi * 0.2**2),
        (canvas.ellipse(0.5, 0.4, 0.3, 0.1), torch.pi * 0.3 * 0.1),
        (canvas.wedge(0.5, 0.2, 0.8, 0.1, 0.3), 0.4 * 0.6),
        (canvas.stroke(0.2, 0.3, 0.6, 0.6, 0.05), 0.5 * 0.1 + torch.pi * 0.05**2),
        (canvas.rounded(0.2, 0.7, 0.3, 0.6, 0.1), 0.5 * 0.3 - (4 - torch.pi) * 0.1**2),
        (canvas.stripes_x(0.125, 0.05).expand(1, 1, 128, 128), 0.4),
        (canvas.stripes_diagonal(0.125, 0.05), 0.4),
    ]
    for cover, area in known:
        assert cover.mean().item() == pytest.approx(area, rel=0.02)
