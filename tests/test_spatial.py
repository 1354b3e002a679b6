"""Control by maps: what a map looks like, and that it reaches the network in the same sampling as ever."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch

from minidiff import toytown
from minidiff.control import controls
from minidiff.control.free import free_generate
from minidiff.control.spatial import MAPS, map_generate, map_picture
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.edit import Edit
from minidiff.model import Model
from minidiff.process.flow import Flow
from minidiff.process.sample import sample
from minidiff.toytown.maps import CLASS_COLORS

EVERYWHERE = torch.ones(1, 1, 8, 8, dtype=torch.bool)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def blank(n=2, size=8):
    return torch.zeros(n, 3, size, size)


def a_map(n=2, size=8, seed=3):
    return torch.rand(n, 3, size, size, generator=seeded(seed)) * 2 - 1


# Maps

@pytest.fixture(scope="module")
def scenes():
    return toytown.scenes(6, seed=4).with_(person=1)


def test_depth_is_grey_from_black_sky_to_white_foreground(scenes):
    found, depth = map_picture("depth", scenes), toytown.depth(scenes)
    for channel in found.unbind(1):
        assert ((channel.double() + 1) / 2 - depth[:, 0].double()).abs().max() < 1e-6
    assert (found[:, :, 0] == -1).all() and (found[:, :, -1] > 0.9).all()


def test_segmentation_has_the_colour_of_its_class_in_every_pixel(scenes):
    found, classes = map_picture("segmentation", scenes), toytown.segmentation(scenes)
    for number, color in enumerate(CLASS_COLORS):
        there = found.movedim(1, 3)[classes[:, 0] == number]
        assert len(there) and ((there + 1) / 2 - color).abs().max() < 1e-6, number


def test_pose_is_the_stick_figure_on_black(scenes):
    found = map_picture("pose", scenes)
    assert torch.equal(found, toytown.pose(scenes))
    assert (found == -1).float().mean() > 0.9 and (found.amax((1, 2, 3)) > 0).all()
    assert (map_picture("pose", scenes.with_(person=0)) == -1).all()


@pytest.mark.parametrize("kind", MAPS)
def test_maps_are_pictures_of_any_size(kind, scenes):
    for size in (32, 64):
        found = map_picture(kind, scenes, size)
        assert found.shape == (6, 3, size, size) and found.dtype == torch.float32
        assert found.abs().max() <= 1


def test_other_maps_are_refused():
    assert list(MAPS) == ["depth", "segmentation", "pose"]
    with pytest.raises(ValueError, match='map "edges": one of depth, segmentation, pose expected'):
        map_picture("edges", toytown.scenes(1, 0))


# The editor

def asked_model(asked, denoise=lambda x_t, t: 0.5 * x_t):
    def denoiser(prompts, scale, extra):
        asked.append((prompts, scale, extra))
        return denoise

    return SimpleNamespace(process=Flow(), size=8, denoiser=denoiser)


def test_registered_editor_binds_prompt_and_map_for_each_picture():
    asked, editor = [], controls("generate")["map"]
    assert editor is map_generate and editor.weights == "town-control" and editor.kind == "denoiser"
    walk = partial(editor, asked_model(asked), blank(), EVERYWHERE, "a house", steps=4, scale=3.0)
    list(walk(generator=seeded(), map=a_map()))
    list(walk(generator=seeded(), map=a_map(1)))
    (prompts, scale, each), (_, _, shared) = asked
    assert (prompts, scale) == (["a house", "a house"], 3.0)
    assert torch.equal(each, a_map()) and torch.equal(shared, torch.cat([a_map(1), a_map(1)]))


def test_the_walk_is_that_of_plain_sampling():
    process, generator = Flow(), seeded(1)
    noise = torch.randn(2, 3, 8, 8, generator=generator)
    expected = list(sample(process, lambda x_t, t: 0.5 * x_t, noise, process.times(5), generator))
    options = dict(generator=seeded(1), map=a_map(), steps=5)
    found = list(map_generate(asked_model([]), blank(), EVERYWHERE, "", **options))
    assert len(found) == len(expected) == 5
    assert all(one.t == other.t and torch.equal(one.x, other.x) for one, other in zip(found, expected))


@pytest.fixture
def tiny_control(tiny_editor):
    """(the tiny model, the same with a new branch)"""
    base = tiny_editor.model
    return base, Model(base.process, ControlledUNet(base.unet), base.text, "cpu", base.data)


def drawn(editor, model, map=None, **options):
    options |= {} if map is None else {"map": map}
    states = editor(model, blank(2, 64), EVERYWHERE, "a red car", generator=seeded(), steps=3, **options)
    return list(states)[-1].x


def test_an_untrained_branch_draws_what_its_base_draws_and_a_trained_one_what_the_map_says(tiny_control):
    base, model = tiny_control
    maps = map_picture("segmentation", toytown.scenes(2, 0))
    plain = drawn(free_generate, base, scale=2.0)
    assert torch.equal(drawn(map_generate, model, maps, scale=2.0), plain)
    for parameter in [*model.unet.branch.parameters(), *model.unet.zero.parameters()]:
        parameter.data.normal_(0, 0.05, generator=seeded(1))
    steered = drawn(map_generate, model, maps, scale=2.0)
    assert (steered - plain).abs().max() > 1e-2
    assert (drawn(map_generate, model, -maps, scale=2.0) - steered).abs().max() > 1e-3
    assert torch.equal(drawn(map_generate, model, maps, scale=2.0), steered)


def test_an_edit_with_a_map_knows_its_length_and_counts_its_calls(tiny_control):
    maps = map_picture("depth", toytown.scenes(2, 0))
    known = torch.zeros(2, 3, 64, 64, dtype=torch.uint8)
    everywhere = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    walk = partial(map_generate, prompt="", map=maps, steps=3, scale=1)
    edit = Edit(tiny_control[1], known, everywhere, walk)
    assert len(edit) == 3
    result = edit.result()
    assert len(result.images) == 2 and result.network_calls == 2 * 3


@pytest.mark.parametrize("wrong, words", [
    (None, "no map came: float .* expected"),
    (torch.zeros(3, 8, 8), r"map is \(3, 8, 8\) torch.float32: float \(B or 1, 3, H, W\)"),
    (torch.zeros(2, 1, 8, 8), r"map is \(2, 1, 8, 8\)"),
    (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "torch.uint8: float"),
    (torch.full((2, 3, 8, 8), 1.5), "map runs from 1.5 to 1.5"),
    (torch.full((2, 3, 8, 8), float("nan")), "map runs from nan"),
], ids=["none", "rank", "channels", "dtype", "range", "nan"])
def test_maps_that_cannot_be_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words) as error:
        map_generate(asked_model([]), blank(), EVERYWHERE, "", generator=seeded(), map=wrong)
    assert str(error.value).count("\n") < 2


def test_maps_that_do_not_fit_the_pictures_are_refused(tiny_control):
    for maps in (a_map(2, 32), a_map(3, 64)):
        with pytest.raises(ValueError, match=r"\(4, 3, 64, 64\) expected"):
            drawn(map_generate, tiny_control[1], maps, scale=2.0)


def test_weights_without_a_branch_are_refused(tiny_control):
    with pytest.raises(ValueError, match="weights take 0 extra channels, this control mechanism gives 3"):
        drawn(map_generate, tiny_control[0], a_map(2, 64))
