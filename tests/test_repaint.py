"""RePaint: the staircase, what it keeps, and that it is plain sampling where everything may change."""

from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from minidiff.control import controls
from minidiff.control.repaint import repaint, repaint_inpaint, repaint_path, repaint_step
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


def known_picture(dtype=torch.float32):
    return torch.rand(2, 3, 8, 8, generator=seeded(9), dtype=dtype) * 2 - 1


def left_half():
    edit_mask = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    edit_mask[..., :4] = True
    return edit_mask


def last(states):
    return list(states)[-1].x


# The path

def steps_down_and_up(path):
    down = sum(t_next < t for t, t_next in pairwise(path))
    return down, len(path) - 1 - down


@pytest.mark.parametrize("visits, calls", [(1, 250), (2, 490), (5, 1210), (10, 2410), (20, 4810)])
def test_path_has_the_papers_number_of_network_calls(visits, calls):
    path = repaint_path(DDPM.linear(250).times(250), jump=10, visits=visits)
    assert steps_down_and_up(path) == (calls, calls - 250)


def levels_of_the_authors(T, jump, visits):
    """The authors' rule: at an index k in range(0, T - jump, jump), climb, visits - 1 times in all."""
    left, walk, k = dict.fromkeys(range(0, T - jump, jump), visits - 1), [], T
    while k >= 1:
        k -= 1
        walk.append(k)
        if left.get(k, 0):
            left[k] -= 1
            walk.extend(range(k + 1, k + jump + 1))
            k += jump
    return [index + 1 for index in walk + [-1]]                      # their index -1 is our level 0


@pytest.mark.parametrize(
    "T, jump, visits", [(250, 10, 10), (250, 10, 1), (250, 1, 3), (50, 5, 4), (23, 7, 2), (11, 10, 3)]
)
def test_path_is_the_authors(T, jump, visits):
    assert repaint_path(list(range(T, -1, -1)), jump, visits) == levels_of_the_authors(T, jump, visits)


def test_path_walks_the_indices_of_any_times():
    plain = repaint_path(list(range(50, -1, -1)), 5, 3)
    for process in (DDPM.linear(1000), Flow()):
        times = process.times(50)
        assert repaint_path(times, 5, 3) == [times[50 - level] for level in plain]


def test_path_without_climbs_is_times():
    times = Flow().times(20)
    assert repaint_path(times, 10, 1) == times
    assert repaint_path([1.0, 0.0], 10, 1) == [1.0, 0.0]


def test_path_climbs_one_level_at_a_time_and_never_leaves_level_0():
    path = repaint_path(list(range(30, -1, -1)), 4, 3)
    assert all(abs(t - t_next) == 1 for t, t_next in pairwise(path))
    assert path[0] == 30 and path[-1] == 0 and path.count(0) == 1


@pytest.mark.parametrize("jump, visits", [(0, 2), (10, 0), (20, 2), (25, 2)])
def test_path_refuses_what_it_cannot_walk(jump, visits):
    with pytest.raises(ValueError, match=f"jump = {jump}, visits = {visits}, 20 steps: visits >= 1"):
        repaint_path(Flow().times(20), jump, visits)


# The step

@PROCESSES
def test_step_lands_both_halves_on_the_same_level(process):
    known, x_t, noise = known_picture(), torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8, generator=seeded(1))
    t, t_next = process.times(10)[4:6]
    x = repaint_step(process, x_t, halve(x_t, t), t, t_next, known, left_half(), noise)
    assert torch.equal(x[..., :4], process.step(x_t, halve(x_t, t), t, t_next, noise)[..., :4])
    a, s = (number.item() for number in process.signal_noise(t_next, x_t))
    assert (x[..., 4:] - (a * known + s * noise)[..., 4:]).abs().max() < 1e-6


# The loop

@PROCESSES
def test_everything_editable_with_one_visit_is_sampling_bit_for_bit(process):
    known, everything, times = known_picture(), torch.ones(1, 1, 8, 8, dtype=torch.bool), process.times(10)
    deterministic = process.euler_step if isinstance(process, Flow) else process.ddim_step
    for step in (None, deterministic):
        generator = seeded(3)
        x = torch.randn(2, 3, 8, 8, generator=generator)
        sampled = list(sample(process, halve, x, times, generator, step=step))
        path = repaint_path(times, 5, 1)
        painted = list(repaint(process, halve, known, everything, path, seeded(3), step=step))
        assert len(sampled) == len(painted)
        for one, other in zip(sampled, painted):
            assert one.t == other.t and torch.equal(one.x, other.x) and torch.equal(one.x0_hat, other.x0_hat)


@PROCESSES
def test_kept_pixels_are_exact_without_compositing(process):
    for dtype in (torch.float32, torch.float64):
        known = known_picture(dtype)
        for visits in (1, 3):
            path = repaint_path(process.times(12), 3, visits)
            x = last(repaint(process, halve, known, left_half(), path, seeded()))
            assert (x - known)[..., 4:].abs().max() == 0
            assert (x - known)[..., :4].abs().min() > 0 and x.isfinite().all()


@PROCESSES
def test_kept_uint8_pixels_come_back_identical_under_random_masks(process):
    """1,000 masks, each on a picture of its own: uint8 -> [-1, 1] -> repaint -> uint8."""
    pixels = torch.randint(0, 256, (1000, 3, 8, 8), generator=seeded(1), dtype=torch.uint8)
    known = pixels.float() / 127.5 - 1
    share = torch.rand(1000, 1, 1, 1, generator=seeded(4))
    edit_mask = torch.rand(1000, 1, 8, 8, generator=seeded(2)) < share
    x = last(repaint(process, halve, known, edit_mask, repaint_path(process.times(6), 2, 2), seeded()))
    back = ((x.clamp(-1, 1) + 1) * 127.5).round().byte()
    assert torch.where(edit_mask, 0, (x - known).abs()).max() == 0
    assert (torch.where(edit_mask, pixels, back) == pixels).all()


@PROCESSES
def test_nothing_editable_returns_the_picture(process):
    known, nothing = known_picture(), torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    path = repaint_path(process.times(6), 2, 2)
    assert torch.equal(last(repaint(process, halve, known, nothing, path, seeded())), known)


@PROCESSES
def test_the_hole_is_never_read(process):
    path = repaint_path(process.times(6), 2, 2)
    hidden = torch.where(left_half(), float("nan"), known_picture())
    shown = last(repaint(process, halve, known_picture(), left_half(), path, seeded()))
    assert torch.equal(last(repaint(process, halve, hidden, left_half(), path, seeded())), shown)


@PROCESSES
def test_same_seed_same_bits(process):
    known, path = known_picture(), repaint_path(process.times(6), 2, 2)
    runs = [last(repaint(process, halve, known, left_half(), path, seeded(seed))) for seed in (1, 1, 2)]
    assert torch.equal(runs[0], runs[1]) and not torch.equal(runs[0], runs[2])


@PROCESSES
def test_states_follow_the_path_and_the_network_is_asked_only_on_the_way_down(process):
    path, seen = repaint_path(process.times(12), 3, 2), []

    def denoise(x_t, t):
        seen.append(t)
        return halve(x_t, t)

    states = list(repaint(process, denoise, known_picture(), left_half(), path, seeded()))
    assert [state.t for state in states] == path[1:]
    assert seen == [t for t, t_next in pairwise(path) if t_next < t]
    climbed = [i for i, (t, t_next) in enumerate(pairwise(path)) if t_next > t]
    assert all(torch.equal(states[i].x0_hat, states[i - 1].x0_hat) for i in climbed)


def test_every_state_keeps_the_truth_at_its_own_level():
    """10,000 draws of a picture of ones: kept pixels have mean a and deviation s at every level."""
    process, known = DDPM.linear(50), torch.ones(10_000, 1, 1, 2)
    edit_mask = torch.tensor([True, False]).view(1, 1, 1, 2)
    for state in repaint(process, halve, known, edit_mask, repaint_path(process.times(10), 3, 2), seeded()):
        a, s = (number.item() for number in process.signal_noise(state.t, known))
        kept = state.x[..., 1]
        assert abs(kept.mean().item() - a) < 0.05 and abs(kept.std().item() - s) < 0.04


@pytest.mark.parametrize("shape, dtype", [
    ((8, 8), torch.bool), ((1, 3, 8, 8), torch.bool), ((1, 1, 6, 8), torch.bool), ((3, 1, 8, 8), torch.bool),
    ((1, 1, 8, 8), torch.float32),
], ids=["rank", "channels", "height", "batch", "dtype"])
def test_masks_that_do_not_fit_are_refused(shape, dtype):
    edit_mask = torch.ones(shape, dtype=dtype)
    with pytest.raises(ValueError, match="edit_mask is .* image is") as error:
        next(repaint(Flow(), halve, known_picture(), edit_mask, [1.0, 0.0], seeded()))
    assert str(error.value).count("\n") < 2


# The editor

def test_registered_editor_binds_a_prompt_for_each_picture():
    asked = []

    def denoiser(prompts, scale):
        asked.append((prompts, scale))
        return halve

    model, editor = SimpleNamespace(process=Flow(), size=8, denoiser=denoiser), controls("inpaint")["repaint"]
    assert editor is repaint_inpaint
    options = dict(steps=8, jump=2, visits=2, scale=3.0)
    states = list(editor(model, known_picture(), left_half(), "a house", generator=seeded(), **options))
    assert asked == [(["a house", "a house"], 3.0)]
    assert [state.t for state in states] == repaint_path(Flow().times(8), 2, 2)[1:]
    with pytest.raises(ValueError, match='task = "fly"'):
        controls("fly")
