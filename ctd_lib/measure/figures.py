"""Rounds in a few numbers: median, spread, throughput, and ratios with intervals."""

from collections.abc import Sequence

import numpy as np

PERCENTILES = {"seconds_median": 50, "seconds_p5": 5, "seconds_p95": 95}
FIGURES = (*PERCENTILES, "seconds_iqr", "tokens_per_second", "documents_per_second")
RESAMPLES = 2000
FEWEST_ROUNDS = 3
"""For an interval."""


def summary(seconds: Sequence[float] | str, tokens: int, documents: int) -> dict:
    """The figures of one row.

    Args:
        seconds: of each round, or the sentence that explains why there are none.
        tokens: of a forward, padding not among them.
        documents: of a forward.

    Returns:
        `FIGURES` and `error`; where there is an error the figures are None.
    """
    if isinstance(seconds, str):
        return dict.fromkeys(FIGURES) | {"error": seconds}
    low, high = np.percentile(seconds, [25, 75]).tolist()
    figures = {name: float(np.percentile(seconds, p)) for name, p in PERCENTILES.items()}
    median = figures["seconds_median"]
    return figures | {
        "seconds_iqr": [low, high],
        "tokens_per_second": tokens / median,
        "documents_per_second": documents / median,
        "error": None,
    }


def ratio(of: Sequence[float], to: Sequence[float]) -> dict:
    """Median seconds of one over those of the other, with its 95 % interval.

    The interval is a percentile bootstrap over rounds, each drawn with both of its times, which
    one disturbance may have touched together. Fewer than three rounds have none.
    """
    of, to = np.asarray(of), np.asarray(to)
    result = {"ratio": float(np.median(of) / np.median(to)), "low": None, "high": None}
    if len(of) < FEWEST_ROUNDS:
        return result
    drawn = np.random.default_rng(0).integers(len(of), size=(RESAMPLES, len(of)))
    ratios = np.median(of[drawn], axis=1) / np.median(to[drawn], axis=1)
    low, high = np.percentile(ratios, [2.5, 97.5]).tolist()
    return result | {"low": low, "high": high}
