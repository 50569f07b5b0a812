"""Findings on the recipe: variants of it, each one change, against it on the same tasks."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.figures.forest import Mark, forest
from ctd_lib.report.findings.common import (
    FAILS,
    HOLDS,
    MEAN,
    OPEN,
    Answer,
    Outcome,
    Piece,
    all_below,
    bounds,
    filled,
    in_part,
    in_score,
)
from ctd_lib.report.pairs import Cell, recipe_and_variant
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Sampled, mean_over_tasks

PROBES = ("sst2", "stsb", "wikigold")
"""Tasks that every variant is tried on: those that the recipe's own student learns in minutes."""
LAYERS = ("odd-layers", "first-layers", "last-layers")
SIZES = ("two-layers", "four-layers", "narrow")
TEXTS = ("long-text", "short-text")
ORDERS = ("distill-then-convert",)
CONTROL = ("masked-lm-only",)
TERMS = ("no-masked-lm", "no-soft-targets", "no-cosine")
OTHER_TERMS = ("masked-positions", "all-layers-cosine", "relations", "task-distillation")
FOR_LSG = ("masked-lm-only", "all-layers-cosine", "relations", "no-cosine", "task-distillation")
OPPOSITE = {HOLDS: FAILS, FAILS: HOLDS, OPEN: OPEN}
CAPTION = (
    "The student of each variant against that of the recipe, same tasks, same seed: change of the "
    "score and its 95 % interval, by paired bootstrap over test examples, for the mean over tasks "
    "too. One run each: how far another seed would move a score is in the interval of the mean "
    "alone, as far as tasks differ."
)
_COLUMNS = (
    "variant", "arch", "task", "recipe (score)", "variant (score)", "change (score)",
    "change, low (score)", "change, high (score)", "variant is",
)  # fmt: skip


class Trial(NamedTuple):
    """One variant of one arch, task by task."""

    variant: str
    arch: str
    tasks: tuple[Cell, ...]

    @property
    def change(self) -> Sampled | None:
        """Mean over all probes of variant - recipe; None before all of them are there."""
        if {cell.task for cell in self.tasks} != set(PROBES):
            return None
        return mean_over_tasks([cell.second - cell.first for cell in self.tasks])


def layers(records: pd.DataFrame) -> Outcome:
    """Half of the layers, every other one: other layers, other depths, another width."""
    found = trials(records, (*LAYERS, *SIZES))
    return Outcome(
        (_best("layers", found, LAYERS),),
        (_piece("finding_layers", "Other layers, depths and widths", found),),
    )


def text(records: pd.DataFrame) -> Outcome:
    """Text of distillation: long, short, mixed."""
    found = trials(records, TEXTS)
    return Outcome(
        (_best("text", found, TEXTS),),
        (_piece("finding_text", "Long or short text alone", found),),
    )


def order(records: pd.DataFrame) -> Outcome:
    """Convert first, or distill first."""
    found = trials(records, ORDERS)
    return Outcome(
        (_best("order", found, ORDERS),),
        (_piece("finding_order", "Distill-Then-Convert", found),),
    )


def distillation(records: pd.DataFrame) -> Outcome:
    """What distillation adds, and each of its terms."""
    found = trials(records, (*CONTROL, *TERMS, *OTHER_TERMS))
    return Outcome(
        (
            _best("distillation", found, CONTROL),
            _best("terms", found, TERMS),
        ),
        (_piece("finding_distillation", "Other losses", found),),
    )


def helps_lsg(records: pd.DataFrame) -> Outcome:
    """Recipes tried for LSG, of which the paper says nothing."""
    found = trials(records, FOR_LSG, "lsg")
    return Outcome(
        (_helps("lsg-recipe", found),),
        (_piece("finding_lsg_recipes", "Other losses for LSG", found),),
    )


def trials(records: pd.DataFrame, variants: Sequence[str], arch: str = "longformer") -> list[Trial]:
    """Each variant of an arch on the probes, as far as it was run."""
    made = []
    for variant in variants:
        found = [cell for cell in recipe_and_variant(records, variant) if cell.arch == arch]
        probes = (cell for cell in found if cell.task in PROBES)
        made.append(Trial(variant, arch, tuple(sorted(probes, key=lambda c: PROBES.index(c.task)))))
    return made


def _best(name: str, found: Sequence[Trial], rivals: Sequence[str]) -> Answer:
    one = len(rivals) == 1
    rule = (
        f"holds where {'' if one else 'each of '}{', '.join(rivals)} lowers the mean score over "
        f"{', '.join(PROBES)}, by the whole interval; does not hold where "
        f"{'it' if one else 'one of them'} raises it so"
    )
    answer = Answer(paper.STATEMENTS[name], rule)
    changes = {trial.variant: trial.change for trial in found if trial.variant in rivals}
    there = {variant: change.interval for variant, change in changes.items() if change}
    said = [f"{variant} {in_score(interval)}" for variant, interval in there.items()]
    if len(there) < len(rivals):
        return in_part(answer, said)
    because = f"mean change of the score: {', '.join(said)}"
    return Answer(answer.statement, rule, all_below(list(there.values())), because)


def _helps(name: str, found: Sequence[Trial]) -> Answer:
    rule = (
        f"holds where one of {', '.join(trial.variant for trial in found)} raises the mean score "
        f"over {', '.join(PROBES)}, by the whole interval; does not hold where each of them lowers "
        "it so"
    )
    answer = Answer(paper.STATEMENTS[name], rule)
    there = {trial.variant: trial.change.interval for trial in found if trial.change}
    said = [f"{variant} {in_score(interval)}" for variant, interval in there.items()]
    verdict = OPPOSITE[all_below(list(there.values()))]
    if len(there) < len(found) and verdict != HOLDS:
        return in_part(answer, said)
    return Answer(answer.statement, rule, verdict, f"mean change of the score: {', '.join(said)}")


def _piece(name: str, title: str, found: Sequence[Trial]) -> Piece:
    rows, marks = [], []
    for trial in found:
        change = trial.change
        row = {"variant": trial.variant, "arch": trial.arch}
        rows.append(row | {"task": MEAN} | _changes(change, "-", "-"))
        for task in PROBES:
            [cell] = [cell for cell in trial.tasks if cell.task == task] or [None]
            if cell is None:
                rows.append(row | {"task": task})
                continue
            sides = cell.comparison.teacher.value, cell.comparison.student.value
            rows.append(row | {"task": task} | _changes(cell.second - cell.first, *sides))
        if change:
            marks.append(Mark(trial.variant, trial.arch, change.interval))
    drawing = forest(marks, "change of the mean score", 0, f"{title}, change of the mean score")
    return Piece(
        name, f"{title}. {CAPTION}", filled(rows, _COLUMNS), drawing,
        f"{title}: change of the mean score over the tasks, with its 95 % interval; left of the "
        "line is worse than the recipe.",
    )  # fmt: skip


def _changes(change: Sampled | None, recipe: object, variant: object) -> dict:
    if change is None:
        return {}
    return {
        "recipe (score)": recipe,
        "variant (score)": variant,
        "change (score)": change.value,
        **bounds(change.interval, "change", "score"),
        "variant is": cells.verdict(*change.interval[1:]),
    }
