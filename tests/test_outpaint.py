"""Outpainting: the canvas, the windows, and that windows leave no trace of themselves."""

from types import SimpleNamespace

import pytest
import torch

from minidiff.control import controls
from minidiff.control.inpaint import hole_channels
from minidiff.control.outpaint import outpaint_canvas, outpainter, window_starts, windowed
from minidiff.editor import options_of
from minidiff.process.flow import Flow


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def picture(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=seeded(), dtype=dtype)


def test_canvas_holds_the_image_and_the_rest_may_change():
    image = picture(2, 3, 5, 7)
    canvas, edit_mask = outpaint_canvas(image, left=1, right=2, top=3, bottom=4)
    assert canvas.shape == (2, 3, 12, 10)
    assert edit_mask.shape == (2, 1, 12, 10) and edit_mask.dtype == torch.bool
    assert torch.equal(canvas[:, :, 3:8, 1:8], image) and not edit_mask[:, :, 3:8, 1:8].any()
    assert edit_mask.sum() == 2 * (12 * 10 - 5 * 7)
    assert (canvas * edit_mask).abs().max() == 0


def test_canvas_without_growth_is_the_image():
    canvas, edit_mask = outpaint_canvas(picture(1, 3, 4, 4))
    assert torch.equal(canvas, picture(1, 3, 4, 4)) and not edit_mask.any()


def test_canvas_refuses_to_shrink():
    with pytest.raises(ValueError, match="-1, 0, 0, 0"):
        outpaint_canvas(picture(1, 3, 4, 4), left=-1)


@pytest.mark.parametrize("overlap", [0, 1, 32, 63])
def test_windows_cover_every_length_with_enough_overlap(overlap):
    for length in (8, 63, 64, 65, 96, 127, 128, 200, 512):
        starts = window_starts(length, 64, overlap)
        assert starts[0] == 0 and starts[-1] == max(length - 64, 0)
        assert all(0 < later - earlier <= 64 - overlap for earlier, later in zip(starts, starts[1:]))
    assert window_starts(96, 64, 32) == [0, 32]


@pytest.mark.parametrize("overlap", [-1, 64])
def test_windows_refuse_a_bad_overlap(overlap):
    with pytest.raises(ValueError, match=f"overlap = {overlap}"):
        window_starts(96, 64, overlap)


def test_a_denoiser_that_looks_at_single_pixels_does_not_notice_the_windows():
    def denoise(x_t, t):
        return x_t.sin() * (t.view(-1, 1, 1, 1) if isinstance(t, torch.Tensor) else t)

    for shape in [(2, 3, 8, 8), (2, 3, 8, 13), (2, 3, 20, 11), (2, 3, 5, 9)]:
        for t in (0.5, torch.tensor([0.5, 0.25], dtype=torch.float64)):
            x = picture(*shape)
            assert (windowed(denoise, 8, 4)(x, t) - denoise(x, t)).abs().max() < 1e-10


def test_one_batch_of_windows_window_by_window():
    seen = []
    x, t = picture(2, 3, 8, 12), torch.tensor([0.5, 0.25])
    windowed(lambda x_t, t: seen.append((x_t, t)) or x_t, 8, 4)(x, t)
    (batch, levels), = seen
    assert torch.equal(batch, torch.cat([x[..., :8], x[..., 4:]]))
    assert levels.tolist() == [0.5, 0.25, 0.5, 0.25]


def test_windows_that_disagree_are_blended_evenly():
    """The first window says 0, the second 1: over the pixels they share, the answer rises in equal steps."""
    verdict = torch.cat([torch.zeros(1, 1, 8, 8), torch.ones(1, 1, 8, 8)]).double()
    blend = windowed(lambda x_t, t: verdict, 8, 4)(picture(1, 1, 8, 12), 0.5)[0, 0]
    expected = torch.tensor([0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 5, 5]).double() / 5
    assert (blend - expected).abs().max() < 1e-10


def model_of(size, denoiser):
    return SimpleNamespace(kind="denoiser", process=Flow(), size=size, denoiser=denoiser)


def test_registered_editor_grows_a_picture_and_keeps_it():
    asked, sizes = [], []

    def denoiser(prompts, scale, extra=None):
        asked.append((prompts, scale, extra))
        return lambda x_t, t: sizes.append(tuple(x_t.shape)) or 0.5 * x_t

    model = model_of(8, denoiser)
    image = picture(2, 3, 8, 8, dtype=torch.float32)
    canvas, edit_mask = outpaint_canvas(image, right=4)
    editor, options = controls("outpaint")["repaint"], dict(generator=seeded(), steps=6, jump=2, visits=2)
    states = list(editor(model, canvas, edit_mask, "a road", **options))
    assert asked == [(["a road"] * 4, 1.0, None)] and set(sizes) == {(4, 3, 8, 8)}
    assert torch.equal(states[-1].x[..., :8], image) and states[-1].x.shape == (2, 3, 8, 12)


def test_a_canvas_no_larger_than_the_training_size_needs_no_windows():
    sizes = []

    def denoise(x_t, t):
        sizes.append(tuple(x_t.shape))
        return x_t

    model = model_of(16, lambda prompts, scale, extra=None: denoise)
    canvas, edit_mask = outpaint_canvas(picture(1, 3, 8, 8), left=4)
    editor = controls("outpaint")["repaint"]
    list(editor(model, canvas, edit_mask, "", generator=seeded(), steps=4, jump=1, visits=1))
    assert set(sizes) == {(1, 3, 8, 12)}


# Derived from the editors that inpaint

def test_every_editor_that_inpaints_outpaints():
    inpainters, outpainters = controls("inpaint"), controls("outpaint")
    assert {"repaint", "glide"} <= set(inpainters) == set(outpainters)
    for name, inpaint in inpainters.items():
        outpaint = outpainters[name]
        assert (outpaint.weights, outpaint.kind) == (inpaint.weights, inpaint.kind)
        assert options_of(outpaint) == {**options_of(inpaint), "overlap": None}


def test_extra_channels_are_cut_into_the_same_windows():
    """A denoiser answers with the kept picture that it is shown: together, all windows show the canvas."""
    asked = []

    def denoiser(prompts, scale, extra):
        asked.append((prompts, scale, extra))
        return lambda x_t, t: x_t - extra[:, :3]             # for a flow at level 1: x0_hat is the extra

    image = picture(2, 3, 8, 8, dtype=torch.float32)
    canvas, edit_mask = outpaint_canvas(image, right=4, top=8)
    options = dict(generator=seeded(), steps=1, scale=3.0, overlap=4)
    outpaint = controls("outpaint")["glide"]
    state, = outpaint(model_of(8, denoiser), canvas, edit_mask, "a road", **options)
    (prompts, scale, extra), = asked
    whole = hole_channels(canvas, edit_mask)
    cuts = [whole[..., y : y + 8, x : x + 8] for y in (0, 4, 8) for x in (0, 4)]
    assert (prompts, scale) == (["a road"] * 12, 3.0) and torch.equal(extra, torch.cat(cuts))
    assert (state.x - whole[:, :3]).abs().max() < 1e-5 and (state.x0_hat - whole[:, :3]).abs().max() < 1e-5


@pytest.mark.parametrize("overlap, windows", [(None, 5), (2, 4), (4, 5), (6, 9)])
def test_the_overlap_is_half_a_window_unless_given(overlap, windows):
    calls = []

    def denoiser(prompts, scale, extra=None):
        calls.append(len(prompts))
        return lambda x_t, t: x_t

    canvas, edit_mask = outpaint_canvas(picture(1, 3, 8, 8, dtype=torch.float32), right=16)
    model, outpaint = model_of(8, denoiser), controls("outpaint")["repaint"]
    options = dict(generator=seeded(), steps=2, visits=1)
    list(outpaint(model, canvas, edit_mask, "", overlap=overlap, **options))
    assert calls == [windows]
    with pytest.raises(ValueError, match="overlap = 8, size = 8"):
        outpaint(model, canvas, edit_mask, "", overlap=8, **options)


def test_a_network_without_levels_sees_the_whole_canvas():
    """Windows are of a denoiser: a one-pass network is handed on as it is, with the options of its editor."""
    handed = []

    def inpaint(model, image, edit_mask, prompt, *, generator, strictness=1):
        handed.append((model, image, edit_mask, prompt, generator, strictness))
        return iter(())

    inpaint.weights, inpaint.kind = "some", "one-pass network"
    model, generator = SimpleNamespace(kind="one-pass network", size=8), seeded()
    canvas, edit_mask = outpaint_canvas(picture(1, 3, 8, 8), right=8)
    outpaint = outpainter(inpaint)
    outpaint(model, canvas, edit_mask, "a road", generator=generator, strictness=2)
    assert handed == [(model, canvas, edit_mask, "a road", generator, 2)]
    assert (outpaint.weights, outpaint.kind) == ("some", "one-pass network")
