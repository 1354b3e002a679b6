"""The shared steps, each against a computation that does not know its formula, to 1e-10 in float64."""

import math

import pytest
import torch

from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow

PROCESSES = {
    "linear": (DDPM.linear(100), [100, 99, 50, 2, 1]),
    "cosine": (DDPM.cosine(100), [99, 98, 50, 2, 1]),
    "cosine-x0": (DDPM.cosine(100, "x0"), [100, 99, 50, 2, 1]),
    "flow": (Flow(), [1.0, 0.98, 0.5, 0.013, 1e-3]),
}
CASES = pytest.mark.parametrize("process, levels", PROCESSES.values(), ids=PROCESSES)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def level_numbers(process, t):
    """a and s at one level as Python floats, from betas or from the straight line."""
    if isinstance(process, Flow):
        return 1 - t, t
    betas = 1 - process.alpha_bar[1:] / process.alpha_bar[:-1]
    alpha_bar = math.prod(1 - beta for beta in betas[:t].tolist())
    return math.sqrt(alpha_bar), math.sqrt(1 - alpha_bar)


def conditioned(process, x0, x_t, t, t_next):
    """Mean and deviation of x_next given x_t and x0, by Bayes' rule: prior from x0, likelihood of x_t."""
    (a, s), (a_next, s_next) = level_numbers(process, t), level_numbers(process, t_next)
    r = a / a_next
    climb = s**2 - (r * s_next) ** 2                                 # variance added between t_next and t
    precision = 1 / s_next**2 + r**2 / climb
    return (a_next * x0 / s_next**2 + r * x_t / climb) / precision, precision**-0.5


@CASES
def test_corrupt_is_the_line_between_data_and_noise(process, levels):
    x0, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t in levels:
        a, s = level_numbers(process, t)
        for pixel in [(0, 0, 0, 0), (1, 2, 3, 1)]:
            expected = a * x0[pixel].item() + s * noise[pixel].item()
            assert abs(process.corrupt(x0, t, noise)[pixel].item() - expected) < 1e-10


@CASES
def test_corrupt_at_level_0_keeps_every_bit(process, levels):
    for dtype in (torch.float32, torch.float64):
        x0 = draw(2, 3, 4, 4, dtype=dtype)
        assert torch.equal(process.corrupt(x0, 0, 100 * draw(2, 3, 4, 4, seed=1, dtype=dtype)), x0)


@CASES
def test_step_is_the_posterior_of_bayes(process, levels):
    x0, x_t, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    for i, t in enumerate(levels):
        for t_next in levels[i + 1 :]:
            if level_numbers(process, t)[0] == 0:
                continue                                             # x_t is noise alone: the next test
            mean, deviation = conditioned(process, x0, x_t, t, t_next)
            x = process.step(x_t, process.prediction(x_t, x0, t), t, t_next, noise)
            assert (x - mean - deviation * noise).abs().max() < 1e-10


def test_flow_step_from_pure_noise_forgets_it():
    x0, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=2)
    x_t = draw(2, 3, 4, 4, seed=1)
    x = Flow().step(x_t, x_t - x0, 1.0, 0.25, noise)
    assert (x - 0.75 * x0 - 0.25 * noise).abs().max() < 1e-10


@CASES
def test_step_to_level_0_is_x0_hat(process, levels):
    x0, x_t, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1), draw(2, 3, 4, 4, seed=2)
    for t in levels:
        x = process.step(x_t, process.prediction(x_t, x0, t), t, 0, noise)
        assert (x - x0).abs().max() < 1e-10


@CASES
def test_renoise_composes_with_corrupt_and_with_itself(process, levels):
    """The climb's two numbers, read off with x = 1 or noise = 1, turn the law of t into that of t_up."""
    one, zero = torch.ones(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, 1, dtype=torch.float64)
    t_up, middle, t = levels[0], levels[2], levels[3]

    def numbers(low, high):
        return process.renoise(one, low, high, zero).item(), process.renoise(zero, low, high, one).item()

    (a, s), (a_up, s_up) = level_numbers(process, t), level_numbers(process, t_up)
    shrink, fresh = numbers(t, t_up)
    assert abs(shrink * a - a_up) < 1e-10
    assert abs((shrink * s) ** 2 + fresh**2 - s_up**2) < 1e-10
    (first, first_fresh), (second, second_fresh) = numbers(t, middle), numbers(middle, t_up)
    assert abs(first * second - shrink) < 1e-10
    assert abs((second * first_fresh) ** 2 + second_fresh**2 - fresh**2) < 1e-10


@CASES
def test_renoise_by_monte_carlo(process, levels):
    """100,000 pictures corrupted to t, then climbed to t_up: mean and deviation of t_up, to .015."""
    x0 = torch.full((100_000, 1, 1, 1), 0.7, dtype=torch.float64)
    t, t_up = levels[3], levels[1]
    x = process.renoise(process.corrupt(x0, t, draw(*x0.shape)), t, t_up, draw(*x0.shape, seed=1))
    a, s = level_numbers(process, t_up)
    assert abs(x.mean().item() - 0.7 * a) < 0.015
    assert abs(x.std().item() - s) < 0.015


@CASES
def test_prediction_and_predict_x0_are_inverse(process, levels):
    x_t, x0 = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t in levels:
        prediction = process.prediction(x_t, x0, t)
        assert (process.predict_x0(x_t, prediction, t) - x0).abs().max() < 1e-10
        there = process.predict_x0(x_t, prediction, t)
        assert (process.prediction(x_t, there, t) - prediction).abs().max() < 1e-10


@CASES
def test_target_is_the_prediction_that_gives_x0_back(process, levels):
    x0, noise = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    for t in levels:
        x_t = process.corrupt(x0, t, noise)
        assert (process.predict_x0(x_t, process.target(x0, noise), t) - x0).abs().max() < 1e-10


@CASES
def test_a_level_for_each_picture_equals_one_at_a_time(process, levels):
    x_t, prediction, noise = draw(3, 3, 4, 4), draw(3, 3, 4, 4, seed=1), draw(3, 3, 4, 4, seed=2)
    high, low = torch.tensor(levels[:3]), torch.tensor([levels[3], levels[4], levels[3]])
    together = {
        "step": process.step(x_t, prediction, high, low, noise),
        "renoise": process.renoise(x_t, low, high, noise),
        "corrupt": process.corrupt(x_t, high, noise),
        "prediction": process.prediction(x_t, prediction, high),
    }
    for i in range(3):
        x, p, n = x_t[i : i + 1], prediction[i : i + 1], noise[i : i + 1]
        t, t_low = high[i].item(), low[i].item()
        assert torch.equal(together["step"][i], process.step(x, p, t, t_low, n)[0])
        assert torch.equal(together["renoise"][i], process.renoise(x, t_low, t, n)[0])
        assert torch.equal(together["corrupt"][i], process.corrupt(x, t, n)[0])
        assert torch.equal(together["prediction"][i], process.prediction(x, p, t)[0])


@pytest.mark.parametrize(
    "process", [DDPM.linear(1000), DDPM.cosine(1000), Flow()], ids=["linear", "cosine", "flow"]
)
def test_float32_steps_are_finite_between_all_levels(process):
    """Rounding must not put a negative number under a root, for neighbours and for the longest strides."""
    times = process.times(1000)
    below = [times[i + 1 :: 97] + times[-1:] for i in range(len(times) - 1)]
    high = torch.tensor([t for t, lower in zip(times, below) for _ in lower])
    low = torch.tensor([t_next for lower in below for t_next in lower])
    x, noise = (draw(len(high), 1, 1, 1, seed=seed, dtype=torch.float32) for seed in (0, 1))
    assert process.step(x, 0.5 * noise, high, low, noise).isfinite().all()
    assert process.renoise(x, low, high, noise).isfinite().all()
    if isinstance(process, DDPM):
        assert process.ddim_step(x, 0.5 * noise, high, low, 1.0, noise).isfinite().all()


@CASES
def test_results_keep_dtype_and_shape(process, levels):
    x = draw(2, 3, 4, 6, dtype=torch.float32)
    for result in (process.corrupt(x, levels[0], x), process.step(x, x, levels[0], levels[1], x)):
        assert result.dtype == torch.float32 and result.shape == x.shape


@CASES
def test_bad_use_is_refused_with_expected_and_actual(process, levels):
    x, high, low = draw(2, 3, 4, 4), levels[1], levels[2]
    beyond = 101 if isinstance(process, DDPM) else 1.01
    bad = [
        (lambda: process.step(x, x, low, high, x), "t_next < t expected"),
        (lambda: process.step(x, x, low, low, x), "t_next < t expected"),
        (lambda: process.renoise(x, high, low, x), "t < t_up expected"),
        (lambda: process.renoise(x, low, low, x), "t < t_up expected"),
        (lambda: process.corrupt(x, beyond, x), "levels"),
        (lambda: process.corrupt(x, -1, x), "levels"),
        (lambda: process.corrupt(x, float("nan"), x), "levels"),
        (lambda: process.corrupt(x, torch.tensor([low, low, low]), x), "one level, or (B,), expected"),
        (lambda: process.corrupt(x, low, x[:1]), "noise is (1, 3, 4, 4): the same shape"),
        (lambda: process.step(x, x[:, :1], high, low, x), "prediction is (2, 1, 4, 4): the same shape"),
        (lambda: process.step(x, x, high, low, x[:1]), "noise is (1, 3, 4, 4): the same shape"),
        (lambda: process.corrupt(x[0], low, x[0]), "(B, C, H, W)"),
        (lambda: process.corrupt(x.half(), low, x.half()), "float32 or 64"),
        (lambda: process.times(0), "steps = 0"),
    ]
    for call, words in bad:
        with pytest.raises(ValueError) as error:
            call()
        assert words in str(error.value) and str(error.value).count("\n") < 2


@pytest.mark.parametrize("process", [DDPM.linear(100), Flow()], ids=["eps", "v"])
def test_no_prediction_stands_for_x0_at_level_0(process):
    x = draw(2, 3, 4, 4)
    with pytest.raises(ValueError, match="0 < t expected"):
        process.prediction(x, x, 0)
