"""The editor's verbs, on an untrained network: what it promises holds whatever the network paints."""

import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff import editor as editor_file
from minidiff.checkpoint import CheckpointError, load_weights, save_weights
from minidiff.control import controls
from minidiff.control.spatial import MAPS, map_picture
from minidiff.edit import edge_contrast
from minidiff.editor import Editor, options_of
from minidiff.familiar import unlike_toytown
from minidiff.images import to_pil, to_pixels, to_tensor
from minidiff.model import Model, pick_device, process_from
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.sample import normal_like, sample
from minidiff.toytown import paint, scenes

QUICK = dict(steps=6, jump=2, visits=2)
PROMPT = "a red house on a summer day"


@pytest.fixture(scope="module")
def street():
    return to_pil(paint(scenes(1, seed=3), 64))


@pytest.fixture
def hole():
    edit_mask = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    edit_mask[..., 20:44, 16:40] = True
    return edit_mask


def kept(picture, edit_mask):
    return to_pixels(picture)[(~edit_mask).expand(-1, 3, -1, -1)]


def test_inpaint_changes_the_hole_and_nothing_else(tiny_editor, street, hole):
    result = tiny_editor.inpaint(street, hole, PROMPT, **QUICK)
    assert result.image.size == (64, 64) and result.images == (result.image,)
    assert torch.equal(kept(result.image, hole), kept(street, hole))
    assert torch.equal(kept(result.uncomposited, hole), kept(street, hole))    # exact by itself
    inside = hole.expand(-1, 3, -1, -1)
    assert (to_pixels(result.image)[inside] != to_pixels(street)[inside]).float().mean() > 0.9
    assert result.measures["max_diff"] == result.measures["uncomposited_max_diff"] == 0
    assert result.measures["psnr"] == 60 and result.measures["edge"] > 1
    assert torch.equal(result.edit_mask, hole) and result.seconds > 0


def test_pixels_that_a_control_fails_to_keep_are_put_back_and_measured(tiny_editor, street, hole):
    """An editor that paints over everything: the picture keeps its pixels, the uncomposited one does not."""
    edit = tiny_editor.begin_inpaint(street, hole, **QUICK)

    def careless(model, image, edit_mask, generator):
        return controls("generate")["free"](model, image, edit_mask, "", generator=generator, steps=4)

    edit.walk = careless
    result = edit.result()
    assert torch.equal(kept(result.image, hole), kept(street, hole)) and result.measures["psnr"] == 60
    assert not torch.equal(kept(result.uncomposited, hole), kept(street, hole))
    assert result.measures["uncomposited_psnr"] < 30 and result.measures["uncomposited_changed"] > 0.5


def test_paths_pictures_and_tensors_give_the_same(tiny_editor, street, hole, tmp_path):
    street.save(tmp_path / "street.png")
    to_pil(hole.float().expand(-1, 3, -1, -1) * 2 - 1).save(tmp_path / "hole.png")
    erased = street.convert("RGBA")
    erased.putalpha(Image.fromarray(np.where(hole[0, 0], 0, 255).astype(np.uint8)))
    results = [tiny_editor.inpaint(*pair, PROMPT, **QUICK).image for pair in (
        (street, hole), (to_tensor(street), hole), (str(tmp_path / "street.png"), tmp_path / "hole.png"),
        (street, Image.open(tmp_path / "hole.png")), (erased, erased))]
    assert all(np.array_equal(result, results[0]) for result in results)


def test_the_seed_the_prompt_and_the_options_matter_and_nothing_else(tiny_editor, street, hole):
    def pixels(prompt=PROMPT, **options):
        return to_pixels(tiny_editor.inpaint(street, hole, prompt, **{**QUICK, **options}).image)

    first = pixels(seed=1)
    assert torch.equal(pixels(seed=1), first)
    changes = dict(seed=2), dict(seed=1, scale=3.0), dict(seed=1, prompt="a blue car"), dict(seed=1, visits=1)
    assert not any(torch.equal(pixels(**change), first) for change in changes)
    assert torch.equal(pixels(prompt=None), pixels(prompt=""))


def test_nothing_editable_returns_the_input_at_no_cost(tiny_editor, street):
    nothing = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    for result in (tiny_editor.inpaint(street, nothing, PROMPT, **QUICK), tiny_editor.outpaint(street)):
        assert np.array_equal(result.image, street) and result.network_calls == 0
    edit = tiny_editor.begin_inpaint(street, nothing)
    assert len(edit) == 0 and list(edit) == []


def test_everything_editable_and_one_visit_is_plain_sampling(tiny_editor, street):
    everything = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    result = tiny_editor.inpaint(street, everything, PROMPT, steps=6, visits=1, scale=2.0, seed=5)
    assert result.measures == {}
    plain = tiny_editor.generate(PROMPT, steps=6, scale=2.0, seed=5)
    assert np.array_equal(result.image, plain.image)
    generator, model = torch.Generator().manual_seed(5), tiny_editor.model
    noise = normal_like(torch.zeros(1, 3, 64, 64), generator)
    walk = sample(model.process, model.denoiser([PROMPT], 2.0), noise, model.process.times(6), generator)
    assert np.array_equal(to_pil(list(walk)[-1].x), plain.image)


def test_generate_gives_n_different_pictures(tiny_editor):
    result = tiny_editor.generate(PROMPT, 3, steps=4)
    assert len({picture.tobytes() for picture in result.images}) == 3 and result.image is result.images[0]
    assert result.images[2].size == (64, 64) and result.network_calls == 3 * 4 * 2


@pytest.fixture
def control_editor(tiny_control_weights):
    """An Editor with a branch that reads maps."""
    return Editor.load(tiny_control_weights, device="cpu")


def map_of(seed, kind="segmentation"):
    return to_pil(map_picture(kind, scenes(1, seed).with_(person=1)))


def test_generate_hears_the_map_and_is_the_same_for_the_same(control_editor, tmp_path):
    def pixels(map, prompt=PROMPT, **options):
        return to_pixels(control_editor.generate(prompt, map=map, steps=3, **options).image)

    map_of(3).save(tmp_path / "map.png")
    first = pixels(map_of(3))
    assert all(torch.equal(pixels(same), first) for same in (tmp_path / "map.png", to_tensor(map_of(3))))
    assert torch.equal(pixels(map_of(3), control="map"), first)
    for other in pixels(map_of(4)), pixels(map_of(3), seed=1):
        assert (other != first).float().mean() > 0.1
    assert not torch.equal(pixels(map_of(3), "a blue car"), first)
    assert len({pixels(map_of(3, kind)).numpy().tobytes() for kind in MAPS}) == 3


def test_generate_by_map_gives_n_pictures_of_the_size_of_the_map(control_editor):
    result = control_editor.generate(PROMPT, 3, map=map_of(3).resize((96, 64)), steps=2, scale=2.0)
    assert [picture.size for picture in result.images] == [(96, 64)] * 3
    assert len({picture.tobytes() for picture in result.images}) == 3
    assert result.network_calls == 3 * 2 * 2 and result.measures == {} and result.edit_mask.all()
    odd = map_of(3).resize((60, 61))
    assert control_editor.generate(PROMPT, map=odd, steps=1, resize=True).image.size == (64, 64)


def test_maps_that_cannot_be_followed_are_refused(control_editor, tiny_editor):
    good, odd = map_of(3), map_of(3).resize((60, 60))
    for refuse, words in (
            (lambda: control_editor.generate(map=odd), "map is 60 x 60: sides that are multiples of 8"),
            (lambda: control_editor.generate(map=3), "map is .* a path, a PIL picture or a tensor expected"),
            (lambda: control_editor.generate(control="map"), "no map came: .*expected"),
            (lambda: control_editor.generate(), "take 3 extra channels, this control mechanism gives 0"),
            (lambda: tiny_editor.generate(map=good), "take 0 extra channels, this control mechanism gives 3"),
            (lambda: tiny_editor.generate(map=good, control="free"), "generate by free has no option map")):
        with pytest.raises(ValueError, match=words) as caught:
            refuse()
        assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize("sides, size, corner", [
    ((0, 32, 0, 0), (96, 64), (0, 0)), ((32, 0, 0, 0), (96, 64), (32, 0)),
    ((0, 0, 8, 0), (64, 72), (0, 8)), ((8, 8, 16, 16), (80, 96), (8, 16))])
def test_outpaint_grows_the_picture_and_keeps_it(tiny_editor, street, sides, size, corner):
    result = tiny_editor.outpaint(street, *sides, PROMPT, **QUICK)
    assert result.image.size == size
    x, y = corner
    assert np.array_equal(result.image.crop((x, y, x + 64, y + 64)), street)
    assert (~result.edit_mask).sum() == 64 * 64 and result.measures["max_diff"] == 0


def test_outpaint_refuses_sizes_that_do_not_run(tiny_editor, street):
    for sides in (dict(right=30), dict(top=480), dict(left=-8)):
        with pytest.raises(ValueError) as caught:
            tiny_editor.outpaint(street, **sides)
        assert "expected" in str(caught.value)


def test_watching_sees_every_state_and_changes_nothing(tiny_editor, street, hole):
    edit = tiny_editor.begin_inpaint(street, hole, PROMPT, **QUICK)
    states = list(edit)
    assert len(states) == len(edit) > 6 and states[-1].t == 0
    assert np.array_equal(to_pil(states[-1].x), edit.result().uncomposited)
    assert np.array_equal(edit.result().image, tiny_editor.inpaint(street, hole, PROMPT, **QUICK).image)
    assert len(tiny_editor.begin_outpaint(street, right=64, **QUICK)) == len(states)


def test_network_calls_are_counted_honestly(tiny_editor, street, hole):
    downs = sum(1 for state in self_avoiding(tiny_editor.begin_inpaint(street, hole, **QUICK)))
    assert tiny_editor.inpaint(street, hole, **QUICK).network_calls == downs
    assert tiny_editor.inpaint(street, hole, scale=2.0, **QUICK).network_calls == downs    # towards nothing
    two_branches = tiny_editor.inpaint(street, hole, PROMPT, scale=2.0, **QUICK)
    two_windows = tiny_editor.outpaint(street, right=32, **QUICK)
    assert two_branches.network_calls == two_windows.network_calls == 2 * downs


def self_avoiding(edit):
    """The states of an edit that were reached by a step down."""
    before = edit.model.process.T
    for state in edit:
        if state.t < before:
            yield state
        before = state.t


def test_options_come_from_the_control(tiny_editor, street, hole):
    assert options_of(controls("inpaint")["repaint"])["visits"] >= 1
    assert "generator" not in options_of(controls("inpaint")["repaint"])
    with pytest.raises(ValueError, match="no option visit:\n.*visits") as caught:
        tiny_editor.inpaint(street, hole, visit=3)
    assert len(str(caught.value).splitlines()) == 2
    for task, arguments in (("inpaint", (street, hole)), ("edit", (street, "make the car blue"))):
        there = ", ".join(controls(task))
        with pytest.raises(ValueError, match=f'control "magic": one of {there} expected for {task}'):
            getattr(tiny_editor, task)(*arguments, control="magic")
    with pytest.raises(ValueError, match="edit by sdedit has no option visits:\nseed, strict, steps, stre"):
        tiny_editor.edit(street, control="sdedit", visits=3)
    with pytest.raises(ValueError):
        tiny_editor.inpaint(street, hole, steps=0)
    for options, told in ((dict(scale=float("nan")), "scale = nan: a finite number"),
                          (dict(steps=float("inf")), "steps = inf: a finite number"),
                          (dict(steps=2.5), "steps = 2.5: a whole number")):
        with pytest.raises(ValueError, match=told):
            tiny_editor.inpaint(street, hole, **options)


def test_the_verb_edit_changes_the_whole_picture_by_every_control(tiny_editor, street):
    for control, states, calls in (("sdedit", 4, 8), ("invert", 12, 18), ("p2p", 12, 30)):
        edit = tiny_editor.begin_edit(street, PROMPT, control=control, steps=6, seed=1)
        assert len(list(edit)) == states, control
        result = edit.result()
        assert result.network_calls == calls and result.edit_mask.all()
        assert result.measures.keys() == {"changed"} and 0 <= result.measures["changed"] <= 1
        assert (to_pixels(result.image) != to_pixels(street)).float().mean() > 0.9
        assert np.array_equal(result.image, result.uncomposited)
    options = dict(control="sdedit", steps=4)
    seeds = [tiny_editor.edit(street, PROMPT, seed=seed, **options).image for seed in (1, 1, 2)]
    assert np.array_equal(seeds[0], seeds[1]) and not np.array_equal(seeds[0], seeds[2])
    with pytest.raises(ValueError, match="strength = 0, 50 steps"):
        tiny_editor.edit(street, PROMPT, control="sdedit", strength=0)


def test_the_length_of_an_edit_is_known_before_it_is_made(tiny_editor, street, hole):
    for control, steps in (("sdedit", 4), ("invert", 12), ("dual-cfg", 6)):
        assert len(tiny_editor.begin_edit(street, PROMPT, control=control, steps=6)) == steps, control
    assert len(tiny_editor.begin_edit(street, "")) == 1                    # the picture itself, at once
    assert len(tiny_editor.begin_inpaint(street, hole, control="glide", steps=6)) == 6
    assert len(tiny_editor.begin_outpaint(street, right=32, control="glide", steps=6)) == 6


def test_an_editor_without_weights_takes_those_of_each_control_once(tiny_weights, street, hole, monkeypatch):
    loaded = []

    def load_model(name, device):
        loaded.append((name, device))
        return Model.load(tiny_weights, device)

    monkeypatch.setattr(editor_file, "load_model", load_model)
    editor = Editor.load(device="cpu")
    assert editor.model is None and loaded == []
    assert editor.generate(PROMPT, steps=2).image.size == (64, 64)
    editor.inpaint(street, hole, **QUICK)
    editor.edit(street, PROMPT, control="sdedit", steps=4)
    assert [(name, str(device)) for name, device in loaded] == [("town-ddpm", "cpu")]
    editor.begin_inpaint(street, hole, control="glide")
    editor.begin_outpaint(street, right=32, control="glide")
    assert editor.begin_edit(street, "make the car blue").model is not editor.begin_generate().model
    editor.begin_generate(map=map_of(3))
    assert [name for name, _ in loaded[1:]] == ["town-inpaint", "town-instruct", "town-control"]


def test_an_editor_with_weights_uses_no_others(tiny_editor, street, hole, monkeypatch):
    monkeypatch.setattr(editor_file, "load_model", None)
    assert tiny_editor.begin_generate().model is tiny_editor.model
    edits = tiny_editor.begin_inpaint(street, hole, control="glide"), tiny_editor.begin_edit(street, PROMPT)
    for edit in edits:
        assert edit.model is tiny_editor.model
        with pytest.raises(ValueError, match="take 0 extra channels.*\nits own weights expected") as caught:
            edit.result()
        assert len(str(caught.value).splitlines()) == 2


def test_weights_of_another_kind_are_refused(street, hole):
    editor = Editor(SimpleNamespace(kind="one-pass network", data="town", size=64))
    for refuse, found in ((lambda: editor.inpaint(street, hole), "inpaint by repaint"),
                          (lambda: editor.outpaint(street, right=8, control="glide"), "outpaint by glide"),
                          (lambda: editor.edit(street, PROMPT), "edit by dual-cfg")):
        expected = f"{found} needs a denoiser, these weights are a one-pass network:\nits own weights, town-"
        with pytest.raises(ValueError, match=expected) as caught:
            refuse()
        assert len(str(caught.value).splitlines()) == 2


def test_unknown_words_are_named(tiny_editor, street, hole):
    with pytest.warns(UserWarning, match="zeppelin"):
        tiny_editor.inpaint(street, hole, "a red zeppelin", steps=2, visits=1)
    with pytest.raises(ValueError, match="hosue .*house") as caught:
        tiny_editor.inpaint(street, hole, "a red hosue", strict=True)
    assert len(str(caught.value).splitlines()) <= 2
    with pytest.raises(ValueError, match="Z"):
        tiny_editor.generate('a sign that says "Z"', strict=True)


def photo_like(seed):
    """Noise whose power falls with frequency as that of photographs does."""
    rng, frequency = np.random.default_rng(seed), np.fft.fftfreq(64)
    radius = np.hypot(frequency[:, None], frequency)
    radius[0, 0] = 1
    waves = np.fft.fft2(rng.standard_normal((3, 64, 64))) / radius
    return torch.from_numpy(np.fft.ifft2(waves).real).float()[None].div(2).tanh()


def test_pictures_unlike_toytown_are_told_from_its_own():
    nothing = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    own = paint(scenes(200, seed=11), 64)
    assert [unlike_toytown(x0[None], nothing) for x0 in own] == [None] * 200
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    others = [noise, torch.ones(1, 3, 64, 64), torch.zeros(1, 3, 64, 64), *map(photo_like, range(20))]
    assert all(unlike_toytown(x0, nothing) for x0 in others)
    upside_down = [unlike_toytown(x0[None].flip(2), nothing) for x0 in own]
    assert sum(reason is not None for reason in upside_down) > 100


def test_wide_tall_large_and_holed_scenes_raise_no_alarm():
    some = scenes(40, seed=12)
    pictures = [paint(some, 64, (0, 32, 0, 0)), paint(some, 64, (0, 0, 16, 16)), paint(some[:10], 128)]
    for x0 in [x0[None] for batch in pictures for x0 in batch]:
        assert unlike_toytown(x0, torch.zeros_like(x0[:, :1], dtype=torch.bool)) is None
    x0, edit_mask = paint(some[:1], 64), torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    edit_mask[..., 5:40] = True
    noise = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-1, 1)
    assert unlike_toytown(torch.where(edit_mask, noise, x0), edit_mask) is None


def test_the_warning_says_what_to_expect(tiny_editor, street, hole):
    with pytest.warns(UserWarning, match="nothing like Toytown") as caught:
        tiny_editor.inpaint(photo_like(0), hole, steps=2, visits=1)
    assert "Toytown's shapes and colours" in str(caught[0].message)
    with pytest.warns(UserWarning, match="nothing like Toytown"):
        tiny_editor.edit(photo_like(0), control="sdedit", steps=2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_editor.inpaint(street, hole, steps=2, visits=1)
        tiny_editor.edit(street, control="sdedit", steps=2)


def test_edge_contrast_is_one_without_an_edge_and_large_with_one(hole):
    smooth = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    assert edge_contrast(smooth + smooth.transpose(2, 3), hole) == pytest.approx(1, abs=1e-4)
    assert edge_contrast(torch.where(hole, -1.0, smooth + smooth.transpose(2, 3)), hole) > 10
    flat = torch.zeros(1, 3, 64, 64)
    assert np.isnan(edge_contrast(torch.where(hole, 1.0, flat), hole))


def test_guidance_is_the_formula_and_windows_repeat_prompts(tiny_editor):
    model, x = tiny_editor.model, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = [PROMPT, "a blue car"]
    alone = [model.denoiser([prompt])(x[i : i + 1], 500) for i, prompt in enumerate(prompts)]
    torch.testing.assert_close(model.denoiser(prompts)(x, 500), torch.cat(alone), atol=1e-5, rtol=0)
    nothing, together = model.denoiser(["", ""])(x, 500), model.denoiser(prompts, 1.5)(x, 500)
    inner = together.abs() < 0.99                            # where the clamp to [-1, 1] had nothing to do
    expected = nothing + 1.5 * (torch.cat(alone) - nothing)
    assert inner.float().mean() > 0.2 and (together - expected)[inner].abs().max() < 1e-4
    assert together.abs().max() <= 1


def test_a_network_without_text_takes_no_prompt(tiny_weights, tmp_path):
    tensors, entry = load_weights(tiny_weights)
    config = entry["config"]
    unet = {**config["unet"], "text_dim": 0}
    plain = {key: value for key, value in tensors.items() if not re.search("^text|read_text|pooled_te", key)}
    entry = {"config": {"unet": unet, "process": {"name": "flow"}}, "data": "mnist"}
    editor = Editor.load(save_weights("plain", plain, entry, tmp_path))
    assert isinstance(editor.model.process, Flow) and editor.generate(steps=3).image.size == (64, 64)
    with pytest.raises(ValueError, match="without"):
        editor.generate("a house", steps=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")                               # not of Toytown: no such warning
        editor.inpaint(photo_like(0), torch.ones(1, 1, 64, 64, dtype=torch.bool), steps=3, visits=1)


def test_bad_checkpoints_and_devices_are_refused(tiny_weights, tmp_path):
    with pytest.raises(CheckpointError, match="nowhere"):
        Editor.load("nowhere")
    tensors, entry = load_weights(tiny_weights)
    unet = {**entry["config"]["unet"], "colour": 3}
    for change in ({"unet": unet}, {"process": {"name": "walk"}}, {"process": {}}):
        path = save_weights("odd", tensors, {**entry, "config": {**entry["config"], **change}}, tmp_path)
        with pytest.raises(CheckpointError, match="odd") as caught:
            Model.load(path)
        assert len(str(caught.value).splitlines()) <= 2
    with pytest.raises(ValueError, match="abacus"):
        pick_device("abacus")
    assert pick_device("cpu").type == "cpu"
    assert isinstance(process_from({"name": "ddpm-linear", "T": 100}), DDPM)
