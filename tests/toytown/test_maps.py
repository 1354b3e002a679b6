"""Depth, segmentation and pose: they agree with the masks, what hides what, a meadow known by heart."""

import pytest
import torch

from minidiff import toytown
from minidiff.toytown.backdrop import HILLS, ROAD_BOTTOM, ROAD_TOP
from minidiff.toytown.maps import BONES, CLASS_COLORS, CLASSES, JOINTS, segmentation_picture
from minidiff.toytown.scene import OBJECTS, POSES

MAPS = [toytown.depth, toytown.segmentation, toytown.pose]
FIRST = CLASSES.index("house")


@pytest.fixture(scope="module")
def scenes():
    return toytown.scenes(60, seed=21).with_(style=0)


@pytest.fixture
def meadow():
    """A meadow whose horizon lies in the middle, with nothing on it."""
    empty = dict.fromkeys((*OBJECTS, "fence"), 0)
    return toytown.scenes(1, seed=0).with_(horizon=0.5, hill_height=0.05, **empty)


@pytest.mark.parametrize("function", MAPS)
def test_maps_do_not_see_style_time_and_season_but_for_snow_and_lit_headlights(scenes, function):
    base = scenes.with_(time=0, season=1)
    for same in ({"style": 1}, {"time": 1}, {"season": 0}, {"season": 2}):
        assert torch.equal(function(base), function(base.with_(**same))), same
    for nearly, names in (({"time": 2}, ["car"]), ({"season": 3}, ["house", "tree"])):
        other = base.with_(**nearly)
        differs = (function(base) != function(other)).any(1)
        assert differs.sum((1, 2)).max() <= 16                  # of 4096 pixels
        grown = torch.tensor([CLASSES.index(name) for name in names])
        assert torch.isin(toytown.segmentation(other)[:, 0][differs], grown).all()


@pytest.mark.parametrize("function", MAPS)
def test_a_batch_is_its_scenes_one_by_one_and_a_border_shows_more(scenes, function):
    whole = function(scenes[:8])
    assert torch.equal(whole, torch.cat([function(scenes[i]) for i in range(8)]))
    wide = function(scenes[:8], 64, (8, 4, 2, 6))
    assert wide.shape[2:] == (72, 76)
    assert torch.equal(wide[:, :, 2:-6, 8:-4], whole)


def test_classes_are_what_the_masks_say(scenes):
    """An object's class stands where it shows more than the ground and more than each other object."""
    masks, classes = toytown.masks(scenes), toytown.segmentation(scenes)
    ground = 1 - masks.sum(1, keepdim=True)
    most = torch.cat([ground, masks], 1).argmax(1, keepdim=True)
    clear = torch.cat([ground, masks], 1).topk(2, 1).values.diff(dim=1).abs() > 1e-5
    expected = torch.where(most > 0, most + FIRST - 1, -1)
    found = torch.where(classes >= FIRST, classes, -1)
    assert classes.shape == (60, 1, 64, 64) and classes.dtype == torch.int64
    assert torch.equal(found[clear], expected[clear]) and clear.float().mean() > 0.999
    assert classes.unique().tolist() == list(range(len(CLASSES)))


def test_the_classes_of_an_empty_meadow(meadow):
    column = [CLASSES[number] for number in toytown.segmentation(meadow)[0, 0, :, 20].tolist()]
    order = [name for name, before in zip(column, [None, *column], strict=False) if name != before]
    assert order in (["sky", "far hills", "near hills", "meadow", "road", "meadow"],
                     ["sky", "near hills", "meadow", "road", "meadow"],
                     ["sky", "far hills", "meadow", "road", "meadow"])
    assert column.count("road") == pytest.approx(64 * (ROAD_BOTTOM - ROAD_TOP), abs=3)
    assert column.index("meadow") == 32
    fenced = toytown.segmentation(meadow.with_(fence=1))[0, 0]
    assert (fenced == CLASSES.index("fence")).any(0).all()       # its rails run from side to side


def test_the_near_hills_are_the_near_ones(meadow):
    """By day the near range has the season's colour, the far one is paler."""
    hills = meadow.with_(season=1, time=0, style=0, hill_height=0.14)
    picture, classes = toytown.paint(hills, 256)[0], toytown.segmentation(hills, 256)[0, 0]
    away = (picture - (HILLS[1] * 2 - 1).view(3, 1, 1)).abs().amax(0)
    assert away[classes == CLASSES.index("near hills")].median() < 1e-6
    assert away[classes == CLASSES.index("far hills")].median() > 0.2


def test_every_class_has_a_colour_of_its_own():
    segments = torch.arange(len(CLASSES)).view(1, 1, 1, -1)
    picture = segmentation_picture(segments)
    assert picture.shape == (1, 3, 1, len(CLASSES)) and picture.abs().max() <= 1
    assert torch.equal(picture[0, :, 0].mT, CLASS_COLORS * 2 - 1)
    assert len(CLASS_COLORS.unique(dim=0)) == len(CLASSES)


def test_depth_of_an_empty_meadow(meadow):
    near = toytown.depth(meadow, 256)[0, 0]
    assert (near[:60] == 0).all()                                # sky
    y = (torch.arange(128, 256) + 0.5) / 256
    assert (near[128:] - (0.1 + 0.9 * (y[:, None] - 0.5) / 0.5)).abs().max() < 1e-6
    assert (near.diff(dim=0) >= 0).all()                         # nearer and nearer, top to bottom


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_upright_and_as_near_as_its_baseline(scenes, name):
    near, classes = toytown.depth(scenes), toytown.segmentation(scenes)
    for i in (getattr(scenes, name) == 1).nonzero().flatten().tolist()[:10]:
        y, horizon = getattr(scenes, name + "_y")[i].item(), scenes.horizon[i].item()
        values = near[i][classes[i] == CLASSES.index(name)]
        assert values.numel() > 0
        assert (values - (0.1 + 0.9 * (y - horizon) / (1 - horizon))).abs().max() < 1e-5


@pytest.mark.parametrize("name", OBJECTS)
def test_what_hides_is_nearer_than_what_it_hides(scenes, name):
    """Taking an object away brings nothing nearer, but for the ground in front of its very feet."""
    there = scenes[getattr(scenes, name) == 1]
    before, after = toytown.depth(there), toytown.depth(there.with_(**{name: 0}))
    assert (after - before).max() < 0.03
    assert (before - after).amax((1, 2, 3)).min() > 0.02


def test_two_objects_are_as_deep_as_they_hide_one_another(meadow):
    two = meadow.with_(house=1, house_x=0.5, house_y=0.66, tree=1, tree_x=0.5, tree_y=0.72, tree_size=1)
    trunk = round((0.72 - 0.05) * 64), 32                       # the tree's trunk, before the house's door
    in_front, behind = toytown.depth(two), toytown.depth(two.with_(tree_y=0.655, house_y=0.72))
    assert toytown.segmentation(two)[0, 0][trunk] == CLASSES.index("tree")
    assert in_front[0, 0][trunk].item() == pytest.approx(0.1 + 0.9 * 0.22 / 0.5, abs=1e-5)
    assert behind[0, 0][trunk].item() == pytest.approx(0.1 + 0.9 * 0.22 / 0.5, abs=1e-5)
    assert toytown.segmentation(two.with_(tree_y=0.655, house_y=0.72))[0, 0][trunk] == CLASSES.index("house")


def test_joints_lie_on_the_person(scenes):
    """Where the person stands alone, each joint is a point of its silhouette."""
    alone = scenes.with_(**dict.fromkeys((name for name in OBJECTS if name != "person"), 0))
    alone = alone[alone.person == 1]
    points, mask = toytown.skeleton(alone), toytown.masks(alone, 128)[:, OBJECTS.index("person")]
    cells = (points * 128).long()
    assert points.shape == (len(alone), len(JOINTS), 2)
    for number, joint in enumerate(JOINTS):
        x, y = cells[:, number].unbind(1)
        inside = (x >= 0) & (x < 128)
        assert (mask[torch.arange(len(alone)), y, x.clamp(0, 127)][inside] > 0.9).all(), joint
        assert inside.float().mean() > 0.9


def test_poses_hold_their_hands_and_feet_as_their_names_say(scenes):
    person = scenes[scenes.person == 1].with_(person_size=1)
    at = {pose: toytown.skeleton(person.with_(person_pose=number)) for number, pose in enumerate(POSES)}
    joint = {name: JOINTS.index(name) for name in JOINTS}
    for pose, points in at.items():
        raised = points[:, joint["right_hand"], 1] < points[:, joint["head"], 1]
        apart = points[:, joint["right_foot"], 0] - points[:, joint["left_foot"], 0]
        assert raised.all() == (pose == "waving") and raised.any() == (pose == "waving")
        assert ((apart > 0.08) == (pose == "walking")).all()
        assert (points[:, joint["head"], 1] < points[:, joint["neck"], 1]).all()
        assert (points[:, joint["neck"], 1] < points[:, joint["hip"], 1]).all()


def test_nobody_has_no_skeleton_and_a_black_pose(scenes):
    nobody = scenes.with_(person=0)
    assert toytown.skeleton(nobody).isnan().all() and (toytown.pose(nobody) == -1).all()
    assert torch.equal(toytown.skeleton(scenes).isnan().flatten(1).all(1), scenes.person == 0)


def test_the_pose_map_draws_each_bone_between_its_joints_where_it_is_seen(scenes):
    person = scenes[scenes.person == 1][:12].with_(house=0, tree=0, sign=0, car=0)
    drawn, points = toytown.pose(person, 256), toytown.skeleton(person)
    for start, end in BONES:
        middle = points[:, [JOINTS.index(start), JOINTS.index(end)]].mean(1)
        x, y = (middle * 256).long().clamp(0, 255).unbind(1)
        assert (drawn[torch.arange(len(person)), :, y, x].amax(1) > 0).all(), (start, end)
    outside = toytown.masks(person, 256)[:, [OBJECTS.index("person")]] == 0
    assert (drawn.amax(1, keepdim=True)[outside] > -1).float().mean() < 0.0005


def test_what_stands_before_the_person_hides_the_pose(meadow):
    person = meadow.with_(person=1, person_x=0.5, person_y=0.80, person_size=1,
                          car_x=0.5, car_y=0.85, car_size=1)
    free, hidden = toytown.pose(person), toytown.pose(person.with_(car=1))
    cover = toytown.masks(person.with_(car=1))[0, OBJECTS.index("car")]
    assert (hidden[0, :, cover == 1] == -1).all() and (free[0, :, cover == 1] > -1).any()
    assert torch.equal(hidden[0, :, cover == 0], free[0, :, cover == 0])
