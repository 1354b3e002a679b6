"""What tables share: running a sampling to its end, seeded chance, scenes that no training has seen."""

import torch

from minidiff import toytown
from minidiff.toytown.splits import load_split


def last(states):
    """The picture that a generator of States ends with: (B, C, H, W)."""
    for state in states:
        pass
    return state.x


def seeded(seed):
    """A CPU generator that starts at seed."""
    return torch.Generator().manual_seed(seed)


def fresh_scenes(n, generator):
    """n scenes by a generator's chance."""
    return toytown.scenes(n, int(torch.randint(2**31, (), generator=generator)))


def held_out(n):
    """The first n scenes of the frozen test split, with their captions; n <= 256: phrased as in training."""
    test = load_split("test")
    return test.scenes[:n], list(test.captions[:n])
