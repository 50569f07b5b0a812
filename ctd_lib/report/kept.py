"""The kept predictions behind the scores, teacher beside student, and what they tell."""

import functools
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ctd_lib import ARCHS, records
from ctd_lib.report import tidy
from ctd_lib.scores import bootstrap, predictions, where

LOST_COLUMNS = (
    "task", "arch", "synthetic", "bin", "examples", "documents", "items", "teacher", "student",
    "difference", "low", "high",
)  # fmt: skip
FEWEST_EXAMPLES = 10
"""Of a test part, or documents if it has several on one: resamples of fewer tell little of how far
a score could lie elsewhere."""
COMMONEST = 20
"""Words of answers that are tried as a constant answer."""
FAMILIES = {
    "position": ("tagging", "span-qa"),
    "tokens": ("classification", "tagging", "span-qa"),
    "tag": ("tagging",),
    "kind": ("classification", "span-qa"),
}
"""Which families have it."""


class Kept(NamedTuple):
    """Predictions of one finetuning."""

    record: Path
    digest: str

    def read(self) -> predictions.Predictions:
        """Them, if they are still those of the record.

        Raises:
            CtdError: they are not there, or others.
        """
        return predictions.read(records.check_predictions(self.record, self.digest))


class Pair(NamedTuple):
    """Teacher and student of one arch on one task, or the student of the recipe and another."""

    task: str
    arch: str
    family: str
    synthetic: bool
    teachers: tuple[Kept, ...]
    """One a seed."""
    students: tuple[Kept, ...]
    """Of the same seeds."""


def pairs(found: pd.DataFrame) -> list[Pair]:
    """From records, teachers beside their students."""
    rows = tidy.select(found, "finetune")
    return paired(rows[rows.role == "teacher"], rows[rows.role == "student"])


def paired(first: pd.DataFrame, second: pd.DataFrame) -> list[Pair]:
    """Rows of finetuning, by task and arch: the seeds of which both kept predictions."""
    sides = _by_cell(first), _by_cell(second)
    made = []
    both = sides[0].keys() & sides[1].keys()
    for task, arch in sorted(both, key=lambda cell: (cell[0], ARCHS.index(cell[1]))):
        of_cell = [side[task, arch] for side in sides]
        seeds = sorted(of_cell[0].keys() & of_cell[1].keys())
        if seeds:
            row = of_cell[0][seeds[0]]
            files = (
                tuple(Kept(rows[seed].path, rows[seed].predictions) for seed in seeds)
                for rows in of_cell
            )
            made.append(Pair(task, arch, row.values["family"], row.source["synthetic"], *files))
    return made


def _by_cell(rows: pd.DataFrame) -> dict[tuple[str, str], dict[int, Any]]:
    """Rows with predictions by task and arch, then by seed."""
    found: dict[tuple[str, str], dict[int, Any]] = {}
    for row in rows[rows.predictions.notna()].itertuples():
        found.setdefault((row.task, row.arch), {})[row.seed] = row
    return found


# Tables and figures ask for the same; a file is named by what it holds.
@functools.cache
def comparison(pair: Pair) -> bootstrap.Comparison | None:
    """Retention and difference with their intervals; None: the test examples differ."""
    teachers, students = _read(pair)
    if not bootstrap.same_examples([*teachers, *students]):
        return None
    return bootstrap.compare(teachers, students)


@functools.cache
def chance(of: Kept, metric: str) -> float:
    """The best score of one and the same answer to every example.

    Of classes the commonest; to questions yes, no or one of the commonest words of their answers,
    which shares a little with many of them; for entities and grades it is 0.
    """
    found = of.read()
    scores = [0.0]
    for answer in _constants(found):
        constant = [example | {"predicted": answer} for example in found.examples]
        score = bootstrap.scorer(replace(found, examples=constant), metric)
        scores.append(float(score(np.ones((1, len(constant))))[0]))
    return max(score for score in scores if not math.isnan(score))


def _constants(found: predictions.Predictions) -> set:
    golds = [example["gold"] for example in found.examples]
    if found.family == "classification" and all(isinstance(gold, int) for gold in golds):
        return set(golds)
    if found.family != "span-qa":
        return set()
    words = Counter(word for answers in golds for word in {*" ".join(answers).lower().split()})
    return {"yes", "no", *(word for word, _ in words.most_common(COMMONEST))}


def why_not(compared: bootstrap.Comparison, chance: float) -> str:
    """In a word or two why no mean builds on a comparison; empty if one may."""
    if compared.documents < FEWEST_EXAMPLES:
        return "few examples"
    return "" if learned(compared, chance) else "not learned"


def learned(compared: bootstrap.Comparison, chance: float) -> bool:
    """Whether the teacher's whole interval is above `chance`.

    A student cannot lose what its teacher does not have.
    """
    return compared.teacher.low > chance


def shared_scores(found: pd.DataFrame) -> pd.DataFrame:
    """The scores of those tasks that every arch ran and `why_not` excludes for none.

    Where no task is left, as in a small profile, those that all ran. Synthetic tasks only in a
    group that has no real one.
    """
    scores = tidy.shared(tidy.scores(found))
    compared = {pair: comparison(pair) for pair in pairs(found)}
    excluded = {
        pair.task for pair, values in compared.items()
        if values and why_not(values, chance(pair.teachers[0], values.metric))
    }  # fmt: skip
    counting = scores[~scores.task.isin(excluded)]
    counting = scores if counting.empty else counting
    synthetic = counting.synthetic.astype(bool)
    return counting[~(synthetic & counting.group.isin(counting.group[~synthetic]))]


@functools.cache
def lost(pair: Pair, by: str, edges: tuple[int, ...]) -> pd.DataFrame | None:
    """`where.compare` of the pair; None: the test examples differ."""
    teachers, students = _read(pair)
    if not bootstrap.same_examples([*teachers, *students]):
        return None
    return where.compare(teachers, students, by, edges)


def _read(pair: Pair) -> tuple[list[predictions.Predictions], ...]:
    return [one.read() for one in pair.teachers], [one.read() for one in pair.students]


def where_lost(found: pd.DataFrame, by: str, edges: tuple[int, ...] = where.EDGES) -> pd.DataFrame:
    """One row per task, arch and bin, with the columns `LOST_COLUMNS`.

    Only of tasks that have such a thing to tell apart, and at least two bins of it.
    """
    families = FAMILIES[by]
    frames = []
    for pair in pairs(found):
        if pair.family in families and (table := lost(pair, by, edges)) is not None:
            of_pair = {"task": pair.task, "arch": pair.arch, "synthetic": pair.synthetic}
            frames.append(table.assign(**of_pair))
    rows = pd.concat(frames) if frames else pd.DataFrame(columns=list(LOST_COLUMNS))
    bins = rows.groupby("task").bin.nunique()
    several = rows.task.isin(bins[bins > 1].index)
    return rows.loc[several, list(LOST_COLUMNS)].reset_index(drop=True)
