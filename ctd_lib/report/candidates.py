"""The profile's own models to choose from: score, time and memory of each at each length."""

import pandas as pd

from ctd_lib.report import kept, systems, tidy

COLUMNS = (
    "arch", "role", "dtype", "length", "score", "tasks", "synthetic", "ms", "mib",
    "documents_per_second",
)  # fmt: skip
TIMED = ["arch", "role", "dtype", "length"]


def candidates(found: pd.DataFrame) -> pd.DataFrame:
    """Every model that has a score and a time, with the columns `COLUMNS`.

    The score is the mean over the tasks of `kept.shared_scores`: of short text
    at lengths up to `tidy.LONG_CONTEXT`, else of long text. Time and memory are of one document.
    """
    timed = _timed(found)
    long = timed.length > tidy.LONG_CONTEXT
    parts = [
        timed[chosen].merge(_scores(found, is_long), on=["arch", "role"])
        for chosen, is_long in ((~long, False), (long, True))
    ]
    made = pd.concat(parts).dropna(subset=["score", "ms"])
    return systems.ordered(made)[list(COLUMNS)].reset_index(drop=True)


def front(rows: pd.DataFrame, costs: tuple[str, ...] = ("ms", "mib")) -> pd.DataFrame:
    """Those that no other beats: a higher score at no higher cost, or the same at a lower one."""
    kept = [row for row in rows.itertuples() if not any(_beats(o, row, costs)
            for o in rows.itertuples())]  # fmt: skip
    return rows.loc[[row.Index for row in kept]].sort_values("score", ascending=False)


def _beats(other, row, costs: tuple[str, ...]) -> bool:
    pairs = [(-other.score, -row.score)]
    pairs += [(getattr(other, cost), getattr(row, cost)) for cost in costs]
    # A cost that was not measured neither helps nor harms.
    pairs = [(a, b) for a, b in pairs if pd.notna(a) and pd.notna(b)]
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def _timed(found: pd.DataFrame) -> pd.DataFrame:
    """Time and memory, from records of kind "measure"."""
    rows = tidy.timings(found).assign(
        dtype=_dtype(found), documents_per_second=lambda r: 1000 * r.batch_size / r.ms
    )
    return rows.drop_duplicates(TIMED, keep="first").dropna(subset=["ms"])


def _dtype(found: pd.DataFrame) -> str:
    """The one dtype of the measurements that count."""
    values = tidy.select(found, "measure")["values"]
    return " / ".join(sorted({value["dtype"] for value in values}))


def _scores(found: pd.DataFrame, long: bool) -> pd.DataFrame:
    """Mean score of each arch's teacher and student over short or over long tasks."""
    scores = kept.shared_scores(found)
    scores = scores[(scores.group != tidy.SHORT) == long]
    by_task = scores.groupby(["arch", "task"])[["teacher", "student"]].mean()
    means = by_task.groupby("arch").mean().melt(var_name="role", value_name="score",
                                                ignore_index=False)  # fmt: skip
    return means.reset_index().assign(
        tasks=scores.task.nunique(), synthetic=bool(scores.synthetic.astype(bool).any())
    )
