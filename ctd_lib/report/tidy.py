"""Records as tidy frames: one row per score or per timing, for the tables and the figures.

Where a cell has records of several parameters, the one made with the profile's own parameters
counts, then the latest; records of several seeds all count.
"""

import functools
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from ctd_lib import ARCHS, params
from ctd_lib.tasks import registry

LONG_CONTEXT = 512
"""A task whose examples may be longer than this many tokens is a long-context task."""
PAPER_LENGTH = 4096
"""Tokens at which the paper compares time and memory."""
SHORT, LONG_NER, LONG_QA, LONG_OTHER = "short text", "long NER", "long QA", "long text, other"
GROUPS = (SHORT, LONG_NER, LONG_QA)
"""The paper's three groups of tasks."""

TRAINED = ("pretrain", "distill", "finetune")
"""Kinds of records whose `precision` is that of a training."""

_CHOSEN = ("variant", "systems", "model", "price_per_hour", "finetuned", "onnx")
"""Parameters that no recipe prescribes: they say what is asked for."""
_SCORE_COLUMNS = (
    "arch", "task", "seed", "teacher", "student", "kept",
    "metric", "group", "test_examples", "source", "synthetic",
)  # fmt: skip
_TIMING_COLUMNS = (
    "arch", "role", "length", "batch_size", "ms", "low", "high", "tokens_per_second", "mib",
    "parameters",
)  # fmt: skip


def select(records: pd.DataFrame, kind: str, variant: str = "") -> pd.DataFrame:
    """The records of one kind that count: one for each arch, role, task and seed.

    Args:
        variant: of the profile's recipe; empty: the recipe itself, in its place also records of
            parameters that no variant has.
    """
    found = ranked(records, kind, variant)
    return found.drop_duplicates(["arch", "role", "task", "seed"], keep="last")


def ranked(records: pd.DataFrame, kind: str, variant: str | None = "") -> pd.DataFrame:
    """All records of one kind and a variant, as in `select`, those that count most last.

    Args:
        variant: None: of any.
    """
    found = records[records.kind == kind]
    found = found.assign(
        variant=[variant_of(row) for row in found.itertuples()],
        date=[provenance["date"] for provenance in found.provenance],
    )
    if variant is not None:
        found = found[found.variant.eq(variant) | (found.variant.isna() & (variant == ""))]
    # Parameters that the profile names last, among them the latest.
    return found.sort_values(["variant", "date"], na_position="first")


def precision(row) -> str:
    """What a training computed in; of a record older than that value, what was asked for."""
    return row.values.get("precision", row.params["precision"])


def scores(records: pd.DataFrame) -> pd.DataFrame:
    """One row per arch, task and seed: teacher's and student's score and `kept`, in percent."""
    cells: dict[tuple, dict] = {}
    for row in select(records, "finetune").itertuples():
        cell = cells.setdefault((row.arch, row.task, row.seed), {})
        cell |= {
            row.role: row.values["score"],
            "metric": row.values["main_metric"],
            "group": _group(row.task, row.values),
            "test_examples": row.values["test_examples"],
            "source": row.source["name"],
            "synthetic": row.source["synthetic"],
        }
    rows = [
        {"arch": arch, "task": task, "seed": seed, **cell}
        for (arch, task, seed), cell in sorted(cells.items())
    ]
    frame = pd.DataFrame(rows, columns=list(_SCORE_COLUMNS))
    frame = frame.astype({"teacher": float, "student": float})
    frame["kept"] = 100 * frame.student / frame.teacher.where(frame.teacher > 0)
    return frame


def shared(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of those tasks that every arch with scores has for teacher and student."""
    scores = scores.dropna(subset=["teacher", "student"])
    teachers = scores.groupby(["task", "arch"]).teacher.mean()
    archs = teachers[teachers > 0].groupby("task").size()
    return scores[scores.task.isin(archs[archs == scores.arch.nunique()].index)]


def kept_by(scores: pd.DataFrame, by: str | list[str]) -> pd.Series:
    """Mean student score over the seeds / mean teacher score, in percent."""
    means = scores.dropna(subset=["teacher", "student"]).groupby(by)[["teacher", "student"]].mean()
    return 100 * means.student / means.teacher.where(means.teacher > 0)


def mean_kept(scores: pd.DataFrame) -> float:
    """Mean over tasks of what is kept, in percent."""
    return kept_by(scores, "task").mean()


def timings(records: pd.DataFrame) -> pd.DataFrame:
    """One row per arch, role and length: `ms` of a forward, its quartiles, `mib` at the peak."""
    rows = []
    for record in select(records, "measure").itertuples():
        for row in record.values["rows"]:
            low, high = row["seconds_iqr"] or (None, None)
            rows.append(
                {
                    "arch": record.arch,
                    "role": row["role"],
                    "length": row["length"],
                    "batch_size": row["batch_size"],
                    "ms": scaled(row["seconds_median"], 1000),
                    "low": scaled(low, 1000),
                    "high": scaled(high, 1000),
                    "tokens_per_second": scaled(row["tokens_per_second"], 1),
                    "mib": scaled(row["peak_bytes"], 2**-20),
                    "parameters": row["parameters"],
                }
            )
    frame = pd.DataFrame(rows, columns=list(_TIMING_COLUMNS))
    return frame.groupby(["arch", "role", "length"], as_index=False).mean()


def headline_length(timings: pd.DataFrame, column: str = "ms") -> int:
    """The length of the headline: the paper's, or the longest measured where that was not."""
    lengths = timings.dropna(subset=column).length
    return PAPER_LENGTH if lengths.empty or PAPER_LENGTH in set(lengths) else int(lengths.max())


@dataclass(frozen=True)
class Timing:
    """One row of `timings`; not-a-number where it was not measured."""

    ms: float = math.nan
    low: float = math.nan
    high: float = math.nan
    tokens_per_second: float = math.nan
    mib: float = math.nan
    parameters: float = math.nan


def at(timings: pd.DataFrame, arch: str, role: str, length: int) -> Timing:
    """The timing of one model at one length."""
    found = timings[(timings.arch == arch) & (timings.role == role) & (timings.length == length)]
    if found.empty:
        return Timing()
    return Timing(**found.iloc[0][list(Timing.__dataclass_fields__)].astype(float))


def pairs(
    timings: pd.DataFrame, length: int, archs: Iterable[str] = ARCHS
) -> Iterator[tuple[str, Timing, Timing]]:
    """Each arch with its teacher's and its student's timing at one length."""
    for arch in archs:
        teacher, student = (at(timings, arch, r, length) for r in ("teacher", "student"))
        yield arch, teacher, student


def change(before: float, after: float) -> float:
    """Change from `before` to `after` in percent."""
    return 100 * (after / before - 1)


def scaled(value: float | None, factor: float) -> float:
    """None, what a run without memory left, as not-a-number."""
    return math.nan if value is None else value * factor


def variant_of(row) -> str | None:
    """The variant with whose parameters a record was made: empty for the profile's own."""
    return _variant_of(row.kind, row.profile, row.role, json.dumps(row.params, sort_keys=True))


# All tables and figures ask it of the same records.
@functools.cache
def _variant_of(kind: str, profile: str, role: str, text: str) -> str | None:
    given = json.loads(text)
    named = {"profile": profile}
    identity = {"arch", "seed", "role", "task", "finetune_seed"}
    identity &= set(params.names(params.STAGES[kind]))
    named |= {name: given[name] for name in sorted(identity & set(given))}
    without = params.of_the_student() if role == "teacher" else ()
    for variant in ("", *params.variants(profile)):
        expected = _expected(kind, variant, tuple(named.items()))
        if all(given.get(name) == expected[name] for name in expected.keys() - without):
            return variant
    return None


@functools.cache
def _expected(kind: str, variant: str, named: tuple) -> dict:
    values = params.as_dict(params.make(params.STAGES[kind], variant=variant, **dict(named)))
    return {name: value for name, value in values.items() if name not in _CHOSEN}


def _group(task: str, values: dict) -> str:
    if values["max_length"] <= LONG_CONTEXT or task in registry.MOSTLY_SHORT:
        return SHORT
    return {"tagging": LONG_NER, "span-qa": LONG_QA}.get(values["family"], LONG_OTHER)
