"""How a quantity grows with the input length: slopes, and where one falls below another."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd

SLOPE_FROM = 1024
"""Tokens from which on slopes are fitted: below, what does not depend on the length weighs in."""


def slope(line: pd.Series) -> float:
    """Exponent of the length, fitted on log scales from `SLOPE_FROM` on.

    Args:
        line: positive values by length. Where fewer than two are long, all count.
    """
    long = line[line.index >= SLOPE_FROM]
    line = long if len(long) > 1 else line
    if len(line) < 2:
        return math.nan
    return float(np.polyfit(np.log(line.index.to_numpy(float)), np.log(line.to_numpy()), 1)[0])


def crossing(ratios: pd.Series) -> float:
    """Where a ratio falls below 1 for good; between two lengths, on log scales.

    Args:
        ratios: by length, in order.

    Returns:
        The length; 0 where it is below 1 throughout, infinite where it is not at the end,
        not-a-number where there is none.
    """
    lengths = list(ratios.index)
    if not lengths:
        return math.nan
    if ratios[lengths[-1]] >= 1:
        return math.inf
    for before, after in reversed(list(pairwise(lengths))):
        if ratios[before] >= 1:
            low, high = math.log(ratios[before]), math.log(ratios[after])
            return before * (after / before) ** (low / (low - high))
    return 0.0


def crossing_words(ratios: pd.Series, nothing: str) -> str:
    """`crossing` for a reader; `nothing`: said where there is no ratio."""
    found = crossing(ratios)
    if math.isnan(found):
        return nothing
    if math.isinf(found):
        return f"above {ratios.index[-1]:,}"
    return f"{found:,.0f}" if found else f"below {ratios.index[0]:,}"
