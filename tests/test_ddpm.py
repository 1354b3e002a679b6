"""DDPM against the papers' own forms, in plain Python numbers."""

import math

import pytest
import torch

from minidiff.process.ddpm import DDPM


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_linear_table_is_the_product_of_the_papers_betas():
    process, product = DDPM.linear(1000), 1.0
    assert process.alpha_bar.dtype == torch.float64
    assert process.alpha_bar.shape == (1001,) and process.T == 1000
    for t in range(1001):
        if t > 0:
            product *= 1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)
        assert abs(process.alpha_bar[t].item() - product) < 1e-12
    assert abs(product - 4.04e-5) < 1e-7                             # the known end of the schedule


def test_linear_ends_in_the_same_noise_for_any_number_of_levels():
    ends = [math.log(DDPM.linear(T).alpha_bar[-1].item()) for T in (100, 250, 1000)]
    assert max(ends) - min(ends) < 1.2                          # -10.1 to -11.2; unscaled, T=100 ends at -1.0


def test_cosine_table_follows_the_cosine_up_to_the_clip():
    process = DDPM.cosine(1000)
    f = [math.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(1001)]
    for t in (0, 1, 250, 500, 999):
        assert abs(process.alpha_bar[t].item() - f[t] / f[0]) < 1e-12
    assert abs(process.alpha_bar[1000].item() - process.alpha_bar[999].item() * 0.001) < 1e-15


@pytest.mark.parametrize("process", [DDPM.linear(250), DDPM.cosine(250)], ids=["linear", "cosine"])
@pytest.mark.parametrize("stride", [1, 7, 249])
def test_step_is_the_posterior_in_the_papers_form(process, stride):
    """2006.11239, eq. 6-7, from the betas of the (respaced) chain; x0_hat first, from eps, as in eq. 15."""
    x_t, eps, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    for t in sorted({stride, stride + 1, (250 + stride) // 2, 249} - {0}):
        t_next = t - stride
        if t_next < 0:
            continue
        bar, bar_next = process.alpha_bar[t].item(), process.alpha_bar[t_next].item()
        alpha = bar / bar_next
        beta = 1 - alpha
        x0_hat = (x_t - math.sqrt(1 - bar) * eps) / math.sqrt(bar)
        mean = math.sqrt(bar_next) * beta / (1 - bar) * x0_hat
        mean = mean + math.sqrt(alpha) * (1 - bar_next) / (1 - bar) * x_t
        deviation = math.sqrt((1 - bar_next) / (1 - bar) * beta)
        # x0_hat itself reaches thousands at the cosine's noisy end, so the error is relative there.
        error = (process.step(x_t, eps, t, t_next, noise) - mean - deviation * noise).abs().max()
        assert error < 1e-10 * max(1, x0_hat.abs().max().item())


@pytest.mark.parametrize("predicts", ["eps", "x0"])
def test_ddim_step_with_eta_1_is_the_ancestral_step(predicts):
    process = DDPM.linear(250, predicts)
    x_t, prediction, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    for t, t_next in [(250, 249), (250, 100), (101, 100), (30, 3), (2, 1), (1, 0), (200, 0)]:
        ancestral = process.step(x_t, prediction, t, t_next, noise)
        ddim = process.ddim_step(x_t, prediction, t, t_next, eta=1, noise=noise)
        assert (ddim - ancestral).abs().max() < 1e-10


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_step_in_the_papers_form(eta):
    """2010.02502, eq. 12 with the sigma of eq. 16, whose alpha is our alpha_bar."""
    process = DDPM.linear(250)
    x_t, eps, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    for t, t_next in [(249, 248), (200, 50), (10, 9), (7, 1), (5, 0)]:
        alpha, alpha_next = process.alpha_bar[t].item(), process.alpha_bar[t_next].item()
        sigma = eta * math.sqrt((1 - alpha_next) / (1 - alpha)) * math.sqrt(1 - alpha / alpha_next)
        expected = math.sqrt(alpha_next) * (x_t - math.sqrt(1 - alpha) * eps) / math.sqrt(alpha)
        expected = expected + math.sqrt(1 - alpha_next - sigma**2) * eps + sigma * noise
        assert (process.ddim_step(x_t, eps, t, t_next, eta, noise) - expected).abs().max() < 1e-10


def test_ddim_step_goes_back_to_the_corrupted_picture():
    """With the true noise as the prediction, eta = 0 walks along a0 x0 + s eps, at any stride."""
    process = DDPM.linear(250)
    x0, eps = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t, t_next in [(250, 200), (200, 1), (1, 0)]:
        x = process.ddim_step(process.corrupt(x0, t, eps), eps, t, t_next)
        assert (x - process.corrupt(x0, t_next, eps)).abs().max() < 1e-10


def test_an_x0_network_takes_the_same_step_as_an_eps_network():
    by_eps, by_x0 = DDPM.linear(250), DDPM.linear(250, "x0")
    x_t, eps, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    for t, t_next in [(250, 200), (17, 16), (1, 0)]:
        x0_hat = by_eps.predict_x0(x_t, eps, t)
        difference = by_x0.step(x_t, x0_hat, t, t_next, noise) - by_eps.step(x_t, eps, t, t_next, noise)
        assert difference.abs().max() < 1e-10


def test_times_are_distinct_levels_from_T_to_0_for_every_number_of_steps():
    process = DDPM.cosine(250)
    for steps in range(1, 251):
        times = process.times(steps)
        strides = [t - t_next for t, t_next in zip(times, times[1:])]
        assert times[0] == 250 and times[-1] == 0 and len(times) == steps + 1
        assert all(isinstance(t, int) for t in times)
        assert min(strides) >= 1 and max(strides) - min(strides) <= 1
    assert DDPM.linear(1000).times(4) == [1000, 750, 500, 250, 0]


def test_fraction_of_the_whole():
    process = DDPM.linear(250)
    assert (process.fraction(0), process.fraction(125), process.fraction(250)) == (0, 0.5, 1)
    assert torch.equal(process.fraction(torch.tensor([0, 125])), torch.tensor([0, 0.5]))


def test_bad_use_is_refused():
    x, good = draw(2, 3, 4, 4), DDPM.linear(250)
    bad = [
        (lambda: DDPM.linear(0), "T = 0"),
        (lambda: DDPM.linear(20), "more than 20"),
        (lambda: DDPM.cosine(0), "T = 0"),
        (lambda: DDPM.linear(250, "v"), '"eps" or "x0"'),
        (lambda: DDPM(torch.tensor([1.0, 0.5])), "float64"),
        (lambda: DDPM(torch.tensor([0.9, 0.5], dtype=torch.float64)), "from exactly 1"),
        (lambda: DDPM(torch.tensor([1.0, 0.5, 0.5], dtype=torch.float64)), "fall"),
        (lambda: DDPM(torch.tensor([1.0, 0.0], dtype=torch.float64)), "above 0"),
        (lambda: good.times(251), "1 to 250"),
        (lambda: good.corrupt(x, 2.5, x), "whole levels"),
        (lambda: good.ddim_step(x, x, 5, 5), "t_next < t expected"),
        (lambda: good.ddim_step(x, x, 5, 4, eta=0.5), "noise"),
        (lambda: good.ddim_step(x, x, 5, 4, eta=1.5, noise=x), "eta = 1.5"),
    ]
    for call, words in bad:
        with pytest.raises(ValueError) as error:
            call()
        assert words in str(error.value) and str(error.value).count("\n") < 2
