"""SDEdit and DDIM inversion: where they start, which levels they ask, and how near they come."""

from types import SimpleNamespace

import pytest
import torch

from minidiff.control import controls
from minidiff.control.restart import (
    ddim_invert,
    deterministic_step,
    invert_edit,
    invert_step,
    restart_times,
    sdedit,
    sdedit_edit,
)
from minidiff.denoisers.exact import FiniteSet, Gaussian
from minidiff.process.ddpm import DDPM
from minidiff.process.flow import Flow
from minidiff.process.sample import sample

PROCESSES = pytest.mark.parametrize(
    "process", [DDPM.cosine(3200), DDPM.cosine(3200, "x0"), Flow()], ids=["eps", "x0", "v"]
)
VARIANCES = torch.tensor([0.3, 0.5, 1.0, 4.0]).double()
WORLD = Gaussian(torch.tensor([0.5, -1.0, 0.0, 2.0]).double().view(1, 1, 4), torch.diag(VARIANCES))
PICTURES = WORLD.sample(64, torch.Generator().manual_seed(0))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def last(states):
    return list(states)[-1].x


def recording(denoise):
    """(denoise, seen): the same callable, and the list of (x_t, t) that it was asked for."""
    seen = []

    def record(x_t, t):
        seen.append((x_t, t))
        return denoise(x_t, t)

    return record, seen


# SDEdit

@PROCESSES
@pytest.mark.parametrize("strength, steps", [(1, 10), (0.6, 6), (0.34, 3), (0.1, 1), (0.06, 1)])
def test_the_last_share_of_the_steps_is_walked_from_the_noised_picture(process, strength, steps):
    times = process.times(10)
    denoise, seen = recording(WORLD.denoiser(process))
    states = list(sdedit(process, denoise, PICTURES, times, strength, seeded(1)))
    assert [t for _, t in seen] == times[-steps - 1 : -1] and [state.t for state in states] == times[-steps:]
    assert (strength == 1) == (seen[0][1] == times[0])
    noise = torch.randn(PICTURES.shape, generator=seeded(1), dtype=torch.float64)
    a, s = (number.item() for number in process.signal_noise(times[-steps - 1], PICTURES))
    assert (seen[0][0] - (a * PICTURES + s * noise)).abs().max() < 1e-12


@pytest.mark.parametrize("strength", [0, -0.5, 1.01, 0.04, float("nan"), float("inf")])
def test_strengths_that_walk_nowhere_are_refused(strength):
    for refuse in (lambda: restart_times(Flow().times(10), strength),
                   lambda: sdedit(Flow(), None, PICTURES, Flow().times(10), strength, seeded())):
        with pytest.raises(ValueError, match=f"strength = {strength}, 10 steps: a share of the steps"):
            refuse()


@pytest.mark.parametrize("process", [DDPM.linear(1000), Flow()], ids=["DDPM", "Flow"])
def test_the_picture_comes_back_as_often_as_its_noised_version_allows(process):
    """8 pictures, one is edited, 800 times: the share that comes back as it was, and what it should be.

    That is the mean probability of the picture, given its noised version, by Bayes; 1/8 at full strength.
    Shares at strength .1/.3/.5/.7/1: DDPM 1/.51/.20/.16/.14, Flow 1/.99/.66/.26/.15.
    """
    images = torch.where(torch.rand(8, 1, 2, 3, generator=seeded(2)) < 0.5, -1.0, 1.0).double()
    assert len(images.unique(dim=0)) == 8
    pictures, times, shares = images[:1].expand(800, -1, -1, -1), process.times(50), []
    for strength in (0.1, 0.3, 0.5, 0.7, 1):
        x = last(sdedit(process, FiniteSet(images).denoiser(process), pictures, times, strength, seeded(3)))
        shares.append(((x - images[0]).abs().amax((1, 2, 3)) < 0.1).double().mean().item())
        a, s = (n.item() for n in process.signal_noise(restart_times(times, strength)[0], images))
        noised = a * pictures + s * torch.randn(pictures.shape, generator=seeded(4), dtype=torch.float64)
        far = (noised[:, None] - a * images).square().sum((2, 3, 4))                         # (800, 8)
        assert abs(shares[-1] - (-far / (2 * s**2)).softmax(1)[:, 0].mean().item()) < 0.07
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.98
    assert abs(shares[-1] - 1 / 8) < 0.05                            # four standard errors


# Inversion: the step

@PROCESSES
def test_the_step_up_undoes_the_deterministic_step_down(process):
    x, eps_hat = PICTURES, torch.randn(PICTURES.shape, generator=seeded(4), dtype=torch.float64)
    for t, t_up in [(0, process.times(10)[-2]), process.times(10)[4:2:-1], process.times(10)[1::-1]]:
        up = invert_step(process, x, eps_hat, t, t_up)
        a, s = (number.item() for number in process.signal_noise(t, x))
        a_up, s_up = (number.item() for number in process.signal_noise(t_up, x))
        x0_hat = (x - s * eps_hat) / a                               # the same eps_hat means the same x0_hat
        assert (up - (a_up * x0_hat + s_up * eps_hat)).abs().max() < 1e-10
        prediction = process.target(x0_hat, eps_hat)
        down = deterministic_step(process)(up, prediction, t_up, t)
        assert (down - x).abs().max() < 1e-8


def test_for_a_flow_the_step_up_follows_the_velocity():
    x0, eps_hat = PICTURES, torch.randn(PICTURES.shape, generator=seeded(4), dtype=torch.float64)
    x = 0.7 * x0 + 0.3 * eps_hat
    expected = x + (0.45 - 0.3) * (eps_hat - x0)
    assert (invert_step(Flow(), x, eps_hat, 0.3, 0.45) - expected).abs().max() < 1e-12


def test_the_deterministic_step_is_ddims_or_eulers():
    ddpm, flow = DDPM.cosine(50), Flow()
    assert deterministic_step(ddpm) == ddpm.ddim_step and deterministic_step(flow) == flow.euler_step


# Inversion: the walk

@PROCESSES
def test_inversion_climbs_the_times_and_asks_above_0_in_place_of_0(process):
    times = process.times(5)
    denoise, seen = recording(WORLD.denoiser(process))
    states = list(ddim_invert(process, denoise, PICTURES, times))
    levels = times[::-1]
    assert [state.t for state in states] == levels[1:]
    assert [t for _, t in seen] == [levels[1], *levels[1:-1]] and min(t for _, t in seen) > 0
    for (x_t, t), state in zip(seen, states, strict=True):
        prediction = WORLD.denoiser(process)(x_t, t)
        assert torch.equal(state.x0_hat, process.predict_x0(x_t, prediction, t))


def noise_of(process):
    """The end of the true path up: x keeps its number of standard deviations along each axis."""
    a, s = process.signal_noise(process.times(1)[0], PICTURES)
    return a * WORLD.mean + ((a**2 * VARIANCES + s**2) / VARIANCES).sqrt() * (PICTURES - WORLD.mean)


def errors(process, numbers_of_steps):
    """The largest errors of the noise reached, and of the picture after the way back, for each."""
    denoise, up, back = WORLD.denoiser(process), [], []
    for steps in numbers_of_steps:
        times = process.times(steps)
        noise = last(ddim_invert(process, denoise, PICTURES, times))
        x = last(sample(process, denoise, noise, times, seeded(), deterministic_step(process)))
        up.append((noise - noise_of(process)).abs().max().item())
        back.append((x - PICTURES).abs().max().item())
    return up, back


def order(numbers_of_steps, errors):
    """The slope of log error against log step size, by least squares."""
    x, y = torch.tensor(numbers_of_steps).double().log(), torch.tensor(errors).double().log()
    return -((x - x.mean()) * (y - y.mean())).sum().item() / (x - x.mean()).square().sum().item()


@PROCESSES
def test_inversion_and_the_way_back_are_of_order_1(process):
    """Slopes over 20 to 320 steps, up and back: DDPM .90, .97, Flow .94, .98."""
    numbers = [20, 40, 80, 160, 320]
    up, back = errors(process, numbers)
    assert abs(order(numbers, up) - 1) < 0.2 and abs(order(numbers, back) - 1) < 0.2
    assert all(fewer > more for found in (up, back) for fewer, more in zip(found, found[1:]))
    assert up[-1] < 0.1 and back[-1] < 0.1


# The editors

def exact_model(process, asked):
    def denoiser(prompts, scale):
        asked.append((prompts, scale))
        return WORLD.denoiser(process)

    return SimpleNamespace(process=process, size=4, denoiser=denoiser)


def test_registered_sdedit_binds_the_prompt():
    asked, editor = [], controls("edit")["sdedit"]
    assert editor is sdedit_edit and editor.weights == "town-ddpm"
    model, everywhere = exact_model(Flow(), asked), torch.ones(1, 1, 1, 4, dtype=torch.bool)
    options = dict(generator=seeded(), steps=10, strength=0.4, scale=2.0)
    states = list(editor(model, PICTURES[:2], everywhere, "a house at night", **options))
    assert asked == [(["a house at night"] * 2, 2.0)]
    assert [state.t for state in states] == Flow().times(10)[-4:]
    expected = sdedit(Flow(), WORLD.denoiser(Flow()), PICTURES[:2], Flow().times(10), 0.4, seeded())
    assert torch.equal(states[-1].x, last(expected))


@PROCESSES
def test_registered_inversion_climbs_unguided_under_the_source_and_comes_back_under_the_prompt(process):
    asked, editor = [], controls("edit")["invert"]
    assert editor is invert_edit and editor.weights == "town-ddpm"
    model, everywhere = exact_model(process, asked), torch.ones(1, 1, 1, 4, dtype=torch.bool)
    options = dict(generator=seeded(), steps=160, source="a car", scale=2.0)
    states = list(editor(model, PICTURES, everywhere, "a house", **options))
    assert asked == [(["a car"] * 64, 1.0), (["a house"] * 64, 2.0)]
    times = process.times(160)
    assert [state.t for state in states] == times[::-1][1:] + times[1:]
    assert (states[-1].x - PICTURES).abs().max() < 0.2       # one world for both captions: a round trip
    assert (states[159].x - PICTURES).abs().max() > 1
