"""Finding on conversion and distillation: what each changes, and what both together change."""

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.report import paper, tidy
from ctd_lib.report.figures.forest import Mark, forest
from ctd_lib.report.findings.common import (
    OPEN,
    UNKNOWN,
    Answer,
    Outcome,
    Piece,
    all_within,
    at_most,
    bounds,
    filled,
    in_part,
    in_points,
    none_counts,
)
from ctd_lib.report.findings.scores import ALL_CONVERTED, CONVERTED, FEWEST_TASKS
from ctd_lib.report.pairs import Cell, ran, teacher_and_student
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Sampled, mean, mean_over_tasks, percent

MARGIN = 5.0
"""Points of the full teacher's score within which effects are said to add up."""
GROUPS = (*tidy.GROUPS, tidy.LONG_OTHER)
ALL_TASKS = "all"
_EFFECTS = ("conversion", "distillation", "both", "interaction")
_COLUMNS = (
    "tasks", "arch", "how many", *(f"{name}, change (points)" for name in _EFFECTS),
    "change, low (points)", "change, high (points)", "interaction is",
)  # fmt: skip


def two_steps(records: pd.DataFrame) -> Outcome:
    """Whether the effects add up, and whether both together harm long QA more than long NER."""
    cells_of = teacher_and_student(records)
    by_key = {(cell.arch, cell.task): cell for cell in cells_of}
    effects = {
        key: _effects(by_key["full", key[1]], cell)
        for key, cell in by_key.items()
        if key[0] in CONVERTED and _counts(by_key.get(("full", key[1])), cell)
    }
    groups = {task: cell.group for (_, task), cell in by_key.items()}
    rows, marks = [], []
    for group in (ALL_TASKS, *GROUPS):
        of_group = [cell for cell in cells_of if group in (cell.group, ALL_TASKS)]
        for arch in (ALL_CONVERTED, *CONVERTED):
            found = _mean(effects, groups, group, arch)
            archs = CONVERTED if arch == ALL_CONVERTED else (arch,)
            none = not found[0] and ran(of_group, ("full", *archs))
            rows.append(_none_row(group, arch) if none else _row(group, arch, *found))
            if found[0] and arch != ALL_CONVERTED:
                marks.append(Mark(group, arch, found[1]["interaction"].interval))
    by_arch = {arch: _mean(effects, groups, ALL_TASKS, arch) for arch in CONVERTED}
    apart = [
        _mean(effects, groups, group, ALL_CONVERTED, seed)
        for seed, group in enumerate((tidy.LONG_QA, tidy.LONG_NER))
    ]
    all_ran = all(
        ran([cell for cell in cells_of if cell.group == group], ARCHS)
        for group in (tidy.LONG_QA, tidy.LONG_NER)
    )
    rows.append(_difference_row(apart, all_ran))
    return Outcome(
        (_adds_up(by_arch), _together(apart, all_ran)),
        (
            Piece(
                "finding_two_steps",
                "Change of the score in percent of the full teacher's: by conversion (full teacher "
                "to converted teacher), by distillation (full teacher to full student), by both "
                "(full teacher to converted student). Interaction: both minus the sum of the two, "
                "with its 95 % interval over tasks, test examples and seeds. Only tasks that count "
                "for both teachers; of the converted archs those that do so for each.",
                filled(rows, _COLUMNS),
                forest(marks, "interaction, points", 0, "Interaction in points"),
                "Interaction by group of tasks, with its 95 % interval: left of the line, both "
                "together cost more than the sum of the two.",
            ),
        ),
    )


def _counts(full: Cell | None, cell: Cell) -> bool:
    return full is not None and full.counts and cell.counts


def _effects(full: Cell, cell: Cell) -> dict[str, Sampled]:
    reference = percent(full.first, full.first)
    conversion = percent(cell.first, full.first) - reference
    distillation = percent(full.second, full.first) - reference
    both = percent(cell.second, full.first) - reference
    interaction = both - conversion - distillation
    return dict(zip(_EFFECTS, (conversion, distillation, both, interaction), strict=True))


def _mean(
    effects: dict, groups: dict[str, str], group: str, arch: str, seed: int = 0
) -> tuple[int, dict[str, Sampled]]:
    """How many tasks, and each effect's mean over them: tasks that count for all of the archs."""
    archs = CONVERTED if arch == ALL_CONVERTED else (arch,)
    by_task = []
    for task in sorted({task for _, task in effects}):
        of_task = [effects[one, task] for one in archs if (one, task) in effects]
        if group in (groups[task], ALL_TASKS) and len(of_task) == len(archs):
            by_task.append(of_task)
    if not by_task:
        return 0, {}

    def over(name: str) -> Sampled:
        return mean_over_tasks([mean([found[name] for found in one]) for one in by_task], seed)

    return len(by_task), {name: over(name) for name in _EFFECTS}


def _row(group: str, arch: str, count: int, found: dict[str, Sampled]) -> dict:
    interval = found["interaction"].interval if found else UNKNOWN
    return {
        "tasks": group,
        "arch": arch,
        "how many": count or None,
        **{f"{name}, change (points)": sampled.value for name, sampled in found.items()},
        **bounds(interval, "change", "points"),
        "interaction is": cells.verdict(*interval[1:]),
    }


def _none_row(group: str, arch: str) -> dict:
    """Of a group of which tasks were run, but none counts."""
    return dict.fromkeys(_COLUMNS, cells.NONE_COUNTS) | {"tasks": group, "arch": arch}


def _difference_row(apart: list, all_ran: bool) -> dict:
    difference = _difference(apart)
    row = {
        "both, change (points)": difference.value if difference else None,
        **bounds(difference.interval if difference else UNKNOWN, "change", "points"),
    }
    if difference is None and all_ran:
        row = dict.fromkeys(row, cells.NONE_COUNTS)
    return {
        "tasks": f"{tidy.LONG_QA} - {tidy.LONG_NER}, both",
        "arch": ALL_CONVERTED,
        "how many": "-",
        **{f"{name}, change (points)": "-" for name in _EFFECTS},
        **row,
        "interaction is": "-",
    }


def _difference(apart: list) -> Sampled | None:
    if not all(count for count, _ in apart):
        return None
    return apart[0][1]["both"] - apart[1][1]["both"]


def _adds_up(by_arch: dict[str, tuple[int, dict[str, Sampled]]]) -> Answer:
    rule = (
        "holds where the whole interval of the mean interaction of every converted arch, over at "
        f"least {FEWEST_TASKS} tasks, is within {MARGIN:g} points of the full teacher's score; "
        "does not hold where that of one is wholly outside"
    )
    answer = Answer(paper.STATEMENTS["additive"], rule)
    there = {arch: found["interaction"].interval for arch, (_, found) in by_arch.items() if found}
    said = [f"{arch} {in_points(interval)}" for arch, interval in there.items()]
    if len(there) < len(by_arch):
        return in_part(answer, said)
    verdict = OPEN
    if min(count for count, _ in by_arch.values()) >= FEWEST_TASKS:
        verdict = all_within(list(there.values()), MARGIN)
    return Answer(answer.statement, rule, verdict, f"mean interaction {', '.join(said)}")


def _together(apart: list, all_ran: bool) -> Answer:
    rule = (
        "holds where the whole interval of the difference, change by both on long QA minus that on "
        f"long NER, each over at least {FEWEST_TASKS} tasks, is below 0; does not hold where it is "
        "above"
    )
    answer = Answer(paper.STATEMENTS["together"], rule)
    difference = _difference(apart)
    if difference is None:
        return none_counts(answer, (), {}) if all_ran else answer
    interval = difference.interval
    enough = min(count for count, _ in apart) >= FEWEST_TASKS
    verdict = at_most(interval, 0) if enough else OPEN
    return Answer(answer.statement, rule, verdict, f"difference {in_points(interval)}", interval)
