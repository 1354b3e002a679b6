"""The table of maps: what explains a picture, computed another way; null editors in their places."""

import pytest
import torch

from minidiff import toytown
from minidiff.bench import maps
from minidiff.control.spatial import MAPS
from minidiff.denoisers.controlnet import ControlledUNet
from minidiff.model import Model
from minidiff.toytown.scene import OBJECTS, Scenes, bounding_box, crowding

pytestmark = pytest.mark.filterwarnings("ignore:unknown")       # the tiny network cannot read every sign


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def scenes():
    """The scene of a map and five rivals."""
    scene = maps.clear_scenes(1)[0]
    return Scenes.cat([scene, maps.others(scene, 5, seeded())])


@pytest.fixture(scope="module")
def model(tiny_weights):
    """The tiny network with a branch that is not new."""
    tiny = Model.load(tiny_weights, "cpu")
    unet = ControlledUNet(tiny.unet)
    for parameter in [*unet.branch.parameters(), *unet.zero.parameters()]:
        parameter.data.normal_(0, 0.05, generator=seeded(1))
    return Model(tiny.process, unet, tiny.text, "cpu", tiny.data)


# The measure

def test_explained_is_the_r_squared_of_a_regression_in_each_part():
    pictures, renders = torch.randn(5, 3, 6, 5, generator=seeded()).split([2, 3])
    number = torch.randint(0, 3, (3, 1, 6, 5), generator=seeded(1))                    # 2: in no part
    found = maps.explained(pictures, renders, torch.cat([number == 0, number == 1], 1))
    for g in range(3):
        for p in range(2):
            left = 0
            inside = (number[g, 0] < 2).flatten()
            y = pictures[p].flatten(1).mT.double()
            for part in range(2):
                rows = (number[g, 0] == part).flatten()
                x = torch.cat([renders[g].flatten(1).mT.double()[rows], torch.ones(rows.sum(), 1)], 1)
                left += (y[rows] - x @ torch.linalg.lstsq(x, y[rows]).solution).square().sum()
            total = (y[inside] - y[inside].mean(0)).square().sum()
            assert abs(found[g, p] - (1 - left / total)) < 1e-9


def test_recolouring_parts_explains_all_and_noise_almost_nothing():
    parts = torch.zeros(1, 2, 32, 32, dtype=torch.bool)
    parts[:, 0, :16], parts[:, 1, 16:] = True, True
    render = torch.randn(1, 3, 32, 32, generator=seeded())
    negative = torch.where(parts[:, :1], 0.3 - render, 0.2 * render.flip(1))
    flat, noise = torch.full_like(render, 0.5), torch.randn(1, 3, 32, 32, generator=seeded(1))
    found = maps.explained(torch.cat([negative, flat, noise]), render, parts)[0]
    assert found[0] == pytest.approx(1, abs=1e-6) and found[1] == pytest.approx(0, abs=1e-3)
    assert 0 < found[2] < 0.02


def test_a_part_of_one_colour_and_an_empty_part_explain_their_mean():
    render, picture = torch.ones(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    picture[:, :, :2] = 1
    parts = torch.zeros(1, 3, 4, 4, dtype=torch.bool)
    parts[:, 0, :2], parts[:, 1, 2:] = True, True
    assert maps.explained(picture, render, parts).item() == pytest.approx(1, abs=1e-5)


def test_every_scene_explains_its_own_picture_best_in_any_colours(scenes):
    fresh = toytown.scenes(len(scenes), 8)
    recoloured = scenes.with_(**{name: getattr(fresh, name) for name in maps.COLORING}).with_(style=0)
    pictures = torch.cat([toytown.paint(scenes.with_(style=0)), toytown.paint(recoloured)])
    renders = toytown.paint(scenes.with_(style=0, time=0, season=1))
    for kind in MAPS:
        best = maps.explained(pictures, *maps.TOLD[kind](scenes, renders)).argmax(0)
        assert best.tolist() == 2 * list(range(len(scenes))), kind


def test_what_explains_a_pose_is_the_person_in_its_frame(scenes):
    renders = toytown.paint(scenes)
    shown, parts = maps.person(scenes, renders)
    left, right, top, bottom = (edge * 64 for edge in bounding_box(scenes, "person"))
    left, right = (left - 2).clamp(min=0), (right + 2).clamp(max=64)
    seen, around = parts.unbind(1)
    truly = toytown.masks(scenes)[:, OBJECTS.index("person")] > 0.5
    assert not (seen & around).any()
    for i in range(len(scenes)):
        rows, columns = (seen | around)[i].nonzero().unbind(1)
        assert abs(rows.min() + 2 - top[i]) <= 1 and abs(rows.max() - 1 - bottom[i]) <= 1
        assert abs(columns.min() - left[i]) <= 1 and abs(columns.max() + 1 - right[i]) <= 1
        assert (seen[i] & truly[i]).sum() > 0.95 * truly[i].sum() and seen[i].sum() < 3 * truly[i].sum()
        assert torch.equal(shown[i][:, seen[i]], renders[i][:, seen[i]]) and not shown[i][:, around[i]].any()


def test_what_explains_depth_and_segmentation_are_the_classes(scenes):
    renders = toytown.paint(scenes)
    shown, parts = maps.classes(scenes, renders)
    assert torch.equal(shown, renders) and (parts.sum(1) == 1).all()
    assert torch.equal(parts.int().argmax(1, keepdim=True), toytown.segmentation(scenes))


def test_the_scene_is_found_among_rivals_in_its_own_and_other_colours_and_a_rival_is_not(scenes):
    fresh = toytown.scenes(1, 11)
    recoloured = scenes[0].with_(**{name: getattr(fresh, name) for name in maps.COLORING})
    pictures = torch.cat([toytown.paint(part) for part in (scenes[0], recoloured, scenes[1], scenes[2])])
    hits = maps.judged(dict.fromkeys(MAPS, pictures), scenes[0], scenes[1:])
    found = {kind: hit.tolist() for kind, hit in hits.items()}
    assert found == dict.fromkeys(MAPS, [True, True, False, False])


def test_other_scenes_seldom_follow(scenes):
    """30 pictures of other scenes of the same caption: about a sixth of them is nearest to the scene."""
    pictures = toytown.paint(maps.others(scenes[0], 30, seeded(5)))
    hits = maps.judged(dict.fromkeys(("depth", "pose"), pictures), scenes[0], scenes[1:])
    assert all(hit.double().mean() < 0.4 for hit in hits.values())


def test_a_tie_is_no_success(scenes):
    pictures = toytown.paint(scenes[0])
    assert not maps.judged({"depth": pictures}, scenes[0], scenes[0])["depth"].any()


def test_scenes_and_rivals_show_what_is_asked():
    scenes, captions = maps.clear_scenes(20)
    assert len(scenes) == len(captions) == 20 and all("person" in caption for caption in captions)
    rivals = maps.others(scenes[0], 16, seeded())
    assert len(rivals) == 16 and (crowding(Scenes.cat([scenes, rivals])) < maps.HIDDEN).all()
    for name in (*OBJECTS, "fence", "season", "style", "sign_text"):
        assert (getattr(rivals, name) == getattr(scenes[0], name)).all(), name
    assert len(rivals.person_x.unique()) == 16 and (rivals.person_x != scenes.person_x[0]).all()


# The table

@pytest.fixture(scope="module")
def rows(model):
    return maps.rows(model, n=3, rivals=4, steps=1)


def test_every_editor_has_a_row_for_every_kind_of_map(rows):
    cases = [(row["map"], row["editor"]) for row in rows]
    assert cases == [(kind, editor) for kind in MAPS for editor in (*maps.BLIND, *maps.GUIDED)]


def test_null_editors_rank_rightly(rows):
    """The scene follows its map in any colours, another scene and a network that sees no map seldom do."""
    found = {(row["map"], row["editor"]): row for row in rows}
    for kind in MAPS:
        assert found[kind, "the scene"]["PSNR (dB)"].value == 60
        assert found[kind, "another scene"]["PSNR (dB)"].value < 25
    right, coloured, other, blind = (
        sum(found[kind, editor]["follows"].value for kind in MAPS) / 3 for editor in maps.BLIND)
    assert min(right, coloured) > 0.8 > 0.7 > max(other, blind)


def test_network_calls_are_counted_and_the_kinds_share_what_sees_no_map(rows):
    calls = {(row["map"], row["editor"]): row.get("network calls") for row in rows}
    for kind in MAPS:
        assert calls[kind, "caption alone"] == 2 and calls[kind, "the scene"] is None
        assert calls[kind, "map alone"] == 1 and calls[kind, maps.BOTH] == 2
    psnrs = {editor: {row["PSNR (dB)"] for row in rows if row["editor"] == editor} for editor in maps.GUIDED}
    assert all(len(values) == 3 for values in psnrs.values())   # each kind of map reaches the network


def test_caption_alone_is_the_base_without_its_branch(model):
    base = maps.without_map(model)
    assert base.unet is model.unet.base and base.process is model.process and base.text is model.text
    with pytest.raises(ValueError, match="these weights take no map: .* town-control, expected"):
        maps.rows(base, n=1)


def test_chief_figures_are_those_of_map_and_caption(rows):
    found = maps.chief(rows)
    own = {row["map"]: round(row["follows"].value, 3) for row in rows if row["editor"] == "map and caption"}
    assert found == {"town-control": own} and list(own) == list(MAPS)
