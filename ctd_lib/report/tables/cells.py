"""What the tables of the report have in common: what a cell says, and how a table is finished."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

NOT_RUN = "not run"
NOT_YET = "not run yet"
"""Of the study, which is the plan of a finding."""
NOT_ALL_RUN = "not all run"
"""Of a mean."""
NONE_COUNTS = "none counts"
"""Of a mean whose tasks were run, but for which none of them counts."""
NOISE = "inside the noise"
UNBOUNDED = "unbounded"
"""Said of the interval of a score kept where a resample's teacher scores 0."""
SYNTHETIC_MARK = "†"
SYNTHETIC_NOTE = f"{SYNTHETIC_MARK} synthetic documents, made by a program: no real text."


@dataclass(frozen=True)
class Table:
    """A table of the book: `build` makes it, `caption` says what it shows."""

    build: Callable[[pd.DataFrame], pd.DataFrame]
    caption: str
    kind: str | None = None
    """Kind of record that it needs; where a profile has none, the study's records are shown."""
    records: str | None = None
    """Folder of its records below `results`; None: that of the profile."""
    named: str | None = None
    """Name of its files, if it is not that of `build`."""

    @property
    def name(self) -> str:
        """Name of its files."""
        return self.named or self.build.__name__


def complete(rows: Iterable[dict], columns: Iterable[str] = ("result",)) -> pd.DataFrame:
    """Rows as a table in which every empty cell says that it was not run.

    A table without rows gets one of these columns: without any, it could not be referred to.
    """
    rows = list(rows) or [dict.fromkeys(columns)]
    frame = pd.DataFrame(rows).astype(object)
    return frame.where(frame.notna(), NOT_RUN)


def marked(name: str, synthetic: bool | Iterable[bool]) -> str:
    """A name, with the mark if any of its data is synthetic."""
    return f"{name} {SYNTHETIC_MARK}" if np.any(synthetic) else name


def several(count: int, what: str) -> str:
    """A count and its noun, which takes an s."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def only(values: pd.Series) -> object:
    """The one value of a column, or all that there are."""
    return " / ".join(map(str, values.unique())) if len(values) else None


def verdict(low: float | None, high: float | None) -> str | None:
    """What the interval of student - teacher allows to say of the student; None without one."""
    if pd.isna(low) or pd.isna(high):
        return None
    if low <= 0 <= high:
        return NOISE
    return "higher" if low > 0 else "lower"
