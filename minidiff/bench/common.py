"""What tables share: running a sampling to its end, seeded chance, scenes that no training has seen."""

import torch

from minidiff import toytown

HELD_OUT_SEED = 20_000_003                                      # training draws its scenes from other seeds


def last(states):
    """The picture that a generator of States ends with: (B, C, H, W)."""
    for state in states:
        pass
    return state.x


def seeded(seed):
    """A CPU generator that starts at seed."""
    return torch.Generator().manual_seed(seed)


def held_out_scenes(n):
    """The same n scenes in every table."""
    return toytown.scenes(n, HELD_OUT_SEED)
