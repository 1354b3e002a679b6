"""Rectified flow: straight lines, and what follows from them."""

import math

import pytest
import torch

from minidiff.process.flow import Flow, shift_for, shifted


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FLOW = Flow()
STRIDES = [(1.0, 0.75), (0.75, 0.749), (0.5, 0.1), (0.1, 0.0), (1.0, 0.0)]


def test_the_gaussian_step_without_variance_is_eulers():
    """The shared step at variance 0: a_next x0_hat + s_next eps_hat, both on the line through x_t along v."""
    x_t, v = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t, t_next in STRIDES:
        x0_hat, eps_hat = x_t - t * v, x_t + (1 - t) * v
        expected = (1 - t_next) * x0_hat + t_next * eps_hat
        assert (FLOW.euler_step(x_t, v, t, t_next) - expected).abs().max() < 1e-10


def test_the_ancestral_step_without_noise_falls_short_of_eulers_by_its_variance():
    """Eps_hat keeps sqrt(s_next^2 - var) of its weight s_next: put the rest back, and the step is Euler's."""
    x_t, v = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t, t_next in STRIDES:
        eps_hat = x_t + (1 - t) * v
        kept = (1 - t) / (1 - t_next) * t_next**2 / t             # = sqrt(s_next^2 - var), worked out by hand
        step = FLOW.step(x_t, v, t, t_next, torch.zeros_like(x_t))
        assert (step + (t_next - kept) * eps_hat - FLOW.euler_step(x_t, v, t, t_next)).abs().max() < 1e-10


def test_a_constant_velocity_is_followed_exactly_in_any_steps():
    x0, eps = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for steps in (1, 3, 10):
        x = eps
        for t, t_next in zip(FLOW.times(steps), FLOW.times(steps)[1:]):
            x = FLOW.euler_step(x, eps - x0, t, t_next)
        assert (x - x0).abs().max() < 1e-10


def test_heun_is_exact_where_the_velocity_changes_evenly_in_time():
    """dx/dt = c t has x = x_1 + c (t^2 - 1) / 2; Euler misses it, Heun does not."""
    c, x_1 = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t, t_next in STRIDES:
        start, end = x_1 + c * (t**2 - 1) / 2, x_1 + c * (t_next**2 - 1) / 2
        assert (FLOW.heun_step(start, c * t, c * t_next, t, t_next) - end).abs().max() < 1e-10


def test_velocity_is_the_slope_of_the_line():
    x0, eps, h = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), 1e-3
    slope = (FLOW.corrupt(x0, 0.5 + h, eps) - FLOW.corrupt(x0, 0.5 - h, eps)) / (2 * h)
    assert (slope - FLOW.target(x0, eps)).abs().max() < 1e-10
    assert (FLOW.prediction(FLOW.corrupt(x0, 0.5, eps), x0, 0.5) - slope).abs().max() < 1e-10


def test_times_run_from_noise_to_data():
    assert FLOW.times(4) == [1.0, 0.75, 0.5, 0.25, 0.0]
    for steps in (1, 7, 50):
        for shift in (0.5, 1.0, 3.0):
            times = FLOW.times(steps, shift)
            assert times[0] == 1 and times[-1] == 0 and len(times) == steps + 1
            assert all(t > t_next for t, t_next in zip(times, times[1:]))


def test_shift_is_kontexts_with_mu_its_logarithm():
    """2506.15742 writes exp(mu) / (exp(mu) + 1/t - 1); a shift above 1 lingers near the noise."""
    for mu in (-0.5, 0.5, 1.15):
        for t, moved in zip(FLOW.times(10)[:-1], FLOW.times(10, shift=math.exp(mu))[:-1]):
            assert abs(moved - math.exp(mu) / (math.exp(mu) + 1 / t - 1)) < 1e-10
    assert sorted(FLOW.times(10, shift=3.0))[5] == pytest.approx(0.75)


def test_levels_keep_their_precision():
    """A Python level reaches the equations in float64: .3 rounded to float32 is off by 1e-8."""
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    assert FLOW.corrupt(0 * one, 0.3, one).item() == 0.3


def test_bad_use_is_refused():
    x = draw(2, 3, 4, 4)
    bad = [
        (lambda: FLOW.times(0), "steps = 0"),
        (lambda: FLOW.times(10, shift=0), "shift = 0"),
        (lambda: FLOW.corrupt(x, 250, x), "from 0 to 1"),
        (lambda: FLOW.euler_step(x, x, 0.5, 0.5), "t_next < t expected"),
        (lambda: FLOW.heun_step(x, x, x, 0.5, 0.6), "t_next < t expected"),
        (lambda: FLOW.euler_step(x, x[:1], 0.5, 0.4), "the same shape"),
        (lambda: FLOW.heun_step(x, x, x[:1], 0.5, 0.4), "the same shape"),
    ]
    for call, words in bad:
        with pytest.raises(ValueError) as error:
            call()
        assert words in str(error.value) and str(error.value).count("\n") < 2


def test_the_shift_grows_with_the_tokens_as_flux_has_it():
    """mu = .5 at 256 tokens, 1.15 at 4096, and exp(mu) / (exp(mu) + 1/t - 1) is the shifted time."""
    assert abs(math.log(shift_for(256)) - 0.5) < 1e-12 and abs(math.log(shift_for(4096)) - 1.15) < 1e-12
    assert abs(math.log(shift_for(2176)) - 0.825) < 1e-12       # half way
    shift = shift_for(64)
    assert 1.59 < shift < 1.60
    for t in (0.01, 0.3, 0.99):
        assert abs(shifted(t, shift) - shift / (shift + 1 / t - 1)) < 1e-12
    levels = torch.tensor([0.0, 0.3, 1.0], dtype=torch.float64)
    assert (shifted(levels, 3.0) - torch.tensor([0, 0.9 / 1.6, 1])).abs().max() < 1e-7
    assert FLOW.times(4, shift) == [shifted(k / 4, shift) for k in (4, 3, 2, 1, 0)]
    for tokens in (16, 64, 96, 256, 1024, 4096):                # no rounding leads beyond 1
        times = FLOW.times(10, shift_for(tokens))
        assert times[0] == 1 and times[-1] == 0 and times == sorted(times, reverse=True)
    with pytest.raises(ValueError, match="tokens = 0: at least 1 expected"):
        shift_for(0)
