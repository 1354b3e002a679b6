"""Masked editing in latents: what runs on pixels runs on cells, the hole tells nothing, windows of cells."""

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from minidiff.cli import main
from minidiff.control import controls
from minidiff.control import inpaint as inpaint_file
from minidiff.control import repaint as repaint_file
from minidiff.control.latents import held, latent_blend, latent_pin, latent_repaint, smoothed
from minidiff.control.outpaint import outpaint_canvas
from minidiff.control.repaint import repaint_path
from minidiff.editor import Editor, options_of
from minidiff.encoders.vae import cells_of
from minidiff.images import to_pil, to_uint8, to_x0
from minidiff.latent import LatentModel
from minidiff.measure import harmonic_fill
from minidiff.process.flow import Flow
from minidiff.process.guidance import norm_preserving
from minidiff.process.sample import sample
from minidiff.toytown import paint, scenes

CAPTION = "a red house on a summer day"
EDITORS = {"latent-repaint": latent_repaint, "latent-pin": latent_pin, "latent-blend": latent_blend}
QUICK = {"latent-repaint": dict(steps=6, jump=2, visits=2), "latent-pin": dict(steps=6),
         "latent-blend": dict(steps=6)}
EACH = pytest.mark.parametrize("control", EDITORS)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def last(states):
    return list(states)[-1].x


@pytest.fixture(scope="module")
def model(tiny_latent_weights):
    return LatentModel.load(tiny_latent_weights, "cpu")


@pytest.fixture(scope="module")
def street():
    return to_x0(to_uint8(paint(scenes(2, seed=3), 32)))


@pytest.fixture
def hole():
    """13 x 9 pixels, whose edges lie on no edge of a cell."""
    edit_mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    edit_mask[..., 9:22, 11:20] = True
    return edit_mask


def run(control, model, image, edit_mask, prompt=CAPTION, seed=0, **options):
    return EDITORS[control](model, image, edit_mask, prompt, generator=seeded(seed),
                            **{**QUICK[control], **options})


# The walks, each step written out by hand

def denoiser_of(model, z):
    return model.denoiser([CAPTION] * len(z), 2.0, (), z.shape[2:], norm_preserving)


def ancestral(z, x0_hat, t, t_next, noise):
    """The posterior of a flow: x0_hat and what is left of the old noise, with fresh noise for the rest."""
    kept = t_next * ((1 - t) * t_next) / ((1 - t_next) * t) if t_next else 0.0
    eps_hat = (z - (1 - t) * x0_hat) / t
    return (1 - t_next) * x0_hat + kept * eps_hat + (t_next**2 - kept**2) ** 0.5 * noise


def test_blending_is_eulers_step_inside_and_the_noised_truth_outside(model, street, hole):
    known, cells = held(model, street, hole)
    generator, denoise, times = seeded(), denoiser_of(model, known), model.times(6, known)
    z = torch.randn(known.shape, generator=generator)
    states = list(run("latent-blend", model, street, hole))
    for state, (t, t_next) in zip(states, pairwise(times), strict=True):
        foreground = z + (t_next - t) * denoise(z, t)
        background = (1 - t_next) * known + t_next * torch.randn(known.shape, generator=generator)
        z = foreground * cells + background * ~cells
        assert state.t == t_next and (state.x - z).abs().max() < 1e-4


def test_pinning_steps_towards_the_known_latents_outside(model, street, hole):
    known, cells = held(model, street, hole)
    generator, denoise, times = seeded(), denoiser_of(model, known), model.times(6, known)
    z = torch.randn(known.shape, generator=generator)
    states = list(run("latent-pin", model, street, hole))
    for state, (t, t_next) in zip(states, pairwise(times), strict=True):
        x0_hat = (z - t * denoise(z, t)) * cells + known * ~cells
        z = ancestral(z, x0_hat, t, t_next, torch.randn(known.shape, generator=generator))
        assert state.t == t_next and (state.x - z).abs().max() < 1e-4
        assert (state.x0_hat - x0_hat).abs().max() < 1e-4


def test_repaint_goes_up_and_down_the_shifted_levels(model, street, hole):
    known, cells = held(model, street, hole)
    generator, denoise = seeded(), denoiser_of(model, known)
    path = repaint_path(model.times(6, known), 2, 2)
    z = torch.randn(known.shape, generator=generator)
    states = list(run("latent-repaint", model, street, hole))
    for state, (t, t_next) in zip(states, pairwise(path), strict=True):
        noise = torch.randn(known.shape, generator=generator)
        if t_next > t:
            fade = (1 - t_next) / (1 - t)
            z = fade * z + (t_next**2 - (fade * t) ** 2) ** 0.5 * noise
        else:
            painted = ancestral(z, z - t * denoise(z, t), t, t_next, noise)
            z = painted * cells + ((1 - t_next) * known + t_next * noise) * ~cells
        assert state.t == t_next and (state.x - z).abs().max() < 1e-4
    assert sum(t_next > t for t, t_next in pairwise(path)) == 4


@EACH
def test_everything_editable_and_one_visit_is_sampling_bit_for_bit(control, model, street):
    everywhere = torch.ones(1, 1, 32, 32, dtype=torch.bool)
    once = dict(visits=1) if control == "latent-repaint" else {}
    generator = seeded()
    noise = torch.randn(2, 8, 8, 8, generator=generator)
    step = model.process.euler_step if control == "latent-blend" else None
    sampled = sample(model.process, denoiser_of(model, noise), noise, model.times(6, noise), generator, step)
    for state, same in zip(run(control, model, street, everywhere, **once), sampled, strict=True):
        assert state.t == same.t and torch.equal(state.x, same.x) and torch.equal(state.x0_hat, same.x0_hat)


@EACH
def test_kept_cells_end_as_the_known_latents(control, model, street, hole):
    known, cells = held(model, street, hole)
    gap = (last(run(control, model, street, hole)) - known).abs().amax(1, keepdim=True)
    assert gap[~cells.expand_as(gap)].max() < 1e-6 and gap[cells.expand_as(gap)].min() > 1e-3
    nothing = torch.zeros_like(hole)
    assert (last(run(control, model, street, nothing)) - model.latents(street)).abs().max() < 1e-6


def test_a_cell_may_change_if_any_of_its_pixels_may(model, street, hole):
    """Rows 9..21 are of cells 2..5, columns 11..19 of cells 2..4."""
    _, cells = held(model, street, hole)
    expected = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    expected[..., 2:6, 2:5] = True
    assert torch.equal(cells, expected) and torch.equal(model.cells(hole), cells_of(hole, 4))


@EACH
def test_a_batch_agrees_with_single_pictures(control, model, street, hole, monkeypatch):
    masks = torch.cat([hole, ~hole])
    draws = [torch.randn(2, 8, 8, 8, generator=seeded(i)) for i in range(30)]

    def edited(rows):
        left = iter(draws)
        for file in (repaint_file, inpaint_file):
            monkeypatch.setattr(file, "normal_like", lambda *_: next(left)[rows])
        return last(run(control, model, street[rows], masks[rows]))

    both = edited(slice(None))
    for i in range(2):
        assert (edited(slice(i, i + 1)) - both[i : i + 1]).abs().max() < 1e-3


@EACH
def test_the_caption_and_the_scale_matter_and_no_caption_is_not_guided(control, model, street, hole):
    def edited(prompt, **options):
        return last(run(control, model, street, hole, prompt, **options))

    results = [edited(CAPTION), edited("a blue car"), edited(""), edited(CAPTION, scale=1.0)]
    assert all((one - other).abs().max() > 1e-4 for i, one in enumerate(results) for other in results[:i])
    assert torch.equal(edited("", scale=5.0), results[2]) and torch.equal(edited(CAPTION), results[0])
    assert not torch.equal(edited(CAPTION, seed=1), results[0])


# What stands in the hole

@EACH
def test_what_is_in_the_hole_has_no_influence(control, model, street, hole):
    """Not even by way of the kept cells beside it, whose latents would otherwise tell."""
    shown = list(run(control, model, street, hole))
    for hidden in (street.flip(0), torch.full_like(street, 1.0), torch.full_like(street, torch.nan)):
        image = torch.where(hole, hidden, street)
        for state, same in zip(run(control, model, image, hole), shown, strict=True):
            assert torch.equal(state.x, same.x) and torch.equal(state.x0_hat, same.x0_hat)
    told = model.latents(torch.where(hole, street.flip(0), street)) - model.latents(street)
    assert told.abs().amax(1, keepdim=True)[~model.cells(hole).expand(2, -1, -1, -1)].max() > 0.05


def test_a_smooth_hole_misses_less_of_the_truth_than_another_picture_or_grey(model):
    """Error of the kept cells' latents against those of the true picture, which an editor should find."""
    truth = paint(scenes(32, seed=1), 32)
    edit_mask = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    edit_mask[..., 8:24, 8:24] = True
    keep, exact = ~cells_of(edit_mask, 4), model.latents(truth)
    fillings = {"smooth": smoothed(truth, edit_mask.expand(32, -1, -1, -1)),
                "harmonic": harmonic_fill(truth, edit_mask), "grey": truth.where(~edit_mask, 0),
                "another": torch.where(edit_mask, truth.roll(1, 0), truth)}
    missed = {name: ((model.latents(filled) - exact).square() * keep).mean().sqrt().item()
              for name, filled in fillings.items()}
    assert 0 < missed["smooth"] < 0.7 * min(missed["grey"], missed["another"]), missed
    assert missed["smooth"] < 1.25 * missed["harmonic"], missed                  # which is slower by far
    assert torch.equal(held(model, truth, edit_mask)[0], model.latents(fillings["smooth"]))


def test_a_smooth_hole_has_known_answers():
    """Pictures of one colour come back; a row's hole rises between its ends; no kept pixel, no colour."""
    edit_mask = torch.rand(2, 1, 24, 40, generator=seeded()) < 0.95
    plain = torch.full((2, 3, 24, 40), 0.3, dtype=torch.float64)
    assert (smoothed(plain.where(~edit_mask, torch.nan), edit_mask) - 0.3).abs().max() < 1e-12
    ends = torch.tensor([[[[-1.0] + [9.0] * 14 + [1.0]]]])
    inside = smoothed(ends, ends == 9)[0, 0, 0]
    assert inside[0] == -1 and inside[-1] == 1 and (inside.diff() >= 0).all() and inside.abs().max() == 1
    assert (inside + inside.flip(0)).abs().max() < 1e-6 and inside.diff().max() < 0.5
    grey, same = smoothed(plain, torch.tensor([True, False]).view(2, 1, 1, 1).expand(2, 1, 24, 40))
    assert torch.equal(grey, torch.zeros_like(grey)) and torch.equal(same, plain[1])
    picture = paint(scenes(2, 1), 40)[..., :24, :]
    assert torch.equal(smoothed(picture, edit_mask).where(~edit_mask, 0), picture.where(~edit_mask, 0))


# The editor

def test_they_are_registered_with_their_weights_and_options():
    options = {"latent-repaint": ["steps", "jump", "visits", "scale"], "latent-pin": ["steps", "scale"],
               "latent-blend": ["steps", "scale"]}
    for name, editor in EDITORS.items():
        assert controls("inpaint")[name] is editor and name in controls("outpaint")
        assert editor.weights == "town-context" and editor.kind == LatentModel.kind
        assert list(options_of(editor)) == options[name]


@EACH
def test_kept_pixels_come_back_identical_and_the_codecs_loss_stays_to_see(control, model):
    for width, height in ((32, 32), (40, 32), (32, 56)):
        picture = to_pil(paint(scenes(1, seed=width), 64)[..., :height, :width])
        edit_mask = torch.rand(1, 1, height, width, generator=seeded()) < 0.2
        result = Editor(model).inpaint(picture, edit_mask, control=control, **QUICK[control])
        before, after, raw = (np.array(each) for each in (picture, result.image, result.uncomposited))
        keep = ~edit_mask[0, 0].numpy()
        assert result.image.size == (width, height) and (after == before)[keep].all()
        assert (raw != before)[keep].any() and (after != before)[~keep].any()
        assert (after == raw)[~keep].all()
        assert result.measures["max_diff"] == 0 and result.measures["psnr"] == 60
        assert result.measures["uncomposited_psnr"] < 55


@EACH
def test_network_calls_are_counted_and_known_before(control, model, street, hole):
    """Each step asks with and without the caption, and both are prepared once; climbs ask nobody."""
    for prompt, branches in ((CAPTION, 2), (None, 1)):
        options = dict(prompt=prompt, control=control, **QUICK[control])
        edit = Editor(model).begin_inpaint(to_pil(street[:1]), hole, **options)
        states = list(edit)
        steps = 10 if control == "latent-repaint" else 6
        assert len(edit) == len(states) == (14 if control == "latent-repaint" else 6)
        assert edit.result().network_calls == branches * (steps + 1)
        assert np.array_equal(edit.result().uncomposited, to_pil(model.decode(states[-1].x)))
    untouched = Editor(model).inpaint(to_pil(street[:1]), torch.zeros_like(hole), control=control)
    assert np.array_equal(untouched.image, to_pil(street[:1])) and untouched.network_calls == 0


def test_latent_weights_that_were_named_inpaint_by_repaint_in_latents(model, street, hole):
    picture, options = to_pil(street[:1]), QUICK["latent-repaint"]
    plain = Editor(model).inpaint(picture, hole, **options)
    named = Editor(model).inpaint(picture, hole, control="latent-repaint", **options)
    assert np.array_equal(plain.image, named.image)
    plain = Editor(model).outpaint(picture, right=8, **options)
    named = Editor(model).outpaint(picture, right=8, control="latent-repaint", **options)
    assert np.array_equal(plain.image, named.image)


def test_bad_input_is_refused(model, street, hole, tiny_editor):
    for control, editor in EDITORS.items():
        for edit_mask in (hole.float(), hole[..., :24], hole.expand(3, -1, -1, -1)):
            with pytest.raises(ValueError, match="edit_mask is .* image is"):
                editor(model, street, edit_mask, "", generator=seeded())
        with pytest.raises(ValueError, match="H and W multiples of 4"):
            editor(model, street[..., :30], hole[..., :30], "", generator=seeded())
        with pytest.raises(ValueError, match=f"inpaint by {control} needs a latent denoiser"):
            tiny_editor.inpaint(to_pil(street[:1]), hole, control=control)
        with pytest.raises(ValueError, match=f"inpaint by {control} has no option jumps"):
            Editor(model).inpaint(to_pil(street[:1]), hole, control=control, jumps=2)
    with pytest.raises(ValueError, match="jump = 6, visits = 5, 6 steps: visits >= 1"):
        latent_repaint(model, street, hole, "", generator=seeded(), steps=6, jump=6)


# Outpainting: windows of cells

@EACH
def test_outpainting_keeps_the_picture_and_asks_in_windows_of_the_trained_size(control, model, street):
    sizes, picture = [], to_pil(street[:1])
    hook = model.dit.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape)))
    options = dict(prompt=CAPTION, control=control, **QUICK[control])
    result = Editor(model).outpaint(picture, right=24, top=8, **options)
    hook.remove()
    assert result.image.size == (56, 40) and set(sizes) == {(2 * 2 * 3, 8, 8, 8)}    # caption, 2 x 3 windows
    assert (np.array(result.image)[8:, :32] == np.array(picture)).all()
    steps = 10 if control == "latent-repaint" else 6
    assert result.network_calls == 2 * 2 * 3 * (steps + 1)


def stand_in(denoise):
    """A model in latents that are the picture's 4 x 4 pixels, trained at 32, with any denoise callable."""
    return SimpleNamespace(
        kind=LatentModel.kind, process=Flow(), size=32, factor=4,
        latents=lambda x0: torch.nn.functional.pixel_unshuffle(x0, 4),
        cells=lambda edit_mask: cells_of(edit_mask, 4),
        times=lambda steps, z: Flow().times(steps),
        denoiser=lambda *_: denoise)


@EACH
def test_a_denoiser_that_looks_at_single_cells_does_not_notice_the_windows(control, street):
    canvas, edit_mask = outpaint_canvas(street, left=32, bottom=8)
    small, large = stand_in(lambda z_t, t: z_t.sin()), stand_in(lambda z_t, t: z_t.sin())
    large.size = 64
    walks = [controls("outpaint")[control](each, canvas, edit_mask, "", generator=seeded(), **QUICK[control])
             for each in (small, large)]
    for one, other in zip(*walks, strict=True):
        assert (one.x - other.x).abs().max() < 1e-4
    assert one.x.shape == (2, 48, 10, 16)


@pytest.mark.parametrize("overlap, windows", [(None, 3), (0, 2), (7, 3), (24, 5), (28, 9)])
def test_the_overlap_is_in_pixels_and_half_a_window_unless_given(street, overlap, windows):
    """64 pixels in windows of 8 cells; 7 pixels hold one whole cell."""
    seen = []
    canvas, edit_mask = outpaint_canvas(street[:1], right=32)
    outpaint = controls("outpaint")["latent-pin"]
    model = stand_in(lambda z_t, t: seen.append(len(z_t)) or z_t)
    list(outpaint(model, canvas, edit_mask, "", generator=seeded(), steps=2, overlap=overlap))
    assert seen == [windows] * 2
    for bad in (-1, 32):
        with pytest.raises(ValueError, match=f"overlap = {bad}, size = 32: 0 <= overlap < size expected"):
            outpaint(model, canvas, edit_mask, "", generator=seeded(), overlap=bad)


# The command line

def test_the_command_line(model, street, hole, tiny_latent_weights, tmp_path, capsys):
    picture, mask, out = (str(tmp_path / f"{name}.png") for name in ("in", "mask", "out"))
    to_pil(street[:1]).save(picture)
    Image.fromarray(hole[0, 0].numpy()).save(mask)
    common = ["--model", str(tiny_latent_weights), "--device", "cpu", "--steps", "6"]
    for control in EDITORS:
        assert main(["inpaint", picture, mask, out, "--control", control, *common, "--prompt", CAPTION]) == 0
        expected = Editor(model).inpaint(picture, mask, CAPTION, control=control, steps=6)
        assert np.array_equal(Image.open(out), expected.image)
        assert "kept pixels: largest difference 0 of 255" in capsys.readouterr().out
        assert main(["outpaint", picture, out, "--right", "8", "--control", control, *common]) == 0
        assert Image.open(out).size == (40, 32)
    with pytest.raises(SystemExit):
        main(["inpaint", "--help"])
    assert "repaint,latent-repaint" not in (shown := capsys.readouterr().out) and "latent-blend" in shown
