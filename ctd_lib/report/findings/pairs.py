"""Scores of two models on the same test examples, with their resamples, for all findings."""

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
    rows = tidy.select(records, "finetune")
    sides = (_sides(rows[rows.role == role]) for role in ("teacher", "student"))
    return _cells(*sides, _groups(records))


def recipe_and_variant(records: pd.DataFrame, variant: str, role: str = "student") -> list[Cell]:
    """The recipe's model beside that of a variant: one cell per task and arch."""
    recipe, other = (tidy.select(records, "finetune", name) for name in ("", variant))
    sides = (_sides(rows[rows.role == role]) for rows in (recipe, other))
    return _cells(*sides, _groups(records))


def counting(found: Sequence[Cell], archs: Sequence[str]) -> list[Cell]:
    """The cells of these archs on the tasks that count for each of them: no arch weighs more."""
    count: dict[str, set[str]] = {}
    for cell in found:
        if cell.counts:
            count.setdefault(cell.task, set()).add(cell.arch)
    return [
        cell for cell in found if cell.arch in archs and count.get(cell.task, set()) >= set(archs)
    ]


def _groups(records: pd.DataFrame) -> dict[str, str]:
    """The paper's group of each task."""
    scores = tidy.scores(records)
    return dict(zip(scores.task, scores.group, strict=True))


def _sides(rows: pd.DataFrame) -> dict[tuple[str, str], dict]:
    """Rows with predictions by arch and task, then by seed."""
    found: dict[tuple[str, str], dict] = {}
    for row in rows[rows.predictions.notna()].itertuples():
        found.setdefault((row.arch, row.task), {})[row.seed] = row
    return found


def _cells(first: dict, second: dict, groups: dict[str, str]) -> list[Cell]:
    made = []
    for arch, task in first.keys() & second.keys():
        sides = first[arch, task], second[arch, task]
        seeds = sorted(sides[0].keys() & sides[1].keys())
        if not seeds:
            continue
        row = sides[0][seeds[0]]
        files = (
            tuple(kept.Kept(side[seed].path, side[seed].predictions) for seed in seeds)
            for side in sides
        )
        synthetic = row.source["synthetic"]
        pair = kept.Pair(task, arch, row.values["family"], synthetic, *files)
        comparison = kept.comparison(pair)
        if comparison is not None:
            chance = kept.chance(pair.teachers[0], comparison.metric)
            made.append(Cell(arch, task, groups[task], synthetic, comparison, chance))
    return sorted(made, key=lambda cell: (cell.task, cell.arch))
