"""Scores of two models on the same test examples, with their resamples."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ctd_lib.report import kept, tidy
from ctd_lib.scores.bootstrap import Comparison
from ctd_lib.scores.sampled import Sampled


@dataclass(frozen=True)
class Cell:
    """Two models of one arch on one task: teacher and student, or the recipe and a variant."""

    arch: str
    task: str
    group: str
    synthetic: bool
    comparison: Comparison
    chance: float
    """What the best constant answer scores."""

    @property
    def first(self) -> Sampled:
        """Score of the teacher, or of the recipe."""
        return self.comparison.first

    @property
    def second(self) -> Sampled:
        """Score of the student, or of the variant."""
        return self.comparison.second

    @property
    def kept(self) -> Sampled:
        """The second in percent of the first."""
        return self.comparison.kept

    @property
    def learned(self) -> bool:
        """Whether the first has learned the task, so that the second can lose something."""
        return kept.learned(self.comparison, self.chance)

    @property
    def counts(self) -> bool:
        """Whether a verdict may build on it: real data, enough of it, learned by the first."""
        return not self.why_not

    @property
    def why_not(self) -> str:
        """In a word or two why no verdict builds on it; empty if one may."""
        if self.synthetic:
            return "synthetic"
        return kept.why_not(self.comparison, self.chance)


def teacher_and_student(records: pd.DataFrame) -> list[Cell]:
    """One cell per task and arch with predictions of both.

    Cells of one task draw the same examples in the same resamples, if they have as many seeds.
    """
    return _cells(kept.pairs(records), records)


def recipe_and_variant(
    records: pd.DataFrame, variant: str, role: str = "student", base: str = ""
) -> list[Cell]:
    """The model of the recipe, or of another variant, beside a variant's: one cell per task and
    arch."""
    found = (tidy.select(records, "finetune", name) for name in (base, variant))
    return _cells(kept.paired(*(rows[rows.role == role] for rows in found)), records)


def counting(found: Sequence[Cell], archs: Sequence[str]) -> list[Cell]:
    """The cells of these archs on the tasks that count for each of them: no arch weighs more."""
    count: dict[str, set[str]] = {}
    for cell in found:
        if cell.counts:
            count.setdefault(cell.task, set()).add(cell.arch)
    return [
        cell for cell in found if cell.arch in archs and count.get(cell.task, set()) >= set(archs)
    ]


def ran(found: Sequence[Cell], archs: Sequence[str]) -> list[str]:
    """The tasks of real data that each of these archs ran, whether they count or not."""
    by_task: dict[str, set[str]] = {}
    for cell in found:
        if not cell.synthetic:
            by_task.setdefault(cell.task, set()).add(cell.arch)
    return sorted(task for task, there in by_task.items() if there >= set(archs))


def _cells(found: Sequence[kept.Pair], records: pd.DataFrame) -> list[Cell]:
    """Those of pairs that answered the same examples."""
    scores = tidy.scores(records)
    groups = dict(zip(scores.task, scores.group, strict=True))
    made = []
    for pair in found:
        if comparison := kept.comparison(pair):
            chance = kept.chance(pair.teachers[0], comparison.metric)
            made.append(
                Cell(pair.arch, pair.task, groups[pair.task], pair.synthetic, comparison, chance)
            )
    return made
