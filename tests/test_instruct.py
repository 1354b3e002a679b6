"""InstructPix2Pix: what the two scales mean, what the network is asked, and that no words change nothing."""

import numpy as np
import pytest
import torch

from minidiff.control import controls
from minidiff.control.instruct import (
    instruct,
    instruct_branches,
    instruct_edit,
    instruct_prediction,
    instruct_step,
)
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.editor import Editor, options_of
from minidiff.encoders.text import TextConfig, TextEncoder
from minidiff.images import to_pil
from minidiff.model import Model
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.guidance import cfg, dual_cfg
from minidiff.process.sample import clamp_x0, sample
from minidiff.toytown import VOCABULARY, paint, scenes

PROCESSES = pytest.mark.parametrize(
    "process", [DDPM.linear(50), DDPM.cosine(50, "x0"), Flow()], ids=["eps", "x0", "v"]
)
INSTRUCTION = "make the car blue"


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def draw(seed, scale=1.0):
    return scale * torch.randn(2, 3, 8, 8, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture(scope="module")
def model():
    """An untrained instruction editor, small and quick."""
    torch.manual_seed(0)
    text = TextEncoder(TextConfig(VOCABULARY, "ABC123", dim=32, layers=1))
    unet = UNet(UNetConfig(32, 3, 3, channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=32))
    for parameter in [*text.parameters(), *unet.parameters()]:
        if not parameter.any():                             # what starts at zero would hide the rest
            torch.nn.init.normal_(parameter, std=0.2)
    return Model(DDPM.cosine(1000, "x0"), unet, text, data="town")


@pytest.fixture(scope="module")
def street():
    return paint(scenes(2, seed=3), 32)


# The step

@PROCESSES
def test_scales_that_leave_one_prediction(process):
    x_t, noise, none, image, both = (draw(seed) for seed in range(5))
    t, t_next = process.times(10)[4:6]

    def plain(prediction):
        return process.step(x_t, clamp_x0(process, x_t, prediction, t), t, t_next, noise)

    expected = {(1, 1): both, (1, 0): image, (0, 0): none, (3, 3): cfg(none, both, 3),
                (1.5, 7.5): -0.5 * none + (1.5 - 7.5) * image + 7.5 * both}
    steps = []
    for scales, prediction in expected.items():
        steps.append(instruct_step(process, x_t, none, image, both, t, t_next, *scales, noise))
        assert (steps[-1] - plain(prediction)).abs().max() < 1e-12
    assert all((one - other).abs().max() > 1e-2 for i, one in enumerate(steps) for other in steps[:i])


@PROCESSES
def test_x0_hat_stays_within_bounds_whatever_the_scales(process):
    x_t, none, image, both = (draw(seed) for seed in range(4))
    t = process.times(10)[4]
    prediction = instruct_prediction(process, x_t, none, image, both, t, 1.5, 7.5)
    free = process.predict_x0(x_t, dual_cfg(none, image, both, 1.5, 7.5), t)
    assert free.abs().max() > 2
    assert (process.predict_x0(x_t, prediction, t) - free.clamp(-1, 1)).abs().max() < 1e-12


def test_rescale_brings_the_contrast_back_to_that_of_the_full_prediction():
    process = DDPM.cosine(50, "x0")
    x_t, none, image, both = (draw(seed, 0.02) for seed in range(4))        # within -1..1: no clamping
    plain, half, full = (instruct_prediction(process, x_t, none, image, both, 25, 1.5, 7.5, rescale)
                         for rescale in (0, 0.5, 1))
    assert torch.equal(plain, dual_cfg(none, image, both, 1.5, 7.5))
    for guided, told, back in zip(plain, both, full):
        assert guided.std() > 4 * told.std() and abs(back.std().item() - told.std().item()) < 1e-12
        assert (back / back.std() - guided / guided.std()).abs().max() < 1e-10       # the same picture else
    assert (half - (plain + full) / 2).abs().max() < 1e-12


# The loop

@PROCESSES
def test_the_loop_is_the_steps(process):
    times, asked, start = process.times(6), [], draw(7)

    def predict(x_t, t):
        asked.append(t)
        return 0.5 * x_t, 0.4 * x_t, x_t.sin()

    states = list(instruct(process, predict, start, times, seeded(1), 1.2, 3.0, 0.5))
    assert asked == times[:-1] and [state.t for state in states] == times[1:]
    generator, x = seeded(1), start
    for state, t in zip(states, times):
        noise = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        told = predict(x, t)
        guided = instruct_prediction(process, x, *told, t, 1.2, 3.0, 0.5)
        assert torch.equal(state.x0_hat, process.predict_x0(x, guided, t))
        x = instruct_step(process, x, *told, t, state.t, 1.2, 3.0, noise, 0.5)
        assert torch.equal(state.x, x)


@PROCESSES
def test_scales_of_one_are_sampling_with_the_full_prediction(process):
    times, start = process.times(6), draw(7)
    found = instruct(process, lambda x_t, t: (0 * x_t, 0.4 * x_t, x_t.sin()), start, times, seeded(1), 1, 1)
    plain = sample(process, lambda x_t, t: clamp_x0(process, x_t, x_t.sin(), t), start, times, seeded(1))
    for one, other in zip(found, plain, strict=True):
        assert (one.x - other.x).abs().max() < 1e-10


# The network

def listening(model):
    """Arguments of every call of the U-Net: (hook, calls), each a dict of x_t, text and extra."""
    calls = []

    def hear(network, arguments, named):
        x_t, _, text, _ = arguments
        calls.append({"x_t": x_t, "text": text, "extra": named["extra"]})

    return model.unet.register_forward_pre_hook(hear, with_kwargs=True), calls


def test_one_batch_of_three_a_step_and_never_the_text_without_the_picture(model, street):
    hook, calls = listening(model)
    everywhere = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    states = list(instruct_edit(model, street, everywhere, INSTRUCTION, generator=seeded(), steps=4))
    hook.remove()
    assert len(states) == len(calls) == 4 and states[-1].x.isfinite().all()
    words, _ = model.encode(["", INSTRUCTION])
    assert (words[0] - words[1]).abs().max() > 0.01
    for call in calls:
        assert len(call["x_t"]) == len(call["text"]) == len(call["extra"]) == 6        # 3 a picture
        assert torch.equal(call["x_t"], call["x_t"][:2].repeat(3, 1, 1, 1))
        told = [torch.equal(row, words[1]) for row in call["text"]]
        shown = [bool(row.any()) for row in call["extra"]]
        assert told == [False] * 4 + [True] * 2 and shown == [False] * 2 + [True] * 4
        assert torch.equal(call["text"][:4], words[:1].expand(4, -1, -1))
        assert torch.equal(call["extra"][2:], torch.cat([street, street]))


def test_branches_are_three_single_passes(model, street):
    x_t, grey = torch.randn(street.shape, generator=seeded()), torch.zeros_like(street)
    words = [INSTRUCTION, "remove the tree"]
    for t in (500, torch.tensor([500, 20])):                        # one level, and one for each picture
        none, image, both = instruct_branches(model, street, words)(x_t, t)
        for found, texts, extra in ((none, ["", ""], grey), (image, ["", ""], street), (both, words, street)):
            alone = model.unet(x_t, model.level(t), *model.encode(texts), extra=extra)
            assert (found - alone).abs().max() < 1e-5
    assert (none - image).abs().max() > 1e-3 and (image - both).abs().max() > 1e-4


# The editor

def test_no_words_return_the_picture_at_no_cost(model, street):
    editor, picture = Editor(model), to_pil(street[:1])
    for nothing in ("", "  ", None):
        result = editor.edit(picture, nothing, steps=3)
        assert np.array_equal(result.image, picture) and result.network_calls == 0
    assert not np.array_equal(editor.edit(picture, INSTRUCTION, steps=3).image, picture)


def test_the_verb_edits_and_counts(model, street):
    editor, picture = Editor(model), to_pil(street[:1])
    edit = editor.begin_edit(picture, INSTRUCTION, steps=3, seed=1)
    assert len(edit) == len(list(edit)) == 3
    result = edit.result()
    assert result.network_calls == 3 * 3 and result.image.size == (32, 32)
    changes = dict(seed=2), dict(image_scale=1.0), dict(text_scale=7.5), dict(rescale=0.7), dict(steps=4)
    for change in changes:
        other = editor.edit(picture, INSTRUCTION, **{**dict(steps=3, seed=1), **change})
        assert not np.array_equal(other.image, result.image), change
    again = editor.edit(picture, INSTRUCTION, steps=3, seed=1)
    assert np.array_equal(again.image, result.image)


def test_it_is_registered_with_its_weights_and_options():
    editor = controls("edit")["dual-cfg"]
    assert editor is instruct_edit and editor.weights == "town-instruct" and editor.kind == "denoiser"
    assert set(options_of(editor)) == {"steps", "image_scale", "text_scale", "rescale"}


def test_weights_without_room_for_the_picture_are_refused(tiny_editor, street):
    with pytest.raises(ValueError, match="take 0 extra channels, this control mechanism gives 3") as error:
        tiny_editor.edit(to_pil(street[:1]), INSTRUCTION, steps=3)
    assert len(str(error.value).splitlines()) <= 2
