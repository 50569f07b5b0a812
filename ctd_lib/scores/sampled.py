"""Numbers together with what they are in every resample, and arithmetic that keeps both."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

LEVEL = 0.95
"""Of every interval of the report."""


class Interval(NamedTuple):
    """A value with the bounds between which it lies, with confidence `LEVEL`."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Sampled:
    """A number and what it is in each resample, (R,)."""

    value: float
    drawn: np.ndarray

    def __sub__(self, other: "Sampled") -> "Sampled":
        return Sampled(self.value - other.value, self.drawn - other.drawn)

    @property
    def interval(self) -> Interval:
        """With its percentile interval; without bounds where a resample has no value."""
        if np.isnan(self.drawn).any():
            return Interval(self.value, math.nan, math.nan)
        low, high = np.quantile(self.drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(self.value, float(low), float(high))


def percent(part: Sampled, whole: Sampled) -> Sampled:
    """`part` in percent of `whole`; not a number in resamples without a positive whole."""
    below = np.where(whole.drawn > 0, whole.drawn, np.nan)
    value = 100 * (part.value / whole.value) if whole.value > 0 else math.nan
    return Sampled(value, 100 * (part.drawn / below))


def mean(found: Sequence[Sampled]) -> Sampled:
    """The mean of numbers that share their resamples: several archs on one task."""
    return Sampled(
        float(np.mean([one.value for one in found])), np.mean([one.drawn for one in found], axis=0)
    )


def mean_over_tasks(found: Sequence[Sampled], seed: int = 0) -> Sampled:
    """The mean over tasks: each resample draws tasks with replacement, then their examples."""
    rng = np.random.default_rng(seed)
    count, resamples = len(found), len(found[0].drawn)
    # Every task was resampled by the same seed: in another order its draws are its own.
    drawn = np.stack([one.drawn[rng.permutation(resamples)] for one in found])  # (tasks, R)
    chosen = rng.integers(count, size=(count, resamples))
    return Sampled(
        float(np.mean([one.value for one in found])),
        np.take_along_axis(drawn, chosen, axis=0).mean(0),
    )
