"""What every finding has: statements of the paper, a rule for each, what the records say of it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.figures import Drawing
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Interval

PROFILE = "study"
"""Whose records the findings are taken from."""

HOLDS = "holds"
FAILS = "does not hold"
OPEN = "cannot be told at this scale"
NOT_YET = cells.NOT_YET
PART = "run in part"

UNKNOWN = Interval(math.nan, math.nan, math.nan)
MEAN = "mean"
"""In the place of a task: the mean over those that count."""


@dataclass(frozen=True)
class Answer:
    """What the records say of one statement."""

    statement: paper.Statement
    rule: str
    """By which the verdict is given, in words."""
    verdict: str = NOT_YET
    because: str = ""
    """The numbers behind the verdict; each of them stands in a table of the finding."""
    ours: Interval = UNKNOWN
    by_arch: Mapping[str, Interval] = field(default_factory=dict)
    """Of each converted arch alone, where `ours` is their mean."""


@dataclass(frozen=True)
class Piece:
    """A table of a finding, its caption, and the figure of the same numbers where one helps."""

    name: str
    caption: str
    frame: pd.DataFrame
    drawing: Drawing | None = None
    figure_caption: str = ""


@dataclass(frozen=True)
class Outcome:
    """A finding as the records have it now."""

    answers: tuple[Answer, ...]
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Finding:
    """A page of the book: `build` makes it from the records of a profile."""

    name: str
    """Of its page and its files."""
    title: str
    build: Callable[[pd.DataFrame], Outcome]


def none_counts(answer: Answer, there: Sequence[str], by_arch: Mapping[str, Interval]) -> Answer:
    """All was run, but no task counts for all archs; what there is of each arch alone."""
    because = "no task counts for all archs"
    if there:
        because += f"; {', '.join(there)}"
    return replace(answer, verdict=OPEN, because=because, by_arch=by_arch)


def in_part(answer: Answer, there: Sequence[str]) -> Answer:
    """No verdict yet, but what of it was run."""
    if not there:
        return answer
    return replace(answer, verdict=PART, because=f"so far {', '.join(there)}")


def at_least(found: Interval, bound: float) -> str:
    """Whether the whole interval lies on or above a bound."""
    if math.isnan(found.low):
        return OPEN
    if found.low >= bound:
        return HOLDS
    return FAILS if found.high < bound else OPEN


def at_most(found: Interval, bound: float) -> str:
    """Whether the whole interval lies on or below a bound."""
    return at_least(Interval(-found.value, -found.high, -found.low), -bound)


def within(found: Interval, margin: float) -> str:
    """Whether the whole interval lies between -margin and +margin."""
    if math.isnan(found.low):
        return OPEN
    if -margin <= found.low and found.high <= margin:
        return HOLDS
    return FAILS if found.low > margin or found.high < -margin else OPEN


def all_within(found: Sequence[Interval], margin: float) -> str:
    """Whether all intervals lie within a margin; one wholly outside is enough for the contrary."""
    verdicts = {within(one, margin) for one in found}
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts == {HOLDS} else OPEN


def all_below(found: Sequence[Interval]) -> str:
    """Whether all intervals lie wholly below 0; one wholly above is enough for the contrary."""
    if any(one.low > 0 for one in found):
        return FAILS
    return HOLDS if found and all(one.high < 0 for one in found) else OPEN


def in_percent(found: Interval) -> str:
    """An interval as sentences have it."""
    return _said(found, "{:.1f}", " %")


def in_points(found: Interval) -> str:
    """A change in percentage points as sentences have it."""
    return _said(found, "{:+.1f}", " points")


def in_score(found: Interval) -> str:
    """A change of score as sentences have it."""
    return _said(found, "{:+.3f}", "")


def _said(found: Interval, shape: str, unit: str) -> str:
    value, low, high = (shape.format(x).replace("-", "\N{MINUS SIGN}") for x in found)
    bounds = cells.UNBOUNDED if math.isnan(found.low) else f"{low} to {high}"
    return f"{value}{unit} ({bounds})"


def filled(rows: Sequence[dict], columns: Sequence[str]) -> pd.DataFrame:
    """Rows as a table in which an empty cell says that it was not run yet."""
    frame = pd.DataFrame(list(rows) or [dict.fromkeys(columns)], columns=list(columns))
    frame = frame.astype(object)
    return frame.where(frame.notna(), NOT_YET)


def bounds(found: Interval, what: str, unit: str) -> dict:
    """Low and high as two cells."""
    missing = cells.UNBOUNDED if not math.isnan(found.value) else None
    return {
        f"{what}, {name} ({unit})": missing if math.isnan(value) else value
        for name, value in zip(("low", "high"), found[1:], strict=True)
    }
