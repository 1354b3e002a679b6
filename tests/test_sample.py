"""The loop: what it yields, what it calls, and that a seed decides every bit."""

import types
from functools import partial

import pytest
import torch

from minidiff.denoisers.exact import Gaussian
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.sample import State, clamp_x0, clamped, heun, normal_like, sample

PROCESSES = pytest.mark.parametrize(
    "process", [DDPM.linear(50), DDPM.cosine(50, "x0"), Flow()], ids=["eps", "x0", "v"]
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(seed=0, dtype=torch.float32):
    return torch.randn(2, 3, 4, 4, generator=seeded(seed), dtype=dtype)


def halve(x_t, t):
    return 0.5 * x_t


@PROCESSES
def test_yields_a_state_after_every_step_down_to_0(process):
    times = process.times(7)
    states = sample(process, halve, noise(), times, seeded())
    assert isinstance(states, types.GeneratorType)
    states = list(states)
    assert [state.t for state in states] == times[1:]
    assert all(isinstance(state, State) for state in states)
    assert all(state.x.shape == state.x0_hat.shape == (2, 3, 4, 4) for state in states)
    assert torch.equal(states[-1].x, states[-1].x0_hat)              # the step to 0 lands on x0_hat


@PROCESSES
def test_is_steps_in_a_row_with_noise_from_the_generator(process):
    times, generator, x = process.times(5), seeded(3), noise()
    states = sample(process, halve, noise(), times, seeded(3))
    for i in range(5):
        state = next(states)
        assert torch.equal(state.x0_hat, process.predict_x0(x, halve(x, times[i]), times[i]))
        fresh = torch.randn(2, 3, 4, 4, generator=generator)
        x = process.step(x, halve(x, times[i]), times[i], times[i + 1], fresh)
        assert torch.equal(state.x, x)


@PROCESSES
def test_same_seed_same_bits(process):
    runs = [list(sample(process, halve, noise(), process.times(9), seeded(seed)))[-1].x for seed in (1, 1, 2)]
    # The last step lands on x0_hat without noise, but the noise before it has left its trace.
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


def test_the_network_is_called_once_a_step_at_the_level_of_x():
    seen, process = [], DDPM.linear(50)
    list(sample(process, lambda x_t, t: seen.append(t) or halve(x_t, t), noise(), process.times(6), seeded()))
    assert seen == process.times(6)[:-1]


def test_nothing_runs_before_it_is_asked_for():
    calls = []
    states = sample(Flow(), lambda x_t, t: calls.append(t) or x_t, noise(), Flow().times(5), seeded())
    assert calls == []
    next(states)
    assert calls == [1.0]


def test_any_step_stands_in_the_loop():
    ddpm, flow = DDPM.linear(50), Flow()
    world = Gaussian(torch.zeros(3, 4, 4), torch.eye(48))

    def last(process, step):
        x = noise(dtype=torch.float64)
        return list(sample(process, world.denoiser(process), x, process.times(10), seeded(), step=step))[-1].x

    assert torch.equal(last(ddpm, ddpm.step), last(ddpm, None))
    assert (last(ddpm, partial(ddpm.ddim_step, eta=1)) - last(ddpm, None)).abs().max() < 1e-10
    # A standard normal world: deterministic steps of any kind must nearly keep the noise they start from.
    second_order = heun(flow, world.denoiser(flow))
    for process, step in [(ddpm, ddpm.ddim_step), (flow, flow.euler_step), (flow, second_order)]:
        assert (last(process, step) - noise(dtype=torch.float64)).abs().max() < 0.6


def test_heun_asks_twice_but_for_the_last_step():
    seen = []

    def denoise(x_t, t):
        seen.append(t)
        return halve(x_t, t)

    list(sample(Flow(), denoise, noise(), [1.0, 0.5, 0.0], seeded(), step=heun(Flow(), denoise)))
    assert seen == [1.0, 0.5, 0.5]


def test_no_gradients_are_kept():
    weight = torch.ones(1, requires_grad=True)
    state = next(sample(Flow(), lambda x_t, t: weight * x_t, noise(), [1.0, 0.0], seeded()))
    assert not state.x.requires_grad and torch.is_grad_enabled()


def test_normal_like_follows_the_generator_and_x():
    x = torch.zeros(2, 3, 4, 4, dtype=torch.float64)
    assert torch.equal(normal_like(x, seeded(5)), noise(5, torch.float64))


@PROCESSES
def test_clamping_bounds_x0_hat_and_leaves_the_rest(process):
    x_t, prediction = 3 * noise(1, torch.float64), noise(2, torch.float64)
    t = process.times(10)[6]
    before = process.predict_x0(x_t, prediction, t)
    after = process.predict_x0(x_t, clamp_x0(process, x_t, prediction, t), t)
    inside = before.abs() <= 1
    assert inside.any() and not inside.all()
    assert (after - before)[inside].abs().max() < 1e-10
    assert (after - before.sign())[~inside].abs().max() < 1e-10
    wrapped = clamped(process, lambda x_t, t: prediction)(x_t, t)
    assert torch.equal(wrapped, clamp_x0(process, x_t, prediction, t))


def test_levels_that_do_not_fall_are_refused():
    with pytest.raises(ValueError, match="t_next < t expected"):
        list(sample(Flow(), halve, noise(), [0.5, 0.7], seeded()))
