"""The VAE: latents and back, what is local, normalised latents, the codec's floor, masks for latents."""

from dataclasses import asdict
from math import log

import pytest
import torch

from minidiff.checkpoint import CheckpointError, save_weights
from minidiff.encoders.vae import VAE, Block, VAEConfig, cells_of, codec_floor, kl_divergence
from minidiff.measure import psnr
from minidiff.toytown import paint, scenes

CONFIG = VAEConfig(latent_channels=5, channels=16)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.fixture
def vae():
    """Untrained, in float64; also what starts at zero has weights, and no channel has mean 0 and scale 1."""
    torch.manual_seed(0)
    vae = VAE(CONFIG).double().eval()
    for parameter in vae.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    vae.shift.copy_(normal(5))
    vae.scale.copy_(0.5 + normal(5, seed=1).abs())
    return vae.requires_grad_(False)


@pytest.fixture
def pictures():
    return paint(scenes(4, seed=3), 32).double()


# Latents and back

@pytest.mark.parametrize("size", [(64, 64), (32, 48), (8, 72)])
def test_a_picture_of_any_multiple_of_8_becomes_a_quarter_of_its_sides_and_comes_back(vae, size):
    x0 = normal(2, 3, *size).clamp(-1, 1)
    cells = 2, 5, size[0] // 4, size[1] // 4
    assert [part.shape for part in (*vae.encode(x0), vae.latents(x0))] == [cells] * 3
    assert vae.decode(vae.latents(x0)).shape == x0.shape
    assert torch.equal(vae.round_trip(x0), vae.decode(vae.latents(x0)))


def test_every_number_keeps_its_place(vae, pictures):
    """Mirrored weights turn mirrored pictures into mirrored ones: no patch is put together wrongly."""
    mirror = VAE(CONFIG).double().requires_grad_(False)
    mirror.load_state_dict(vae.state_dict())
    across = torch.arange(48).view(3, 4, 4).flip(2).flatten()                      # a patch, right to left
    for layer in mirror.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.copy_(layer.weight.flip(3))
    mirror.encoder[0].weight.copy_(mirror.encoder[0].weight[:, across])
    mirror.decoder[-1].weight.copy_(mirror.decoder[-1].weight[across])
    mirror.decoder[-1].bias.copy_(mirror.decoder[-1].bias[across])
    assert (mirror.round_trip(pictures.flip(3)).flip(3) - vae.round_trip(pictures)).abs().max() < 1e-12


def test_the_decoder_undoes_the_normalisation(vae, pictures):
    mean, _ = vae.encode(pictures)
    assert (vae.decode(vae.latents(pictures)) - vae.pixels(mean).clamp(-1, 1)).abs().max() < 1e-12


def test_what_is_decoded_is_a_picture(vae):
    found = vae.decode(1e3 * normal(1, 5, 4, 4))
    assert found.min() == -1 and found.max() == 1


def test_training_draws_latents_from_where_the_encoder_says(vae, pictures):
    """Without noise the mean, not clamped; the noise's effect on z is that of the deviation."""
    noise, none = normal(4, 5, 8, 8), torch.zeros(4, 5, 8, 8, dtype=torch.float64)
    x0_hat, mean, log_variance = vae(pictures, none)
    assert torch.equal(x0_hat, vae.pixels(mean))
    drawn = mean + log_variance.exp().sqrt() * noise
    assert (vae(pictures, noise)[0] - vae.pixels(drawn)).abs().max() < 1e-12
    vae.decoder[-1].bias.fill_(5.0)
    assert vae(pictures, noise)[0].max() > 1


def test_a_new_block_is_the_identity():
    assert torch.equal(Block(16)(x := torch.randn(1, 16, 4, 4, generator=seeded())), x)


def test_latents_start_almost_sure():
    torch.manual_seed(0)
    _, log_variance = VAE(CONFIG).encode(torch.zeros(1, 3, 16, 16))
    assert (log_variance + 6).abs().max() < 0.5


def test_normalised_latents_have_mean_0_and_variance_1_in_every_channel(vae, pictures):
    assert (vae.latents(pictures).std((0, 2, 3)) - 1).abs().max() > 0.1            # not before
    before = vae.round_trip(pictures)
    vae.normalise(pictures)
    z = vae.latents(pictures)
    assert z.mean((0, 2, 3)).abs().max() < 1e-12 and (z.std((0, 2, 3)) - 1).abs().max() < 1e-12
    assert (vae.round_trip(pictures) - before).abs().max() < 1e-12                 # pictures do not notice


# What reaches how far

def test_an_edit_in_one_corner_leaves_the_latents_of_the_other_alone(vae):
    """As far as the convolutions reach: 1 + 2 cells in the encoder, 1 + 4 + 1 in the decoder."""
    x0 = normal(1, 3, 64, 64).clamp(-1, 1)
    edited = x0.clone()
    edited[..., :8, :8] = -edited[..., :8, :8]                                     # 2 x 2 cells
    changed = (vae.latents(edited) != vae.latents(x0)).any(1)[0]
    assert changed[:2, :2].all() and not changed[5:].any() and not changed[:, 5:].any()
    z = normal(1, 5, 16, 16)
    other = z.clone()
    other[..., :2, :2] += 0.1
    changed = (vae.decode(other) != vae.decode(z)).any(1)[0]
    assert changed[:8, :8].any() and not changed[32:].any() and not changed[:, 32:].any()


def test_what_else_is_in_the_batch_does_not_matter(vae, pictures):
    alone = torch.cat([vae.round_trip(picture[None]) for picture in pictures])
    assert (alone - vae.round_trip(pictures)).abs().max() < 1e-12


# The divergence and the floor

def test_the_divergence_has_known_answers_and_agrees_with_torch():
    assert kl_divergence(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)).tolist() == [0, 0]
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert kl_divergence(2 * one, 0 * one).item() == pytest.approx(2)              # half the distance squared
    assert kl_divergence(0 * one, log(4) * one).item() == pytest.approx((4 - 1 - log(4)) / 2)
    mean, log_variance = normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    there = torch.distributions.Normal(mean, log_variance.exp().sqrt())
    noise = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    wanted = torch.distributions.kl_divergence(there, noise).sum((1, 2, 3))
    assert (kl_divergence(mean, log_variance) - wanted).abs().max() < 1e-12


def test_the_floor_is_the_psnr_of_the_round_trip_and_of_a_region(vae, pictures):
    where = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    where[:3, :, 8:16, 8:16] = True
    error = (vae.round_trip(pictures) - pictures).square()
    floor, of_region = codec_floor(vae, pictures), codec_floor(vae, pictures, where)
    assert (floor - 10 * torch.log10(4 / error.mean((1, 2, 3)))).abs().max() < 1e-9
    wanted = 10 * torch.log10(4 / error[:3, :, 8:16, 8:16].mean((1, 2, 3)))
    assert (of_region[:3] - wanted).abs().max() < 1e-9 and of_region[3].isnan()
    assert torch.equal(floor, psnr(vae.round_trip(pictures), pictures))


def test_default_networks_are_small_enough_to_ship():
    assert sum(tensor.numel() for tensor in VAE().state_dict().values()) < 2**20 - 10_000


# Masks for latents

def test_a_cell_may_change_if_any_of_its_pixels_may():
    edit_mask = torch.zeros(2, 1, 8, 12, dtype=torch.bool)
    edit_mask[0, 0, 3, 4] = True                                                   # a corner of cell (0, 1)
    edit_mask[1, 0, 4:, 8:] = True
    wanted = torch.tensor([[[0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1]]], dtype=torch.bool)
    cells = cells_of(edit_mask, 4)
    assert cells.dtype == torch.bool and torch.equal(cells, wanted[:, None])
    assert torch.equal(cells_of(edit_mask, 1), edit_mask)


def test_every_pixel_that_may_change_lies_in_a_cell_that_may_and_no_cell_may_in_vain():
    edit_mask = torch.rand(3, 1, 32, 24, generator=seeded()) > 0.97
    cells = cells_of(edit_mask, 4)
    again = cells.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert 0 < cells.sum() < cells.numel() and not (edit_mask & ~again).any()
    counts = edit_mask.view(3, 1, 8, 4, 6, 4).sum((3, 5))
    assert torch.equal(cells, counts > 0)


# Learning

def test_gradients_reach_every_parameter(pictures):
    torch.manual_seed(0)
    vae = VAE(CONFIG).double()
    optimizer = torch.optim.SGD(vae.parameters(), lr=0.1)
    for _ in range(3):                                          # what starts at zero hides what feeds it
        optimizer.zero_grad()
        x0_hat, mean, log_variance = vae(pictures, normal(4, 5, 8, 8))
        error = (x0_hat - pictures).square().mean() + 1e-4 * kl_divergence(mean, log_variance).mean()
        error.backward()
        optimizer.step()
    assert [name for name, p in vae.named_parameters() if not p.grad.abs().max() > 0] == []


def test_it_learns_to_bring_pictures_back(pictures):
    torch.manual_seed(0)
    vae, x0 = VAE(VAEConfig(8, channels=32)), pictures.float()
    optimizer = torch.optim.Adam(vae.parameters(), lr=4e-3)
    for step in range(80):
        optimizer.zero_grad()
        x0_hat, mean, log_variance = vae(x0, torch.randn(4, 8, 8, 8, generator=seeded(step)))
        ((x0_hat - x0).square().mean() + 1e-7 * kl_divergence(mean, log_variance).mean()).backward()
        optimizer.step()
    assert codec_floor(vae, x0).mean() > 20 > psnr(x0.mean((0, 2, 3), keepdim=True).expand_as(x0), x0).mean()


# Files and refusals

def test_weights_come_back(vae, pictures, tmp_path):
    entry = {"config": {"vae": asdict(vae.config)}}
    loaded = VAE.load(save_weights("tiny-vae", vae.state_dict(), entry, tmp_path))
    assert loaded.config == vae.config and not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert (loaded.latents(pictures) - vae.latents(pictures)).abs().max() < 0.02   # shift and scale, too
    assert (loaded.round_trip(pictures) - vae.round_trip(pictures)).abs().max() < 0.02


def test_weights_of_another_network_are_refused(vae, tiny_weights, tmp_path):
    with pytest.raises(CheckpointError, match="its configuration does not fit") as error:
        VAE.load(tiny_weights)
    assert str(error.value).count("\n") < 2
    entry = {"config": {"vae": {**asdict(vae.config), "latent_channels": 4}}}
    with pytest.raises(CheckpointError, match="made by another network"):
        VAE.load(save_weights("narrow", vae.state_dict(), entry, tmp_path))


def test_half_precision_weights_take_and_give_float32(vae, pictures):
    exact, x0 = vae.round_trip(pictures), pictures.float()
    vae.bfloat16()
    assert vae.latents(x0).dtype == vae.round_trip(x0).dtype == torch.float32
    assert (vae.round_trip(x0) - exact).abs().max() < 0.1


def test_configuration():
    assert VAEConfig.from_dict(asdict(CONFIG)) == CONFIG
    with pytest.raises(ValueError, match="VAEConfig does not know depth"):
        VAEConfig.from_dict({**asdict(CONFIG), "depth": 2})
    with pytest.raises(ValueError, match="latent_channels = 0: at least 1 expected"):
        VAEConfig(latent_channels=0)
    with pytest.raises(ValueError, match="encoder_blocks = -1: at least 0 expected"):
        VAEConfig(encoder_blocks=-1)


@pytest.mark.parametrize("shape", [(1, 3, 62, 64), (1, 3, 64, 66), (1, 1, 64, 64), (3, 64, 64)])
def test_pictures_of_another_shape_are_refused(vae, shape):
    with pytest.raises(ValueError, match=r"pictures are \(.*\): \(B, 3, H, W\), H and W multiples of 4"):
        vae.encode(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (5, 16, 16)])
def test_latents_of_another_shape_are_refused(vae, shape):
    with pytest.raises(ValueError, match=r"z is \(.*\): \(B, 5, h, w\) expected"):
        vae.decode(torch.zeros(shape))


@pytest.mark.parametrize("edit_mask", [
    torch.zeros(1, 1, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.bool), torch.zeros(8, 8, dtype=torch.bool),
    torch.zeros(1, 1, 8, 10, dtype=torch.bool)])
def test_masks_that_do_not_fit_are_refused(edit_mask):
    with pytest.raises(ValueError, match=r"edit_mask is \(.*\) torch.*: torch.bool \(B, 1, H, W\), H and W"):
        cells_of(edit_mask, 4)
