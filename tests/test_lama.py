"""LaMa: its Fourier convolutions, computed another way; what reaches where; unseen holes; the editor."""

from dataclasses import replace
from math import pi, sqrt

import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from minidiff.control import controls
from minidiff.control.lama import lama_inpaint, lama_step
from minidiff.denoisers.lama import (
    FourierBlock,
    FourierConvolution,
    LaMa,
    LaMaConfig,
    SpectralTransform,
    picture,
    spectrum,
)
from minidiff.editor import Editor
from minidiff.images import to_tensor
from minidiff.model import LaMaModel

SMALL = LaMaConfig(size=32, channels=(16, 48), blocks=2, global_share=2 / 3)
LOCAL = replace(SMALL, global_share=0)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def randomise(net, seed=0):
    """Fill every parameter, the zeros too, so that nothing is hidden by how a network starts."""
    generator = seeded(seed)
    for parameter in net.parameters():
        parameter.data.normal_(0, 0.1, generator=generator)
    return net


def normal(*shape, seed=1, dtype=torch.float64):
    return torch.randn(shape, generator=seeded(seed), dtype=dtype)


def inputs(batch=3, height=16, width=24):
    """Pictures, each with a hole of its own."""
    image = torch.rand(batch, 3, height, width, generator=seeded(5)) * 2 - 1
    edit_mask = torch.zeros(batch, 1, height, width, dtype=torch.bool)
    for i, one in enumerate(edit_mask):
        one[:, 2 + i : 9, 3 : 14 + i] = True
    return image, edit_mask


# The equations

def waves(n):
    """exp(-2 pi i k m / n) / sqrt(n), (n, n)."""
    turns = torch.outer(torch.arange(n), torch.arange(n)).double() * 2 * pi / n
    return torch.complex(turns.cos(), -turns.sin()) / sqrt(n)


def direct_spectrum(x):
    """(B, C, H, W) -> complex (B, C, H, W/2 + 1), by the sum itself."""
    height, width = x.shape[2:]
    full = torch.einsum("km,ln,bcmn->bckl", waves(height), waves(width), x.to(torch.complex128))
    return full[..., : width // 2 + 1]


def direct_picture(half, width):
    """The real part of the sum over all frequencies, those left out being the mirrored ones."""
    weight = torch.tensor([1.0 if k in (0, width / 2) else 2.0 for k in range(half.shape[3])])
    height, columns = waves(half.shape[2]).conj(), waves(width)[: half.shape[3]].conj()
    return torch.einsum("km,ln,bckl->bcmn", height, columns, half * weight).real


def as_complex(parts):
    return torch.complex(*parts.chunk(2, 1))


@pytest.mark.parametrize("height, width", [(8, 8), (6, 10), (4, 7), (5, 2)])
def test_spectrum_and_its_inverse_against_the_sums(height, width):
    x = normal(2, 3, height, width)
    parts = spectrum(x)
    assert parts.shape == (2, 6, height, width // 2 + 1)
    assert (as_complex(parts) - direct_spectrum(x)).abs().max() < 1e-12
    assert (picture(parts, width) - x).abs().max() < 1e-12


@pytest.mark.parametrize("height, width", [(8, 8), (6, 10), (4, 7)])
def test_the_inverse_of_frequencies_that_no_real_picture_has(height, width):
    mixed = normal(2, 6, height, width // 2 + 1)
    assert (picture(mixed, width) - direct_picture(as_complex(mixed), width)).abs().max() < 1e-12


def test_the_transform_keeps_lengths_at_any_size():
    """Orthonormal: so that weights learnt at one size fit another."""
    for side in (8, 64):
        x = normal(1, 1, side, side)
        square = as_complex(spectrum(x)).abs().square()
        whole = 2 * square.sum() - square[..., [0, -1]].sum()                      # with the mirrored columns
        assert whole.item() == pytest.approx(x.square().sum().item())


def normalised(x, layer):
    """GroupNorm of 16 channels a group, from means."""
    groups = x.reshape(len(x), x.shape[1] // 16, -1)
    spread = (groups.var(2, unbiased=False, keepdim=True) + 1e-5).sqrt()
    x = ((groups - groups.mean(2, keepdim=True)) / spread).reshape(x.shape)
    return x * layer.weight.view(1, -1, 1, 1) + layer.bias.view(1, -1, 1, 1)


def pointwise(x, layer):
    return torch.einsum("bchw,dc->bdhw", x, layer.weight[:, :, 0, 0]) + layer.bias.view(1, -1, 1, 1)


def direct_transform(x, net):
    h = normalised(pointwise(x, net.enter[0]), net.enter[1]).clamp(min=0)
    half = direct_spectrum(h)
    mixed = normalised(pointwise(torch.cat([half.real, half.imag], 1), net.mix[0]), net.mix[1]).clamp(min=0)
    return pointwise(h + direct_picture(as_complex(mixed), x.shape[3]), net.leave)


def test_spectral_transform_against_direct_sums():
    net, x = randomise(SpectralTransform(32)).double(), normal(2, 32, 6, 8)
    assert (net(x) - direct_transform(x, net)).abs().max() < 1e-12


def convolved(x, weight, bias=None):
    """A 3x3 convolution by nine shifted copies, zeros beyond the border."""
    padded, (height, width) = F.pad(x, (1, 1, 1, 1)), x.shape[2:]
    total = sum(torch.einsum("bchw,dc->bdhw", padded[:, :, i : i + height, j : j + width], weight[:, :, i, j])
                for i in range(3) for j in range(3))
    return total if bias is None else total + bias.view(1, -1, 1, 1)


def direct_convolution(x, net):
    """Four paths, of 16 local channels and 32 global ones."""
    weight, bias = net.from_local.weight, net.from_local.bias
    local, whole = x[:, :16], x[:, 16:]
    to_local = convolved(local, weight[:16], bias[:16])
    to_local = to_local + convolved(whole, net.global_to_local.weight, net.global_to_local.bias)
    to_global = convolved(local, weight[16:], bias[16:]) + direct_transform(whole, net.global_to_global)
    return torch.cat([to_local, to_global], 1)


def test_fourier_convolution_against_its_four_paths():
    net, x = randomise(FourierConvolution(48, 32)).double(), normal(2, 48, 6, 8)
    assert (net(x) - direct_convolution(x, net)).abs().max() < 1e-12


def test_without_global_channels_it_is_a_plain_convolution():
    net, x = randomise(FourierConvolution(48, 0)).double(), normal(2, 48, 6, 8)
    assert [name for name, _ in net.named_parameters()] == ["from_local.weight", "from_local.bias"]
    assert (net(x) - convolved(x, net.from_local.weight, net.from_local.bias)).abs().max() < 1e-12


def test_block_against_its_two_convolutions():
    block, x = randomise(FourierBlock(48, 32)).double(), normal(2, 48, 6, 8)
    h = x
    for norm, _, convolution in block.branch:
        h = direct_convolution(normalised(h, norm).clamp(min=0), convolution)
    assert (block(x) - x - h).abs().max() < 1e-12


@pytest.mark.parametrize("global_channels", [0, 32])
def test_blocks_start_as_the_identity(global_channels):
    block, x = FourierBlock(48, global_channels), normal(2, 48, 6, 8, dtype=torch.float32)
    assert torch.equal(block(x), x)
    assert not torch.equal(randomise(block)(x), x)


# What reaches where

@pytest.mark.parametrize("global_channels, reached", [(0, 9), (32, 256)])
def test_a_far_cell_is_seen_by_one_convolution_only_through_the_global_path(global_channels, reached):
    net, x = randomise(FourierConvolution(48, global_channels)).double(), normal(1, 48, 16, 16)
    moved = x.clone()
    moved[..., 4, 5] += 1
    difference = (net(moved) - net(x))[0].abs().amax(0)                            # (16, 16)
    assert (difference > 1e-9).sum() == reached
    assert (difference[3:6, 4:7] > 1e-9).all()


@pytest.mark.parametrize("global_channels", [0, 32])
def test_a_far_cell_in_one_block_with_norms_that_do_not_look_around(global_channels):
    """GroupNorm takes its mean over all cells, so a block with it hands far cells on in either case."""
    block, x = randomise(FourierBlock(48, global_channels)).double(), normal(1, 48, 16, 16)
    for layer in block.branch:
        layer[0] = torch.nn.Identity()
    moved = x.clone()
    moved[..., 0, 0] += 1
    difference = (block(moved) - block(x))[0].abs().amax(0)
    assert (difference[3:14, 3:14].max() > 1e-9) == bool(global_channels)
    assert (difference[:3, :3] > 1e-9).all()


@pytest.mark.parametrize("config", [SMALL, LOCAL], ids=["global", "local"])
def test_what_stands_in_the_hole_is_not_looked_at_and_what_is_kept_is(config):
    net, (image, edit_mask) = randomise(LaMa(config)), inputs()
    filled = net(image, edit_mask)
    for other in (-image, torch.full_like(image, float("nan"))):
        assert torch.equal(net(torch.where(edit_mask, other, image), edit_mask), filled)
        kept_changed = net(torch.where(edit_mask, image, other), edit_mask)
        assert not torch.allclose(kept_changed, filled, atol=1e-3)


def test_a_hole_is_told_from_grey_pixels():
    net, (image, edit_mask) = randomise(LaMa(SMALL)), inputs()
    grey, nothing = image.masked_fill(edit_mask, 0), torch.zeros_like(edit_mask)
    assert (net(grey, edit_mask) - net(grey, nothing)).abs().max() > 1e-2


def test_a_batch_is_its_pictures_one_by_one_in_training_and_after():
    """No running state: a batch norm would fail both."""
    net, (image, edit_mask) = randomise(LaMa(SMALL)), inputs()
    batch = net(image, edit_mask)
    assert torch.equal(net.eval()(image, edit_mask), batch)
    for i in range(3):
        assert (net(image[i : i + 1], edit_mask[i : i + 1]) - batch[i]).abs().max() < 1e-5
    repeated = net(image, edit_mask[:1].repeat(3, 1, 1, 1))
    assert torch.equal(net(image, edit_mask[:1]), repeated) and not torch.equal(repeated, batch)


def test_details_go_round_the_coarse_cells():
    """With the way up cut off, the finest cells still hand themselves across."""
    net, (image, edit_mask) = randomise(LaMa(SMALL)), inputs()
    for parameter in net.grow.parameters():
        parameter.data.zero_()
    assert (net(image, edit_mask) - net(image.flip(3), edit_mask)).abs().max() > 1e-2


# The network

def test_a_new_network_paints_grey():
    assert torch.equal(LaMa(SMALL)(*inputs()), torch.zeros(3, 3, 16, 24))


def test_pixels_stay_within_range():
    net = randomise(LaMa(SMALL))
    net.head[2].weight.data *= 100
    filled = net(*inputs())
    assert filled.abs().max() <= 1 and filled.max() > 0.9 and filled.min() < -0.9


@pytest.mark.parametrize("height, width", [(8, 8), (64, 64), (40, 24), (96, 64)])
def test_sizes(height, width):
    net = randomise(LaMa(replace(SMALL, channels=(16, 32, 48), blocks=1)))
    image, edit_mask = torch.rand(1, 3, height, width), torch.ones(1, 1, height, width, dtype=torch.bool)
    assert net(image, edit_mask).shape == image.shape


@pytest.mark.parametrize("config", [SMALL, LOCAL], ids=["global", "local"])
def test_gradients_reach_every_parameter(config):
    """After updates: the head starts at zero, and behind it the last layers of every block do."""
    torch.manual_seed(0)
    net, (image, edit_mask) = LaMa(config), inputs()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        (net(image, edit_mask) - image).abs().mean().backward()
        optimizer.step()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


def test_half_precision_agrees_and_returns_the_input_dtype():
    """bfloat16 has no FFT: that one is computed in float32, under autocast as with weights in bfloat16."""
    net, (image, edit_mask) = randomise(LaMa(SMALL)).to(memory_format=torch.channels_last), inputs()
    full = net(image, edit_mask)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = net(image, edit_mask)
        (mixed - image).abs().mean().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())
    half = net.bfloat16()(image, edit_mask)
    for result in (mixed, half):
        assert result.dtype == torch.float32 and 0 < (result - full).abs().max() < 0.05


def test_the_shipped_size():
    """At most 2 MiB in half precision, with room for names; so is the one without a global path."""
    for config in (LaMaConfig(), LaMaConfig(global_share=0, blocks=3)):
        assert 750_000 < sum(p.numel() for p in LaMa(config).parameters()) < 1_030_000


@pytest.mark.parametrize("changes, message", [
    (dict(image=torch.zeros(3, 16, 24)), r"image is \(3, 16, 24\): \(B, 3, H, W\), H and W multiples of 4"),
    (dict(image=torch.zeros(3, 4, 16, 24)), r"image is \(3, 4, 16, 24\): \(B, 3, H, W\)"),
    (dict(image=torch.zeros(3, 3, 16, 22)), r"image is \(3, 3, 16, 22\): .* multiples of 4 expected"),
    (dict(edit_mask=torch.ones(16, 24, dtype=torch.bool)),
     r"edit_mask is torch.bool, \(16, 24\): bool, \(3 or 1, 1, 16, 24\) expected"),
    (dict(edit_mask=torch.ones(2, 1, 16, 24, dtype=torch.bool)), r"\(2, 1, 16, 24\): bool, \(3 or 1"),
    (dict(edit_mask=torch.ones(3, 3, 16, 24, dtype=torch.bool)), r"\(3, 3, 16, 24\): bool, \(3 or 1"),
    (dict(edit_mask=torch.ones(3, 1, 16, 16, dtype=torch.bool)), r"\(3, 1, 16, 16\): bool, \(3 or 1"),
    (dict(edit_mask=torch.ones(3, 1, 16, 24)), r"edit_mask is torch.float32, \(3, 1, 16, 24\): bool"),
])
def test_bad_input(changes, message):
    good = dict(zip(("image", "edit_mask"), inputs(), strict=True))
    with pytest.raises(ValueError, match=message):
        LaMa(SMALL)(**{**good, **changes})


def test_configuration():
    assert LaMaConfig.from_dict({"channels": [32, 64], "global_share": 0.5, "size": 28}).multiple == 4
    assert LaMaConfig().global_channels == 96 and LaMaConfig(global_share=0).global_channels == 0
    for wrong, message in (
        (dict(chanels=(64,)), "does not know chanels"), (dict(channels=(60, 128)), r"channels = \(60, 128\)"),
        (dict(global_share=1.0), "128 of 128 channels, a multiple of 32 and fewer than all expected"),
        (dict(global_share=-0.25), "-32 of 128 channels"), (dict(global_share=0.8), "102 of 128 channels"),
        (dict(channels=(64, 96)), "72 of 96"), (dict(blocks=0), "blocks = 0"), (dict(size=62), "size = 62"),
    ):
        with pytest.raises(ValueError, match=message):
            LaMaConfig.from_dict(wrong)


# The editor

def model_of(config=SMALL):
    return LaMaModel(randomise(LaMa(config)))


def test_the_step_puts_the_filling_in_the_hole_only():
    image, edit_mask = inputs()
    step = lama_step(image, -image, edit_mask)
    for b, y, x in ((0, 5, 5), (1, 3, 3), (2, 0, 0), (2, 8, 15), (2, 8, 16)):
        sign = -1 if edit_mask[b, 0, y, x] else 1
        assert torch.equal(step[b, :, y, x], sign * image[b, :, y, x])
    assert edit_mask[2, 0, 8, 15] and not edit_mask[2, 0, 8, 16]                   # both sides of an edge


def test_registered_editor_yields_one_state_with_the_raw_picture_beside_the_composited_one():
    editor, model, (image, edit_mask) = controls("inpaint")["lama"], model_of(), inputs()
    assert editor is lama_inpaint and (editor.weights, editor.kind) == ("town-lama", LaMaModel.kind)
    with model.counted() as calls:
        states = list(editor(model, image, edit_mask, "", generator=seeded()))
    assert len(states) == 1 and states[0].t == 0 and calls == [3]
    assert torch.equal(states[0].x0_hat, model.lama(image, edit_mask))
    assert torch.equal(states[0].x, torch.where(edit_mask, states[0].x0_hat, image))
    assert (states[0].x0_hat - image)[~edit_mask.expand_as(image)].abs().min() > 0  # kept only nearly
    with pytest.raises(ValueError, match='prompt "a house": none expected, LaMa reads no text'):
        editor(model, image, edit_mask, "a house", generator=seeded())


def test_it_fills_and_extends_real_pictures():
    pixels = torch.randint(0, 256, (32, 32, 3), generator=seeded(), dtype=torch.uint8)
    image, edit_mask = Image.fromarray(pixels.numpy()), torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    edit_mask[..., 8:20, 4:30] = True
    editor = Editor(model_of())
    edit = editor.begin_inpaint(image, edit_mask, control="lama")
    assert len(edit) == 1
    result = edit.result()
    same = (to_tensor(result.image) == to_tensor(image)).all(1, keepdim=True)
    assert result.network_calls == 1 and same[~edit_mask].all() and not same[edit_mask].all()
    wider = editor.outpaint(image, left=8, control="lama")
    assert wider.image.size == (40, 32) and wider.network_calls == 1
    assert torch.equal(to_tensor(wider.image)[..., 8:], to_tensor(image))
