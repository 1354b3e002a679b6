"""The training loop that every script shares.

A script brings two things: `make_batch(generator, now)`, all of a pass's randomness, and a module whose
forward(*batch), a pure function, returns the losses and noise levels of the pictures. All generators are
seeded by (seed, step, pass): there is no random state to save, and on the CPU a run that was killed resumes
to the same bits as one that was not.

With `minutes` the learning rate stays constant for the first 1 - decay of the time. Then the number of steps
is fixed from the speed and stored, and the rate falls to zero over the rest: only this one decision depends
on the clock.
"""

import hashlib
import signal
import threading
import time
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from train.log import Log
from train.place import Place
from train.recorded import Recorded
from train.state import State


class Now(NamedTuple):
    """Where a training is when it makes a batch.

    step: 0 for the first.  number: of the pass in its step.  falling: 1 until the learning rate falls, then
    down to almost 0 with it: for what a training does at first and should have left off at its end.
    """

    step: int
    number: int
    falling: float


def train(network, make_batch, config, sample=None, given=None):
    """Train to the end, or to Ctrl-C, resuming where config.folder holds a checkpoint. Returns the State.

    network: nn.Module, forward(*batch) -> (losses (B,), levels (B,) in 0..1).  make_batch: (CPU generator,
    Now) -> a tuple of tensors on the training device.  sample: called now and then, as
    sample(ema_network, step).  given: name -> what else must be as it was when a run goes on, such as the
    hash of a network that is not trained.
    Raises TrainingError when a loss is not finite, CheckpointError for a checkpoint that is damaged or
    another run's.
    """
    place = Place.find(config.device)
    state = State(network.to(place.device, memory_format=torch.channels_last), config, place.world, given)
    state.resume(config.folder)
    parallel = place.parallel(compiled(network) if config.compile else network)
    run = one_pass(parallel, config, place)
    if place.plays_graphs(config.graphs):
        run = Recorded(run, network.parameters())
    log, clock = Log(config.folder, state, place), Clock(state.seconds)
    bar = tqdm(total=state.steps or None, initial=state.step, unit="step", disable=not place.first)
    with interrupts() as interrupted, bar:
        stopping = False
        while not state.done and not stopping:
            log.add(*one_step(parallel, state, make_batch, config, place, run))
            state.seconds, known = clock.seconds(), state.steps
            state.mark()
            stopping, steps = place.agree(interrupted.is_set(), count_steps(state, config))
            state.fix(steps)
            if state.step % config.log_steps == 0 or state.done:
                bar.set_postfix(log.write(state, learning_rate(state.step - 1, state, config)))
            decided = stopping or state.done or state.steps != known
            if place.first and (decided or clock.due("save", config.save_minutes)):
                log.check(state)
                state.save(config.folder)
            due = state.done or clock.due("sample", config.sample_minutes)
            if place.first and sample and due and not stopping:
                with place.autocast(config.bf16):
                    sample(state.ema, state.step)
            bar.total = state.steps or None
            bar.update()
        if stopping and place.first:
            bar.write(f"Stopped and saved after step {state.step}: the same command goes on from there.")
    place.wait()
    return state


def one_pass(parallel, config, place):
    """run(batch) -> (losses, levels): forward, and backward, which adds to the gradients."""

    def run(batch):
        with place.autocast(config.bf16):
            losses, levels = parallel(*batch)
        (losses.mean() / config.accumulate).backward()
        return losses.detach(), levels

    return run


def one_step(parallel, state, make_batch, config, place, run=None):
    """One update of the weights and of their running mean: what Log.add takes in.

    run: does a pass, None = as `one_pass`.
    """
    run = run or one_pass(parallel, config, place)
    for optimizer in state.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(state.step, state, config)
    passes, falls, waited = [], falling(state.step, state), 0.0
    for i in range(config.accumulate):
        number = place.rank * config.accumulate + i
        generator = generator_of(config.seed, state.step, number)
        begin = time.perf_counter()
        batch = make_batch(generator, Now(state.step, number, falls))
        waited += time.perf_counter() - begin
        with place.passing(parallel, last=i == config.accumulate - 1):
            passes.append(run(batch))
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
    for optimizer in state.optimizers:
        optimizer.step()
        optimizer.zero_grad(set_to_none=not place.plays_graphs(config.graphs))
    state.follow()
    state.step += 1
    losses, levels = (torch.cat(column) for column in zip(*passes, strict=True))
    return losses, levels, norm, waited


def compiled(network):
    """The network, compiled as a whole, or as it says itself, if parts of it repeat."""
    if not hasattr(network, "compile_repeated"):
        return torch.compile(network)
    network.compile_repeated()
    return network


def learning_rate(step, state, config):
    """Up in a straight line, constant, and down to 0 over the last steps.

    learning_rate min(1, (step + 1) / warmup, falling): a function of the step alone, once the number of
    steps is fixed. "Warmup-stable-decay", Hu et al. (2404.06395), whose fall is exponential.  step: 0 for
    the first.
    """
    rising = (step + 1) / max(config.warmup, 1)
    return config.learning_rate * min(rising, falling(step, state))


def falling(step, state):
    """1, then from step state.constant on down to 0 at state.steps, in a straight line; 1 while undecided."""
    if not state.steps:
        return 1
    return min(1, (state.steps - step) / max(state.steps - state.constant, 1))


def count_steps(state, config):
    """The number of steps of the run, 0 until 1 - decay of the minutes are spent; the fall takes the rest.

    How many fit in the rest is told from the speed in the last quarter of this time: at first, a training
    compiles, and makes what comes again. After a break too late for that, from the speed so far.
    """
    if state.steps or state.seconds < (1 - config.decay) * 60 * config.minutes:
        return state.steps
    step, seconds = state.marked if state.marked and state.marked[0] < state.step else (0, 0.0)
    pace = (state.step - step) / (state.seconds - seconds)                         # steps a second
    return state.step + max(1, round(pace * (60 * config.minutes - state.seconds)))


def generator_of(*parts):
    """A CPU generator seeded by parts, as (seed, step, pass), hashed: near seeds may give related streams."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


class Clock:
    """Seconds of training, earlier sittings included, and what is due every so many minutes."""

    def __init__(self, seconds):
        self.began = time.monotonic() - seconds
        self.last = {}

    def seconds(self):
        """Since the training began, without the time between its sittings."""
        return time.monotonic() - self.began

    def due(self, what, minutes):
        """True once every `minutes`, from the first question on."""
        now = time.monotonic()
        if now - self.last.setdefault(what, now) < 60 * minutes:
            return False
        self.last[what] = now
        return True


@contextmanager
def interrupts():
    """Inside, the first Ctrl-C or SIGTERM sets the Event that this yields: no step is left half done."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event                                             # signals reach only the main thread
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}

    def note(number, frame):
        event.set()
        signal.signal(number, before[number])                   # the second one acts at once

    for number in numbers:
        signal.signal(number, note)
    try:
        yield event
    finally:
        for number in numbers:
            signal.signal(number, before[number])
