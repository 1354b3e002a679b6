"""Pictures as tokens: the walk is plain sampling, several pictures, the editor's verbs, the command line."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.cli import main
from minidiff.control import controls
from minidiff.control.context import (
    DRAWING_SCALE,
    GUIDES,
    SCALE,
    context_edit,
    context_generate,
    context_walk,
    shift_for_edits,
)
from minidiff.edit import Edit
from minidiff.editor import Editor, options_of
from minidiff.images import ImageError, to_pil, to_tensor, to_uint8, to_x0
from minidiff.latent import LatentModel
from minidiff.process.flow import Flow, shift_for
from minidiff.process.sample import State, sample
from minidiff.toytown import paint, scenes

INSTRUCTION = "use the car of image 2"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def model(tiny_latent_weights):
    return LatentModel.load(tiny_latent_weights, "cpu")


@pytest.fixture(scope="module")
def street():
    return to_x0(to_uint8(paint(scenes(3, seed=3), 32)))


EVERYWHERE = torch.ones(1, 1, 32, 32, dtype=torch.bool)


# The walk

@pytest.mark.parametrize("guidance", GUIDES)
def test_an_edit_is_sampling_by_euler_from_pure_noise(model, street, guidance):
    """Every State is that of `sample`, and of the equation z + (t_next - t) v, written out."""
    options = dict(others=[street[1:2]], steps=5, scale=2.0, guidance=guidance)
    found = list(context_edit(model, street[:1], EVERYWHERE, INSTRUCTION, generator=seeded(), **options))
    contexts = [model.latents(street[i : i + 1]) for i in range(2)]
    denoise = model.denoiser([INSTRUCTION], 2.0, contexts, guide=GUIDES[guidance], guided_above=5 / 9)
    generator = seeded()
    z = start = torch.randn(1, 8, 8, 8, generator=generator)
    times = [5 * u / (5 * u + 1 - u) for u in (1, 0.8, 0.6, 0.4, 0.2, 0)]          # by hand: shifted by 5
    walk = sample(model.process, denoise, start, times, generator, model.process.euler_step)
    for state, same, t, t_next in zip(found, walk, times, times[1:], strict=False):
        z = z + (t_next - t) * denoise(z, t)
        assert state.t == t_next and torch.equal(state.x, same.x) and (state.x - z).abs().max() < 1e-5
    assert len(found) == 5 and found[-1].t == 0


def test_generation_is_the_same_walk_without_pictures(model):
    blank = torch.zeros(2, 3, 32, 32)
    found = list(context_generate(model, blank, EVERYWHERE, "a red house", generator=seeded(), steps=3))
    noise = torch.randn(2, 8, 8, 8, generator=seeded())
    walk = context_walk(model, ["a red house"] * 2, (), noise, seeded(), 3, DRAWING_SCALE)
    assert torch.equal(found[-1].x, list(walk)[-1].x) and len(found) == 3


def test_levels_are_near_the_noise_in_edits_as_flux_has_them_in_drawings_or_as_asked(model, street):
    def levels(contexts, **options):
        noise = torch.randn(1, 8, 8, 8, generator=seeded())
        walk = context_walk(model, [INSTRUCTION], contexts, noise, seeded(), 3, **options)
        return [1, *(state.t for state in walk)]

    z = model.latents(street[:1])
    for contexts, options, shift in (([z], {}, 3), ((), {}, shift_for(16)), ([z], {"shift": 2}, 2),
                                     ((), {"shift": 3}, 3)):
        assert levels(contexts, **options) == Flow().times(3, shift)
    with pytest.raises(ValueError, match="shift = 0: above 0 expected"):
        levels([z], shift=0)
    for steps in (4, 20, 50):
        assert Flow().times(steps, shift_for_edits(steps))[-2] == pytest.approx(1 / (2 - 1 / steps))


def test_guidance_steers_drawings_down_to_03_all_but_the_last_step_of_edits_or_as_asked(model, street):
    """Each branch is one call of the network, and so is what is prepared for it."""
    noise = torch.randn(1, 8, 8, 8, generator=seeded())
    low = sum(t <= 0.3 for t in model.times(20, noise)[:-1])
    options = dict(generator=seeded(), steps=20, scale=2.0)
    for above, calls in (({}, 2 * 21 - low), ({"guided_above": 0}, 2 * 21)):
        for walk in (partial(context_walk, model, ["a house"], (), noise),
                     partial(context_generate, model, street[:1], EVERYWHERE, "a house")):
            with model.counted() as counted:
                list(walk(**options, **above))
            assert counted[0] == calls and 2 < low < 8
    z, noise = model.latents(street[:1]), torch.randn(1, 8, 8, 8, generator=seeded())
    for contexts, options, calls in (
            ([z], {}, 2 + 2 + 2 + 1), ((), {}, 2 + 2 + 2 + 2), ([z], {"guided_above": 0}, 2 + 2 + 2 + 2),
            ((), {"guided_above": 1}, 1 + 1 + 1 + 1), ([z], {"guided_above": 0.9}, 2 + 2 + 1 + 1),
            ([z], {"scale": 1.0}, 1 + 1 + 1 + 1)):
        with model.counted() as counted:
            list(context_walk(model, [INSTRUCTION], contexts, noise, seeded(), 3, **{"scale": 2.0} | options))
        assert counted[0] == calls


def test_a_single_step_of_an_edit_is_its_last_one_and_not_guided(model, street):
    z, noise = model.latents(street[:1]), torch.randn(1, 8, 8, 8, generator=seeded())
    for contexts in ([z], []):
        one, other = (next(context_walk(model, [INSTRUCTION], contexts, noise, seeded(), 1, scale)).x
                      for scale in (1.0, 9.0))
        assert torch.equal(one, other) == bool(contexts)


def test_contexts_are_clean_at_every_step(model, street, monkeypatch):
    """The pictures' keys and values that steps read are the same whatever the noise and the level."""
    seen = []
    hook = model.dit.register_forward_pre_hook(lambda _, given, named: seen.append(named["conditions"]),
                                               with_kwargs=True)
    for seed in (0, 1):
        list(context_edit(model, street[:1], EVERYWHERE, INSTRUCTION, generator=seeded(seed), steps=3))
    hook.remove()
    assert len(seen) == 6
    assert [len(conditions.pooled) for conditions in seen] == [2, 2, 1] * 2        # the last is not guided
    for conditions in seen[1:]:
        for one, other in zip(conditions.memory, seen[0].memory, strict=True):
            assert all(torch.equal(a, b[-len(a):]) for a, b in zip(one, other, strict=True))


def test_which_picture_is_which_matters(model, street):
    """Positions (i, h, w) differ in i: pictures 2 and 3 exchanged, or one shown twice, is another edit."""
    first, second, third = street.split(1)

    def edited(*others):
        options = dict(generator=seeded(), others=others, steps=2)
        return list(context_edit(model, first, EVERYWHERE, INSTRUCTION, **options))[-1].x

    results = [edited(), edited(first), edited(second), edited(second, third), edited(third, second)]
    assert all((one - other).abs().max() > 1e-4 for i, one in enumerate(results) for other in results[:i])
    assert torch.equal(results[2], edited(second))


def test_a_batch_agrees_with_single_pictures(model, street):
    def edited(pictures, others, noise):
        contexts = [model.latents(pictures), model.latents(others)]
        *_, last = context_walk(model, [INSTRUCTION] * len(pictures), contexts, noise, seeded(), 3, 2.0)
        return last.x

    noise = torch.randn(2, 8, 8, 8, generator=seeded())
    both = edited(street[:2], street[1:], noise)
    for i in range(2):
        alone = edited(street[i : i + 1], street[i + 1 : i + 2], noise[i : i + 1])
        assert (both[i] - alone[0]).abs().max() < 1e-5


def test_unknown_guidance_is_refused(model, street):
    for level in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=f"guided_above = {level}: 0..1 expected"):
            context_generate(model, street[:1], EVERYWHERE, "", generator=seeded(), guided_above=level)
    with pytest.raises(ValueError, match='guidance = "strong": one of plain, norm expected'):
        context_generate(model, street[:1], EVERYWHERE, "", generator=seeded(), guidance="strong")


# The editor

def test_they_are_registered_with_their_weights_and_options():
    for task, editor in (("edit", context_edit), ("generate", context_generate)):
        assert controls(task)["context"] is editor
        assert editor.weights == "town-context" and editor.kind == LatentModel.kind
    assert list(options_of(context_edit)) == ["others", "steps", "scale", "guidance"]
    assert list(options_of(context_generate)) == ["steps", "scale", "guidance", "guided_above"]


def test_the_verb_takes_one_picture_or_several_of_any_size(model, street):
    editor, first = Editor(model), to_pil(street[:1])
    second, wide = to_pil(street[1:2]), to_pil(street[2:]).resize((64, 40))
    options = dict(steps=2, scale=2.0)
    alone = editor.edit(first, INSTRUCTION, control="context", **options)
    listed = editor.edit([first], INSTRUCTION, control="context", **options)
    assert np.array_equal(alone.image, listed.image) and alone.network_calls == 2 + 2 + 1
    results = [alone, editor.edit([first, second], INSTRUCTION, **options),
               editor.edit([first, wide], INSTRUCTION, **options),
               editor.edit([first, second, wide], INSTRUCTION, **options)]
    assert all(result.image.size == (32, 32) for result in results)
    pixels = [np.array(result.image) for result in results]
    assert all(not np.array_equal(one, other) for i, one in enumerate(pixels) for other in pixels[:i])
    assert editor.edit([wide, first], INSTRUCTION, **options).image.size == (64, 40)
    assert 0 <= alone.measures["changed"] <= 1
    source = to_uint8(to_tensor(first))
    moved = (to_uint8(model.vae.round_trip(to_x0(source))).int() - source.int()).abs().amax(1) > 4
    assert alone.measures["codec_changed"] == pytest.approx(moved.float().mean().item(), abs=1e-6)


def test_the_last_state_decoded_is_the_picture_before_pixels_are_put_back(model, street):
    edit = Editor(model).begin_edit(to_pil(street[:1]), INSTRUCTION, control="context", steps=3)
    states = list(edit)
    assert len(edit) == len(states) == 3
    assert np.array_equal(edit.result().uncomposited, to_pil(model.decode(states[-1].x)))
    again = Editor(model).edit(to_pil(street[:1]), INSTRUCTION, control="context", steps=3)
    assert np.array_equal(again.image, edit.result().image)
    decoded = Editor(model).edit(
        to_pil(street[:1]), INSTRUCTION, control="context", steps=3, as_decoded=True)
    assert np.array_equal(decoded.image, again.uncomposited) and decoded.edit_mask.all()
    assert decoded.measures["changed"] == decoded.measures["uncomposited_changed"]


def leads_to(z):
    """A denoiser whose velocity leads to the latents z."""
    return lambda *_: lambda z_t, t: (z_t - z) / t


def test_what_an_edit_did_not_change_is_put_back_and_the_codecs_loss_stays_to_see(model, street, monkeypatch):
    """The source's latents, but for some cells, which decode to something else: known before."""
    source, z = to_uint8(street[:1]), model.latents(street[:1])
    z[:, :, 2:4, 0:3] += 2.0
    monkeypatch.setattr(model, "denoiser", leads_to(z))
    result = Editor(model).edit(to_pil(street[:1]), INSTRUCTION, control="context", steps=2)
    picture, raw = (to_uint8(to_tensor(each)) for each in (result.image, result.uncomposited))
    assert (raw.int() - to_uint8(model.decode(z)).int()).abs().max() <= 1
    assert result.edit_mask.dtype == torch.bool and result.edit_mask.shape == (1, 1, 32, 32)
    assert torch.equal(picture, torch.where(result.edit_mask, raw, source))
    assert result.edit_mask[..., 8:16, 0:12].float().mean() > 0.95                # what those cells show
    assert not result.edit_mask[..., 28:, 28:].any()            # too far for the decoder
    assert ((raw.int() - source.int()).abs() > 4)[..., 28:, 28:].any()            # lost by the codec alone
    off = [((each.int() - source.int()).abs().amax(1) > 4).float().mean() for each in (picture, raw)]
    assert result.measures["changed"] == pytest.approx(off[0].item(), abs=1e-6)
    assert result.measures["uncomposited_changed"] == pytest.approx(off[1].item(), abs=1e-6)
    assert 0 < off[0] < 0.8 * off[1]


def test_of_an_edit_that_changes_nothing_all_is_put_back(model, street, monkeypatch):
    monkeypatch.setattr(model, "denoiser", leads_to(model.latents(street[:1])))
    options = dict(control="context", steps=2)
    result = Editor(model).edit(to_pil(street[:1]), INSTRUCTION, **options)
    assert np.array_equal(result.image, to_pil(street[:1])) and not result.edit_mask.any()
    decoded = Editor(model).edit(to_pil(street[:1]), INSTRUCTION, as_decoded=True, **options)
    assert np.array_equal(decoded.image, result.uncomposited) and decoded.edit_mask.all()
    assert not np.array_equal(decoded.image, result.image)
    found = result.measures
    assert found["changed"] == 0 < found["uncomposited_changed"]
    assert found["uncomposited_changed"] == pytest.approx(found["codec_changed"], abs=0.01)


def test_every_picture_of_a_batch_has_a_change_mask_of_its_own_and_measuring_is_another_matter(model, street):
    z = model.latents(street[:2])
    z[1, :, 2:4, 0:3] += 2.0
    nowhere = torch.ones(1, 1, 32, 32, dtype=torch.bool)

    def walk(model, x0, edit_mask, generator):
        yield State(0.0, z[: len(x0)], z[: len(x0)])

    results = [Edit(model, to_uint8(street[:2]), nowhere, walk, compare=compare, least=least).result()
               for compare in (True, False) for least in (0.1, None)]
    for with_least, without in (results[:2], results[2:]):
        assert with_least.edit_mask.shape == (2, 1, 32, 32) and without.edit_mask.all()
        assert not with_least.edit_mask[0].any() and with_least.edit_mask[1].any()
        assert np.array_equal(with_least.images[0], to_pil(street[:1]))
        assert np.array_equal(without.images[0], without.uncomposited)
    assert results[2].measures == results[3].measures == {}
    marked = nowhere.clone()
    marked[..., :16] = False
    result = Edit(model, to_uint8(street[:1]), marked, walk, compare=True, least=0.1).result()
    assert torch.equal(result.edit_mask, marked)                # who marks has the last word


def test_pixels_that_an_editor_in_pixels_or_a_drawing_made_are_not_put_back(model, street, tiny_editor):
    told = "edit by sdedit has no option as_decoded:\na control in latents expected"
    with pytest.raises(ValueError, match=told):
        tiny_editor.edit(to_pil(street[:1]), "a house", control="sdedit", as_decoded=True)
    for verb, given in (("generate", ["a house"]), ("inpaint", [to_pil(street[:1]), EVERYWHERE])):
        with pytest.raises(ValueError, match="has no option as_decoded"):
            getattr(Editor(model), verb)(*given, as_decoded=True)
    edit = tiny_editor.begin_edit(to_pil(street[:1]), "a house", control="sdedit", steps=2)
    plain, with_least = edit.result(), replace(edit, least=0.1).result()
    assert np.array_equal(with_least.image, plain.image) and with_least.edit_mask.all()
    drawn = Editor(model).generate("a house", control="context", steps=2)
    assert np.array_equal(drawn.image, drawn.uncomposited) and drawn.edit_mask.all() and drawn.measures == {}


def test_no_words_return_the_picture_at_no_cost(model, street):
    picture = to_pil(street[:1])
    for nothing in ("", "  ", None):
        result = Editor(model).edit([picture, picture], nothing, steps=2)
        assert np.array_equal(result.image, picture) and result.network_calls == 0
        assert result.measures == {"changed": 0}                # nothing went through the codec
        assert not result.edit_mask.any()


def test_pictures_drawn_from_words(model):
    results = [Editor(model).generate(words, n=2, control="context", steps=2) for words in ("a house", "")]
    assert [image.size for result in results for image in result.images] == [(32, 32)] * 4
    assert [result.network_calls for result in results] == [2 * (2 + 2 * 2), 2 * (1 + 2)]  # "": no guidance
    assert not np.array_equal(*results[0].images) and not np.array_equal(results[0].image, results[1].image)
    for blank in (" ", None):
        same = Editor(model).generate(blank, n=2, control="context", steps=2)
        assert all(map(np.array_equal, same.images, results[1].images)) and same.network_calls == 2 * 3


def test_weights_that_were_named_need_no_name_of_their_control(model, street):
    for verb, given in (("edit", (to_pil(street[:1]), INSTRUCTION)), ("generate", ("a house",))):
        run = getattr(Editor(model), verb)
        plain, named = run(*given, steps=2), run(*given, steps=2, control="context")
        assert np.array_equal(plain.image, named.image)


def test_wrong_pictures_and_other_controls_are_refused(model, street, tiny_editor):
    picture = to_pil(street[:1])
    for pictures in ([], [picture] * 4):
        with pytest.raises(ImageError, match=f"{len(pictures)} pictures came: 1 to 3 expected"):
            Editor(model).edit(pictures, INSTRUCTION)
    with pytest.raises(ImageError, match="40 x 30"):
        Editor(model).edit([picture, picture.resize((40, 30))], INSTRUCTION)
    assert Editor(model).edit([picture, picture.resize((40, 30))], INSTRUCTION, steps=1, resize=True).image
    with pytest.raises(ValueError, match="2 pictures came: edit by sdedit looks at 1"):
        tiny_editor.edit([picture, picture], INSTRUCTION, control="sdedit")
    with pytest.raises(ValueError, match="no option visits:\nseed, strict, steps, scale, guidance expected"):
        Editor(model).edit(picture, INSTRUCTION, control="context", visits=3)
    with pytest.raises(ValueError, match="no option others: the pictures, as a list"):
        Editor(model).edit(picture, INSTRUCTION, control="context", others=[picture])
    with pytest.raises(ValueError, match="needs a latent denoiser, these weights are a denoiser"):
        tiny_editor.edit(picture, INSTRUCTION, control="context")
    with pytest.raises(ValueError, match="inpaint by repaint needs a denoiser"):
        Editor(model).inpaint(picture, EVERYWHERE, control="repaint")


# The command line

def test_the_command_line_puts_back_or_leaves_a_picture_as_decoded(
        street, tiny_latent_weights, tmp_path, monkeypatch, capsys):
    """Every edit leads to the latents of the source."""
    monkeypatch.setattr(LatentModel, "denoiser", lambda model, words, scale, contexts, *_: leads_to(
        contexts[0])())
    given, out = str(tmp_path / "given.png"), str(tmp_path / "out.png")
    to_pil(street[:1]).save(given)
    command = ["edit", given, INSTRUCTION, out, "--control", "context", "--steps", "1", "--device", "cpu",
               "--model", str(tiny_latent_weights)]
    assert main(command) == 0 and np.array_equal(Image.open(out), Image.open(given))
    assert "changed: 0% of the pixels" in (said := capsys.readouterr().out) and "put back" in said
    assert main([*command[:2], "", *command[3:]]) == 0 and np.array_equal(Image.open(out), Image.open(given))
    assert capsys.readouterr().out.splitlines()[1] == "changed: 0% of the pixels, by more than 4 of 255"
    assert main([*command, "--as-decoded"]) == 0 and not np.array_equal(Image.open(out), Image.open(given))
    assert "put back" not in capsys.readouterr().out


def test_the_command_line_takes_other_pictures(model, street, tiny_latent_weights, tmp_path, capsys):
    for i, picture in enumerate(street):
        to_pil(picture).save(tmp_path / f"{i}.png")
    first, second, third, out = (str(tmp_path / f"{name}.png") for name in (0, 1, 2, "out"))
    common = ["--model", str(tiny_latent_weights), "--device", "cpu", "--steps", "2", "--guidance", "plain"]
    options = dict(steps=2, guidance="plain", scale=SCALE)
    assert main(["edit", first, INSTRUCTION, out, "--with", second, "--with", third, *common]) == 0
    expected = Editor(model).edit([first, second, third], INSTRUCTION, **options)
    assert np.array_equal(Image.open(out), expected.image)
    assert main(["edit", first, INSTRUCTION, out, "--control", "context", *common]) == 0
    expected = Editor(model).edit(first, INSTRUCTION, control="context", **options)
    assert np.array_equal(Image.open(out), expected.image)
    said = capsys.readouterr().out
    assert "\nits codec alone changes {codec_changed:.0%}\n".format(**expected.measures) in said
    assert main(["edit", first, INSTRUCTION, out, *["--with", second] * 3, *common]) == 1
    assert "4 pictures came: 1 to 3 expected" in capsys.readouterr().err
    assert main(["generate", out, "--control", "context", "--prompt", "a house", *common]) == 0
