"""Findings on the recipe: variants of it, each one change, against it on the same tasks."""

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.findings.common import (
    MEAN,
    Answer,
    Outcome,
    Piece,
    Sampled,
    all_below,
    bounds,
    filled,
    in_score,
    mean_over_tasks,
)
from ctd_lib.report.findings.drawings import Mark, forest
from ctd_lib.report.findings.pairs import Cell, recipe_and_variant
from ctd_lib.report.tables import cells

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
        (_best("layers", found, LAYERS, "the odd, the first and the last layers instead"),),
        (_piece("finding_layers", "Other layers, depths and widths", found),),
    )


def text(records: pd.DataFrame) -> Outcome:
    """Text of distillation: long, short, mixed."""
    found = trials(records, TEXTS)
    return Outcome(
        (_best("text", found, TEXTS, "long text alone and short text alone"),),
        (_piece("finding_text", "Long or short text alone", found),),
    )


def order(records: pd.DataFrame) -> Outcome:
    """Convert first, or distill first."""
    found = trials(records, ORDERS)
    return Outcome(
        (_best("order", found, ORDERS, "the other order"),),
        (_piece("finding_order", "Distill-Then-Convert", found),),
    )


def distillation(records: pd.DataFrame) -> Outcome:
    """What distillation adds, and each of its terms."""
    found = trials(records, (*CONTROL, *TERMS, *OTHER_TERMS))
    return Outcome(
        (
            _best("distillation", found, CONTROL, "masked LM alone"),
            _best("terms", found, TERMS, "each of the losses that lack one term"),
        ),
        (_piece("finding_distillation", "Other losses", found),),
    )


def helps_lsg(records: pd.DataFrame) -> Outcome:
    """Recipes tried for LSG, without a statement of the paper."""
    found = trials(records, FOR_LSG, "lsg")
    return Outcome((), (_piece("finding_lsg_recipes", "Other losses for LSG", found),))


def trials(records: pd.DataFrame, variants: Sequence[str], arch: str = "longformer") -> list[Trial]:
    """Each variant of an arch on the probes, as far as it was run."""
    made = []
    for variant in variants:
        found = [cell for cell in recipe_and_variant(records, variant) if cell.arch == arch]
        probes = (cell for cell in found if cell.task in PROBES)
        made.append(Trial(variant, arch, tuple(sorted(probes, key=lambda c: PROBES.index(c.task)))))
    return made


def _best(name: str, found: Sequence[Trial], rivals: Sequence[str], words: str) -> Answer:
    rule = (
        f"holds where {words} changes the mean score over {', '.join(PROBES)} for the worse, by "
        "the whole interval; does not hold where one of them changes it for the better"
    )
    statement = paper.STATEMENTS[name]
    changes = {trial.variant: trial.change for trial in found if trial.variant in rivals}
    if None in changes.values():
        return Answer(statement, rule)
    intervals = {variant: change.interval for variant, change in changes.items()}
    because = "mean change of the score: " + ", ".join(
        f"{variant} {in_score(interval)}" for variant, interval in intervals.items()
    )
    return Answer(statement, rule, all_below(list(intervals.values())), because)


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
