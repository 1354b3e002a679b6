"""Where the batches of a training come from: painted ahead by workers, made once, and shown again."""

import os
import signal
import sys
from dataclasses import dataclass

import torch
from torch.utils.data import DataLoader

from minidiff.images import to_uint8, to_x0
from train.batches import each
from train.config import LoopConfig
from train.log import TrainingError
from train.loop import Now, generator_of


@dataclass(frozen=True)
class AgainConfig(LoopConfig):
    """What batches that come again need to know.

    distinct: batches that differ, before they come again with other noise; 0 = all do, and none is kept.
    every: steps to a new one of these, with old ones between, since painting takes time.
    """

    distinct: int = 0
    every: int = 1

    def __post_init__(self):
        super().__post_init__()
        if self.distinct < 0 or self.every < 1:
            raise ValueError(f"distinct = {self.distinct}, every = {self.every}: at least 0 and 1 expected")


@dataclass(frozen=True)
class SupplyConfig(AgainConfig):
    """What batches that are painted ahead need to know.

    workers: processes that paint for each process of the training; 0 = batches are painted when needed.
    """

    workers: int = 0

    def __post_init__(self):
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"workers = {self.workers}: at least 0 expected")


class Supply:
    """What a training learns from, batch by batch: painted ahead by workers, kept, and shown again.

    make: (CPU generator, Now) -> tuples and lists of tensors and of anything else; but it is not told how far
    the training is.  Pictures among them, (n, C, H, W) float32 in [-1, 1], travel and stay as bytes, as files
    have them.  prepare: what is made of a batch before it is kept, on the device, once; None = nothing.
    config: a SupplyConfig. The batches are the same for any number of workers;
    without any, pictures are painted where the training runs, and a GPU may round otherwise.
    """

    def __init__(self, make, config, device, prepare=None):
        def packed(generator, now):
            return each(as_bytes, make(generator, now))

        def placed(now):
            batch = each(lambda tensor: tensor.to(device, non_blocking=pinned), ahead(now))
            return prepare(each(as_floats, batch)) if prepare else batch

        pinned = torch.device(device).type == "cuda"
        ahead = Ahead(packed, config, pinned)
        self.again, self.prepared = Again(placed, config), bool(prepare)

    def __call__(self, now):
        """The batch of a pass of a step, on the device.  now: as in train.loop."""
        batch = self.again(now)
        return batch if self.prepared else each(as_floats, batch)


def paints_on(config, device):
    """Where what Supply makes is painted: on the CPU if by workers, else where the training runs."""
    return "cpu" if config.workers else device


def as_bytes(tensor):
    """Pictures, (n, C, H, W) float32 in [-1, 1], as uint8; any other tensor as it is.

    Raises ValueError for a tensor that looks like pictures, but is out of their range.
    """
    if tensor.dtype != torch.float32 or tensor.ndim != 4:
        return tensor
    if not (tensor.abs() <= 1 + 1e-3).all():
        found = f"{tuple(tensor.shape)}, up to {tensor.abs().max().item()}"
        raise ValueError(f"float32 with four axes is taken for pictures, but is {found}: -1 to 1 expected")
    return to_uint8(tensor)


def as_floats(tensor):
    """The inverse of as_bytes."""
    return to_x0(tensor) if tensor.dtype == torch.uint8 else tensor


class Ahead:
    """Batches that worker processes make ahead of their steps, on the CPU, so that no GPU waits for them.

    make: (CPU generator, Now) -> as for Supply.  config: a SupplyConfig; after its last distinct batch the
    workers end.  pinned: in memory that a GPU can fetch from by itself?
    Raises ValueError for workers where it is not safe to fork.
    """

    def __init__(self, make, config, pinned=False):
        self.make, self.config, self.pinned = make, config, pinned
        if config.workers and sys.platform != "linux":
            raise ValueError(f"workers = {config.workers}: --workers 0 expected: only Linux forks safely")
        self.workers = config.workers and min(config.workers, len(os.sched_getaffinity(0)))
        self.batches = iter(())                                 # of the workers: (pass, batch), in turn

    def __call__(self, now):
        """The batch of a pass of a step.  now: as in train.loop. Out of order, the workers begin anew."""
        wanted = now.step, now.number
        made, batch = self.next_of_workers() if self.workers else self[wanted]
        if made != wanted:
            self.batches = self.begun(wanted)
            made, batch = self.next_of_workers()
        accumulate, last = self.config.accumulate, self.config.distinct - 1
        if now.step == last and (now.number + 1) % accumulate == 0:
            self.batches = iter(())                             # no other will be asked for: the workers end
        return batch

    def next_of_workers(self):
        """(pass, batch), or twice None before they have begun. Raises TrainingError if one is gone."""
        try:
            return next(self.batches, (None, None))
        except RuntimeError as error:
            if not str(error).startswith("DataLoader worker"):
                raise
            found = f"a process that paints has ended: {str(error).splitlines()[0]}"
            hint = "the same command resumes: fewer --workers, if memory was short"
            raise TrainingError(f"{found}\n{hint}") from None

    def begun(self, wanted):
        """The workers at work, from this pass on."""
        return iter(DataLoader(self, None, sampler=passes(*wanted, self.config.accumulate),
                               num_workers=self.workers, multiprocessing_context="fork",
                               pin_memory=self.pinned, worker_init_fn=ignore_interrupts))

    def __getitem__(self, wanted):
        generator = generator_of(self.config.seed, "ahead", *wanted)
        return wanted, self.make(generator, Now(*wanted, 1.0))


def ignore_interrupts(worker):
    """In a worker: Ctrl-C is for the training, which ends its step first, and then its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def passes(step, number, accumulate):
    """The passes of one process from one of them on, without end: (step, number), as in train.loop."""
    first = number - number % accumulate
    while True:
        yield step, number
        number += 1
        if number == first + accumulate:
            step, number = step + 1, first


class Again:
    """Batches that are made once and come again: for what is slow to make.

    make: Now -> anything; but it is not told how far the training is.  config.distinct: how many there are; 0
    = none comes again, and none is kept; else all are, on the training device.  config.every: a new one is
    made each so many steps, and until all are, the steps between get old ones, by chance; then they come in
    turn. A training that resumes makes the same ones again, in their order, before it goes on.
    """

    def __init__(self, make, config):
        self.make, self.config = make, config
        self.made = {}

    def __call__(self, now):
        """The batch of a pass of a step."""
        if not self.config.distinct:
            return self.make(now)
        wanted = self.which(now.step), now.number
        if wanted not in self.made:
            self.catch_up(*wanted)
        return self.made[wanted]

    def which(self, step):
        """The number of a step's batch, 0 to distinct - 1."""
        new, between = divmod(step, self.config.every)
        if new >= self.config.distinct:
            return step % self.config.distinct
        if not between:
            return new
        return int(torch.randint(new + 1, (), generator=generator_of(self.config.seed, "old", step)))

    def catch_up(self, last, number):
        """Make this batch; before it, after a break, all that may be asked for by chance, in their order.

        So workers that paint ahead need not begin anew for each.
        """
        start = 0 if self.config.every > 1 else last
        for wanted in passes(start, number - number % self.config.accumulate, self.config.accumulate):
            if wanted not in self.made:
                self.made[wanted] = self.make(Now(*wanted, 1.0))
            if wanted == (last, number):
                return
