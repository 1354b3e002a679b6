"""Speed: pictures and scenes a second, and what the loop adds to the network

"loop (%)" is the time outside the network as a share of the time inside it: at most 5 is promised.
RePaint runs the paper's schedule on one picture. Seconds are those of a clock on the wall, so measure on
a machine with nothing else to do.
"""

from contextlib import contextmanager
from time import perf_counter
from types import SimpleNamespace

import torch

from minidiff import toytown
from minidiff.bench.common import seeded
from minidiff.control.masks import half
from minidiff.control.repaint import repaint, repaint_path
from minidiff.process.sample import normal_like, sample

QUICK = dict(schedule=(20, 5, 2), steps=4, batch=4, painted=64)


def rows(model, schedule=(250, 10, 10), steps=50, batch=16, painted=2000, seed=0):
    """One row each for RePaint on one picture, sampling a batch, drawing and painting scenes.

    schedule: (steps, jump, visits) of RePaint.  steps, batch: of the sampling.  painted: scenes.
    """
    picture = toytown.paint(toytown.scenes(1, seed), model.size).to(model.device)
    edit_mask = half(model.size, model.size).to(model.device)
    levels, jump, visits = schedule
    path = repaint_path(model.process.times(levels), jump, visits)
    times = model.process.times(steps)
    noise = normal_like(picture.expand(batch, -1, -1, -1), seeded(seed))

    def editing():
        return repaint(model.process, model.denoiser([""]), picture, edit_mask, path, seeded(seed))

    def sampling():
        return sample(model.process, model.denoiser([""] * batch), noise, times, seeded(seed))

    return [network_row(f"RePaint, {levels} steps, jump {jump}, visits {visits}", model, editing, 1),
            network_row(f"sampling, {steps} steps", model, sampling, batch),
            scene_row(painted, model.size, seed)]


def chief(rows):
    """Task -> seconds, for the tasks that ask the network."""
    return {"town-ddpm": {row["task"]: round(row["seconds"], 2) for row in rows if "network calls" in row}}


def network_row(task, model, states, pictures):
    """Time a generator of States, and the network inside it, once the machine is warm.

    states: () -> generator.  The first states of another run warm up.
    """
    next(states())
    synchronize()
    with stopwatch(model.unet) as clock:
        start = perf_counter()
        for _ in states():
            pass
        synchronize()
        seconds = perf_counter() - start
    return {"task": task, "at once": pictures, "network calls": clock.calls, "seconds": seconds,
            "each second": pictures / seconds, "loop (%)": 100 * (seconds / clock.seconds - 1)}


def scene_row(n, size, seed):
    """Time the drawing and painting of n scenes."""
    toytown.paint(toytown.scenes(16, seed), size)
    start = perf_counter()
    toytown.paint(toytown.scenes(n, seed), size)
    seconds = perf_counter() - start
    task = f"Toytown scenes, {size}x{size}"
    return {"task": task, "at once": n, "seconds": seconds, "each second": n / seconds}


@contextmanager
def stopwatch(network):
    """Count a network's calls inside the block, and the seconds spent in them: clock.calls, clock.seconds."""
    clock = SimpleNamespace(calls=0, seconds=0.0, started=0.0)

    def start(*_):
        synchronize()
        clock.started = perf_counter()

    def stop(*_):
        synchronize()
        clock.seconds += perf_counter() - clock.started
        clock.calls += 1

    hooks = network.register_forward_pre_hook(start), network.register_forward_hook(stop)
    try:
        yield clock
    finally:
        for hook in hooks:
            hook.remove()


def synchronize():
    """Wait for the accelerator, if there is one: it returns from a call before it has done the work."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()

