"""Closed-form denoisers against the gradient of the log density (Tweedie) and against counting."""

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal

from minidiff.denoisers.exact import FiniteSet, Gaussian
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

PROCESSES = {
    "eps": (DDPM.linear(100), [100, 60, 10, 1]),
    "x0": (DDPM.cosine(100, "x0"), [100, 60, 10, 1]),
    "v": (Flow(), [1.0, 0.6, 0.1, 0.01]),
}
CASES = pytest.mark.parametrize("process, levels", PROCESSES.values(), ids=PROCESSES)
SHAPE = (2, 2, 3)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gaussian():
    root = draw(12, 12, seed=1)
    return Gaussian(draw(*SHAPE, seed=2), root @ root.T / 12 + 0.1 * torch.eye(12))


def finite_set():
    return FiniteSet(draw(5, *SHAPE, seed=3), torch.tensor([4.0, 1.0, 2.0, 2.0, 1.0]))


def x0_by_tweedie(log_density, x_t, a, s):
    """(x_t + s^2 grad log p(x_t)) / a: no posterior in it, just the density of noisy pictures."""
    x = x_t.clone().requires_grad_()
    (score,) = torch.autograd.grad(log_density(x.flatten(1)).sum(), x)
    return (x_t + s**2 * score) / a


@CASES
def test_gaussian_agrees_with_the_gradient_of_its_log_density(process, levels):
    world, x_t = gaussian(), draw(4, *SHAPE)
    for t in levels:
        a, s = (number.item() for number in process.signal_noise(t, x_t))
        if a == 0:
            continue
        cov = a**2 * world.cov + s**2 * torch.eye(12).double()
        density = MultivariateNormal(a * world.mean.flatten(), cov)
        expected = x0_by_tweedie(density.log_prob, x_t, a, s)
        x0_hat = process.predict_x0(x_t, world.denoiser(process)(x_t, t), t)
        assert (x0_hat - expected).abs().max() < 1e-10 / a


@CASES
def test_finite_set_agrees_with_the_gradient_of_its_log_density(process, levels):
    world, x_t = finite_set(), draw(4, *SHAPE)
    for t in levels:
        a, s = (number.item() for number in process.signal_noise(t, x_t))
        if a == 0:
            continue
        around_each = Independent(Normal(a * world.images.flatten(1), s), 1)
        density = MixtureSameFamily(Categorical(world.weights), around_each)
        expected = x0_by_tweedie(density.log_prob, x_t, a, s)
        x0_hat = process.predict_x0(x_t, world.denoiser(process)(x_t, t), t)
        assert (x0_hat - expected).abs().max() < 1e-10 / a


@pytest.mark.parametrize("world", [gaussian(), finite_set()], ids=["gaussian", "finite set"])
def test_velocity_from_pure_noise_points_away_from_the_mean(world):
    x_t = draw(4, *SHAPE)
    assert (world.denoiser(Flow())(x_t, 1.0) - (x_t - world.mean)).abs().max() < 1e-10


@CASES
@pytest.mark.parametrize("world", [gaussian(), finite_set()], ids=["gaussian", "finite set"])
def test_at_level_0_the_picture_is_seen_as_it_is(process, levels, world):
    pictures = world.sample(3, torch.Generator().manual_seed(0))
    expected = process.target(pictures, torch.zeros_like(pictures))
    assert (world.denoiser(process)(pictures, 0) - expected).abs().max() < 1e-10


@CASES
@pytest.mark.parametrize("world", [gaussian(), finite_set()], ids=["gaussian", "finite set"])
def test_a_level_for_each_picture_and_float32(process, levels, world):
    x_t, t = draw(2, *SHAPE), torch.tensor(levels[1:3])
    together = world.denoiser(process)(x_t, t)
    for i in range(2):
        assert (together[i] - world.denoiser(process)(x_t[i : i + 1], t[i].item())[0]).abs().max() < 1e-10
    single = world.denoiser(process)(x_t.float(), t)
    assert single.dtype == torch.float32 and (single - together).abs().max() < 1e-4


def edit_mask():
    mask = torch.zeros(1, 1, 2, 3, dtype=torch.bool)
    mask[..., 1, :2] = True
    return mask


def test_gaussian_given_pixels_is_the_conditional_by_the_precision_matrix():
    """The conditional's precision is a block of the inverse covariance: no regression in it."""
    world, known, mask = gaussian(), draw(1, *SHAPE, seed=9), edit_mask()
    edit = mask[0].expand(SHAPE).flatten()
    precision = world.cov.inverse()
    cov = precision[edit][:, edit].inverse()
    surprise = (known - world.mean).flatten()[~edit]
    mean = world.mean.flatten()[edit] - cov @ precision[edit][:, ~edit] @ surprise
    truth = world.given(known, mask)
    assert (truth.mean.flatten()[edit] - mean).abs().max() < 1e-10
    assert (truth.cov[edit][:, edit] - cov).abs().max() < 1e-10
    assert torch.equal(truth.mean.flatten()[~edit], known.flatten()[~edit])
    assert truth.cov[~edit].abs().max() == 0


def test_gaussian_given_all_or_nothing():
    world, known = gaussian(), draw(1, *SHAPE, seed=9)
    nothing_known = world.given(known, torch.ones(1, 1, 2, 3, dtype=torch.bool))
    assert (nothing_known.mean - world.mean).abs().max() < 1e-10
    assert (nothing_known.cov - world.cov).abs().max() < 1e-10
    all_known = world.given(known, torch.zeros(1, 1, 2, 3, dtype=torch.bool))
    process = DDPM.linear(100)
    x0_hat = process.predict_x0(known, all_known.denoiser(process)(known, 50), 50)
    assert (x0_hat - known).abs().max() < 1e-10


def test_finite_set_given_pixels_keeps_the_pictures_that_agree():
    left, right = draw(3, 1, 2, 2), draw(2, 1, 2, 2, seed=1)
    images = torch.stack([torch.cat([a, b], dim=-1) for a in left for b in right])
    world = FiniteSet(images, torch.tensor([1.0, 3.0, 2.0, 2.0, 0.0, 5.0]))
    mask = torch.zeros(1, 1, 2, 4, dtype=torch.bool)
    mask[..., 2:] = True
    truth = world.given(images[:1], mask)
    assert torch.equal(truth.images, images[:2])
    assert torch.allclose(truth.weights, torch.tensor([0.25, 0.75]).double())
    with pytest.raises(ValueError, match="agrees with no picture"):
        world.given(images[:1] + 0.1, mask)


def test_pixels_in_the_hole_are_never_read():
    world, known, mask = gaussian(), draw(1, *SHAPE, seed=9), edit_mask()
    other = torch.where(mask, float("nan"), known)
    assert torch.equal(world.given(known, mask).mean, world.given(other, mask).mean)
    images = finite_set()
    same = torch.where(mask, float("nan"), images.images[:1])
    assert torch.equal(images.given(same, mask).images, images.images[:1])


def test_samples_have_the_law_of_the_world():
    pictures = gaussian().sample(100_000, torch.Generator().manual_seed(0)).flatten(1)
    assert (pictures.mean(0) - gaussian().mean.flatten()).abs().max() < 0.025
    assert (torch.cov(pictures.T) - gaussian().cov).abs().max() < 0.05
    world = finite_set()
    drawn = world.sample(10_000, torch.Generator().manual_seed(0))
    share = torch.stack([(drawn == image).flatten(1).all(1).double().mean() for image in world.images])
    assert (share - world.weights).abs().max() < 0.02


def test_bad_worlds_and_masks_are_refused():
    image, eye = torch.zeros(1, 2, 2), torch.eye(4)
    known, mask = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    bad = [
        (lambda: FiniteSet(image), "(N, C, H, W)"),
        (lambda: FiniteSet(image[None], torch.ones(2)), "(N,)"),
        (lambda: FiniteSet(image[None], torch.tensor([-1.0])), "negative"),
        (lambda: FiniteSet(image[None], torch.tensor([0.0])), "all zero"),
        (lambda: Gaussian(image, torch.eye(3)), "(CHW, CHW)"),
        (lambda: Gaussian(image, -eye), "negative eigenvalues"),
        (lambda: Gaussian(image, eye + torch.triu(torch.ones(4, 4), 1)), "symmetric"),
        (lambda: Gaussian(image, eye).given(known[0], mask), "known is (1, 2, 2)"),
        (lambda: Gaussian(image, eye).given(known, mask.float()), "torch.bool expected"),
        (lambda: Gaussian(image, eye).given(known.expand(2, -1, -1, -1), mask), "known is (2, 1, 2, 2)"),
    ]
    for call, words in bad:
        with pytest.raises(ValueError) as error:
            call()
        assert words in str(error.value) and str(error.value).count("\n") < 2
