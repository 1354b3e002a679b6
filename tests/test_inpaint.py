"""GLIDE inpainting: what the network sees, what is pinned, and plain sampling where everything may change."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from minidiff.control import controls
from minidiff.control.inpaint import glide_inpaint, hole_channels, inpaint, inpaint_step, pin_x0
from minidiff.denoisers.unet import UNet, UNetConfig
from minidiff.model import Model
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.sample import sample

PROCESSES = pytest.mark.parametrize(
    "process", [DDPM.linear(50), DDPM.cosine(50, "x0"), Flow()], ids=["eps", "x0", "v"]
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def halve(x_t, t):
    return 0.5 * x_t


def draw(seed, dtype=torch.float64):
    return torch.randn(2, 3, 8, 8, generator=seeded(seed), dtype=dtype)


def known_picture(dtype=torch.float32):
    return torch.rand(2, 3, 8, 8, generator=seeded(9), dtype=dtype) * 2 - 1


def left_half():
    edit_mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    edit_mask[..., :4] = True
    return edit_mask


def last(states):
    return list(states)[-1].x


def deterministic(process):
    return process.euler_step if isinstance(process, Flow) else process.ddim_step


# What the network sees

def test_hole_channels_are_the_picture_without_its_hole_and_the_hole():
    known = known_picture()
    seen = hole_channels(known, left_half())
    assert seen.shape == (2, 4, 8, 8) and seen.dtype == known.dtype
    assert not seen[:, :3, :, :4].any() and torch.equal(seen[:, :3, :, 4:], known[..., 4:])
    assert seen[:, 3].tolist() == [[[1.0] * 4 + [0.0] * 4] * 8] * 2
    hidden = torch.where(left_half(), float("nan"), known)
    assert torch.equal(hole_channels(hidden, left_half()), seen)
    each = torch.cat([left_half(), ~left_half()])
    assert torch.equal(hole_channels(known, each)[0], seen[0])
    assert torch.equal(hole_channels(known, each)[1], hole_channels(known, ~left_half())[1])


# Pinning and the step

@PROCESSES
@pytest.mark.parametrize("level", [1, 4, 8])
def test_pin_x0_keeps_the_known_and_leaves_the_hole_alone(process, level):
    x_t, prediction, known, t = draw(1), draw(2), draw(3), process.times(10)[level]
    pinned = pin_x0(process, x_t, prediction, t, known, left_half())
    assert torch.equal(pinned[..., :4], prediction[..., :4])
    x0_hat = process.predict_x0(x_t, pinned, t)
    assert (x0_hat - known)[..., 4:].abs().max() < 1e-12
    assert torch.equal(x0_hat[..., :4], process.predict_x0(x_t, prediction, t)[..., :4])
    a, s = (number.item() for number in process.signal_noise(t, x_t))
    by_hand = {"eps": (x_t - a * known) / s, "x0": known, "v": (x_t - known) / s}
    expected = by_hand[getattr(process, "predicts", "v")]
    assert (pinned - expected)[..., 4:].abs().max() < 1e-10


@PROCESSES
def test_the_step_draws_kept_pixels_from_the_posterior_of_the_truth(process):
    """q(x_next | x_t, x0 = known), by the rules for products of normal densities."""
    x_t, prediction, known, noise = draw(1), draw(2), draw(3), draw(4)
    t, t_next = process.times(10)[4:6]
    (a, s), (a_next, s_next) = ([n.item() for n in process.signal_noise(level, x_t)] for level in (t, t_next))
    r = a / a_next
    precision = 1 / s_next**2 + r**2 / (s**2 - (r * s_next) ** 2)
    mean = (a_next * known / s_next**2 + r * x_t / (s**2 - (r * s_next) ** 2)) / precision
    x = inpaint_step(process, x_t, prediction, t, t_next, known, left_half(), noise)
    assert (x - (mean + noise / precision**0.5))[..., 4:].abs().max() < 1e-10
    assert torch.equal(x[..., :4], process.step(x_t, prediction, t, t_next, noise)[..., :4])


@PROCESSES
def test_the_step_may_be_another(process):
    x_t, prediction, known, noise = draw(1), draw(2), draw(3), draw(4)
    t, t_next = process.times(10)[4:6]
    step = deterministic(process)
    x = inpaint_step(process, x_t, prediction, t, t_next, known, left_half(), noise, step=step)
    pinned = pin_x0(process, x_t, prediction, t, known, left_half())
    assert torch.equal(x, step(x_t, pinned, t, t_next))
    assert not torch.equal(x, process.step(x_t, pinned, t, t_next, noise))


# The loop

@PROCESSES
def test_everything_editable_is_sampling_bit_for_bit(process):
    known, everything, times = known_picture(), torch.ones(1, 1, 8, 8, dtype=torch.bool), process.times(10)
    for step in (None, deterministic(process)):
        generator = seeded(3)
        x = torch.randn(2, 3, 8, 8, generator=generator)
        sampled = list(sample(process, halve, x, times, generator, step=step))
        filled = list(inpaint(process, halve, known, everything, times, seeded(3), step=step))
        assert len(sampled) == len(filled) == 10
        for one, other in zip(sampled, filled):
            assert one.t == other.t and torch.equal(one.x, other.x) and torch.equal(one.x0_hat, other.x0_hat)


@PROCESSES
def test_kept_pixels_are_exact_at_the_end_without_compositing(process):
    exact = getattr(process, "predicts", None) == "x0"
    for dtype, rounding in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        known = known_picture(dtype)
        for step in (None, deterministic(process)):
            x = last(inpaint(process, halve, known, left_half(), process.times(12), seeded(), step=step))
            assert (x - known)[..., 4:].abs().max() <= (0 if exact else rounding)
            assert (x - known)[..., :4].abs().min() > 0 and x.isfinite().all()


@PROCESSES
def test_kept_uint8_pixels_come_back_identical_under_random_masks(process):
    """1,000 masks, each on a picture of its own: uint8 -> [-1, 1] -> inpaint -> uint8."""
    pixels = torch.randint(0, 256, (1000, 3, 8, 8), generator=seeded(1), dtype=torch.uint8)
    known = pixels.float() / 127.5 - 1
    share = torch.rand(1000, 1, 1, 1, generator=seeded(4))
    edit_mask = torch.rand(1000, 1, 8, 8, generator=seeded(2)) < share
    x = last(inpaint(process, halve, known, edit_mask, process.times(6), seeded()))
    back = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()
    assert (torch.where(edit_mask, pixels, back) == pixels).all()
    assert (back != pixels)[edit_mask.expand_as(pixels)].float().mean() > 0.9


@PROCESSES
def test_nothing_editable_returns_the_picture(process):
    known, nothing = known_picture(), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    x = last(inpaint(process, halve, known, nothing, process.times(6), seeded()))
    assert (x - known).abs().max() < 1e-6


@PROCESSES
def test_the_hole_is_never_read(process):
    hidden, times = torch.where(left_half(), float("nan"), known_picture()), process.times(6)
    shown = last(inpaint(process, halve, known_picture(), left_half(), times, seeded()))
    assert torch.equal(last(inpaint(process, halve, hidden, left_half(), times, seeded())), shown)


@PROCESSES
def test_same_seed_same_bits(process):
    known, times = known_picture(), process.times(6)
    runs = [last(inpaint(process, halve, known, left_half(), times, seeded(seed))) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@PROCESSES
def test_one_call_a_step_and_every_x0_hat_holds_the_known(process):
    times, seen, known = process.times(12), [], known_picture()

    def denoise(x_t, t):
        seen.append(t)
        return halve(x_t, t)

    states = list(inpaint(process, denoise, known, left_half(), times, seeded()))
    assert [state.t for state in states] == times[1:] and seen == times[:-1]
    for before, state in pairwise(states):
        assert torch.equal(state.x0_hat[..., 4:], known[..., 4:])
        own = process.predict_x0(before.x, halve(before.x, before.t), before.t)
        assert torch.equal(state.x0_hat[..., :4], own[..., :4])


def test_kept_pixels_are_a_fair_sample_of_every_level():
    """10,000 draws of a picture of ones: kept pixels have mean a and deviation s at every level."""
    process, known = Flow(), torch.ones(10_000, 1, 1, 2)
    edit_mask = torch.tensor([True, False]).view(1, 1, 1, 2)
    for state in inpaint(process, halve, known, edit_mask, process.times(10), seeded()):
        a, s = (number.item() for number in process.signal_noise(state.t, known))
        kept = state.x[..., 1]
        assert abs(kept.mean().item() - a) < 0.05 and abs(kept.std().item() - s) < 0.04


@pytest.mark.parametrize("shape, dtype", [
    ((8, 8), torch.bool), ((1, 3, 8, 8), torch.bool), ((1, 1, 6, 8), torch.bool), ((3, 1, 8, 8), torch.bool),
    ((1, 1, 8, 8), torch.float32),
], ids=["rank", "channels", "height", "batch", "dtype"])
def test_masks_that_do_not_fit_are_refused(shape, dtype):
    edit_mask = torch.ones(shape, dtype=dtype)
    for refuse in (lambda: next(inpaint(Flow(), halve, known_picture(), edit_mask, [1.0, 0.0], seeded())),
                   lambda: hole_channels(known_picture(), edit_mask)):
        with pytest.raises(ValueError, match="edit_mask is .* image is") as error:
            refuse()
        assert str(error.value).count("\n") < 2


# The editor

def test_registered_editor_shows_the_network_the_hole():
    asked = []

    def denoiser(prompts, scale, extra):
        asked.append((prompts, scale, extra))
        return halve

    model, editor = SimpleNamespace(process=Flow(), size=8, denoiser=denoiser), controls("inpaint")["glide"]
    assert editor is glide_inpaint and editor.weights == "town-inpaint" and editor.kind == "denoiser"
    options = dict(generator=seeded(), steps=8, scale=3.0)
    states = list(editor(model, known_picture(), left_half(), "a house", **options))
    (prompts, scale, extra), = asked
    assert prompts == ["a house", "a house"] and scale == 3.0
    assert torch.equal(extra, hole_channels(known_picture(), left_half()))
    assert [state.t for state in states] == Flow().times(8)[1:]
    filled = inpaint(Flow(), halve, known_picture(), left_half(), Flow().times(8), seeded())
    assert torch.equal(states[-1].x, last(filled))


def network_of(extra_channels):
    torch.manual_seed(0)
    config = UNetConfig(size=8, channels=(16, 32), blocks=(1, 1), condition_dim=32, text_dim=0,
                        extra_channels=extra_channels)
    unet = UNet(config)
    for parameter in unet.parameters():
        if not parameter.any():                             # what starts at zero would hide the rest
            torch.nn.init.normal_(parameter, std=0.2)
    return Model(DDPM.cosine(1000, "x0"), unet)


def test_a_network_with_a_mask_channel_looks_at_the_kept_and_not_into_the_hole():
    model, known = network_of(4), known_picture()

    def filled(picture):
        return last(glide_inpaint(model, picture, left_half(), "", generator=seeded(), steps=4))

    first = filled(known)
    assert torch.equal(first[..., 4:], known[..., 4:])
    assert torch.equal(filled(torch.where(left_half(), 0.3, known)), first)
    elsewhere = filled(torch.where(left_half(), known, -known))
    assert (elsewhere - first)[..., :4].abs().max() > 1e-3


def test_weights_without_room_for_the_hole_are_refused():
    with pytest.raises(ValueError, match="take 0 extra channels, this control mechanism gives 4") as error:
        glide_inpaint(network_of(0), known_picture(), left_half(), "", generator=seeded(), steps=4)
    assert len(str(error.value).splitlines()) <= 2
