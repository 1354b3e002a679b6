"""How sure is a figure? Draw the test pictures again, with replacement, and see how far it moves."""

from typing import NamedTuple

import torch
from torch import Tensor

STUDENT = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}              # values -> t, 97.5 %, one degree fewer


class Interval(NamedTuple):
    """A figure and the range that holds it with the stated probability."""

    value: float
    low: float
    high: float

    def __str__(self):
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap(values: Tensor, statistic: str = "mean", level: float = 0.95, draws: int = 1000,
              seed: int = 0) -> Interval:
    """The mean or median of values, (n,), with its percentile bootstrap interval.

    Efron & Tibshirani, "An introduction to the bootstrap", 1993.  values: one a picture; average several
    samples of one picture first, since they are not independent. nan (nothing to measure) is left out.
    level: the probability of the interval.  Raises ValueError for another statistic, and if no value is left.
    """
    values = values.cpu().double().flatten()
    values = values[~values.isnan()]
    if not len(values):
        raise ValueError("no values: at least one that is not nan expected")
    if statistic not in ("mean", "median"):
        raise ValueError(f'statistic "{statistic}": "mean" or "median" expected')

    def summary(rows):
        return rows.mean(-1) if statistic == "mean" else rows.quantile(0.5, dim=-1)

    generator = torch.Generator().manual_seed(seed)
    index = torch.randint(len(values), (draws, len(values)), generator=generator)
    again = summary(values[index])                                                       # (draws,)
    low, high = again.quantile((1 - level) / 2), again.quantile((1 + level) / 2)
    return Interval(float(summary(values)), float(low), float(high))


def student(values: Tensor) -> Interval:
    """The mean of 2 to 5 values and its 95 % interval, mean +- t s / sqrt(n): too few for a bootstrap.

    t is Student's ("The probable error of a mean", 1908), of n - 1 degrees of freedom; s the standard
    deviation.  values: (n,), normal.  Raises ValueError for other numbers of values.
    """
    count = len(values)
    if count not in STUDENT:
        raise ValueError(f"{count} values: {min(STUDENT)} to {max(STUDENT)} expected")
    mean, half = values.mean().item(), STUDENT[count] * values.std().item() / count**0.5
    return Interval(mean, mean - half, mean + half)
