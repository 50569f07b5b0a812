"""Findings on what the student keeps of its teacher's score: short, long, and of LSG."""

import math
from collections.abc import Sequence

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.report import paper, tidy
from ctd_lib.report.figures import score_kept
from ctd_lib.report.figures.forest import Mark, forest
from ctd_lib.report.findings import recipes
from ctd_lib.report.findings.common import (
    MEAN,
    OPEN,
    UNKNOWN,
    Answer,
    Outcome,
    Piece,
    all_below,
    at_least,
    at_most,
    bounds,
    filled,
    in_part,
    in_percent,
    in_points,
    none_counts,
)
from ctd_lib.report.kept import FEWEST_EXAMPLES
from ctd_lib.report.pairs import Cell, counting, ran, teacher_and_student
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Sampled, mean, mean_over_tasks

CONVERTED = ARCHS[1:]
ALL_CONVERTED = "converted archs"
NEARLY_ALL = 95.0
"""Percent of the teacher's score: what "nearly all" means here."""
MOST = 85.0
"""What "most" means here: the paper speaks of losses up to about this side of it."""
FEWEST_TASKS = 2
"""That a mean over tasks is built on before there is a verdict."""
_COLUMNS = (
    "task", "arch", "counts", "teacher (score)", "student (score)", "score kept (%)",
    "score kept, low (%)", "score kept, high (%)", "student is", "seeds", "test examples", "group",
)  # fmt: skip
CAPTION = (
    "Score of teacher and student, score kept and its 95 % interval: paired bootstrap over test "
    "examples (of questions over the documents that they are on) and seeds, of a mean over tasks "
    f"too. A task counts for the mean where the data is real, at least {FEWEST_EXAMPLES} of these "
    "are tested and the whole interval of the teacher's "
    "score is above that of any constant class, or one word to all questions, or 0 for the rest; "
    "for a mean over archs, where all this is so for each of them."
)


def short_tasks(records: pd.DataFrame) -> Outcome:
    """Short tasks keep nearly all."""
    found = _of(teacher_and_student(records), tidy.SHORT)
    return Outcome(
        (_keeps("short", found, NEARLY_ALL),),
        (_piece("finding_short_tasks", found, "Short tasks"),),
    )


def long_documents(records: pd.DataFrame) -> Outcome:
    """Long question answering keeps most, and drops more than short tasks; long NER."""
    found = teacher_and_student(records)
    groups = {group: _of(found, group) for group in (*tidy.GROUPS, tidy.LONG_OTHER)}
    long = [cell for group, of_group in groups.items() if group != tidy.SHORT for cell in of_group]
    piece = _piece("finding_long_documents", long, "Long documents")
    more = _more(groups[tidy.LONG_QA], groups[tidy.SHORT])
    rows = []
    for group in tidy.GROUPS:
        for arch in (ALL_CONVERTED, *CONVERTED):
            archs = CONVERTED if arch == ALL_CONVERTED else (arch,)
            rows.append({"group": group, "arch": arch, **_mean_cells(groups[group], archs),
                         "over": ", ".join(_tasks(groups[group], archs)) or "-"})  # fmt: skip
    difference = _kept_row(more)
    if _no_common_task(groups):
        difference = dict.fromkeys(difference, cells.NONE_COUNTS)
    rows.append({
        "group": f"{tidy.LONG_QA} - {tidy.SHORT}", "arch": ALL_CONVERTED, **difference, "over": "-",
    })  # fmt: skip
    apart = filled(rows, list(rows[0]))
    return Outcome(
        (
            _keeps("long-qa", groups[tidy.LONG_QA], MOST),
            _drops_more(more, groups),
            _keeps("long-ner", groups[tidy.LONG_NER], NEARLY_ALL),
        ),
        (
            Piece("finding_groups", "Mean score kept over the tasks of a group that count: of "
                  "all converted archs over those that count for each, of one arch over all that "
                  "count for it; and the difference between two groups. 95 % intervals over "
                  "tasks, test examples and seeds.", apart),
            piece,
        ),
    )  # fmt: skip


def lsg(records: pd.DataFrame) -> Outcome:
    """LSG loses the most, and which recipe helps it."""
    found = teacher_and_student(records)
    rivals = {arch: _apart(found, "lsg", arch) for arch in CONVERTED if arch != "lsg"}
    there = {arch: sampled for arch, sampled in rivals.items() if sampled is not None}
    rule = (
        "holds where LSG's mean score kept is below that of every other converted arch, by the "
        f"whole interval of each difference on at least {FEWEST_TASKS} tasks that both teachers "
        "learned; does not hold where it is so above that of one"
    )
    answer = Answer(paper.STATEMENTS["lsg"], rule)
    said = [f"{arch} {in_points(sampled.interval)}" for arch, sampled in there.items()]
    if len(there) < len(rivals):
        answer = in_part(answer, said)
    else:
        verdict = all_below([sampled.interval for sampled in there.values()])
        because = f"LSG's score kept minus that of another: {', '.join(said)}"
        answer = Answer(answer.statement, rule, verdict, because)
    rows = [
        {
            "LSG minus": arch,
            "over": ", ".join(ours.task for ours, _ in _shared(found, "lsg", arch)) or None,
            "change (points)": sampled.value if sampled else None,
            **bounds(sampled.interval if sampled else UNKNOWN, "change", "points"),
            "LSG is": cells.verdict(*sampled.interval[1:]) if sampled else None,
        }
        for arch, sampled in rivals.items()
    ]
    columns = list(rows[0])
    marks = [Mark(arch, arch, sampled.interval) for arch, sampled in there.items()]
    helps = recipes.helps_lsg(records)
    return Outcome(
        (answer, *helps.answers),
        (
            Piece(
                "finding_lsg",
                "Score kept by LSG's student minus that of another arch's, mean over the tasks "
                "that count for both, in percentage points with the 95 % interval over tasks, test "
                "examples and seeds.",
                filled(rows, columns),
                forest(marks, "LSG's score kept minus the other's, points", 0, "LSG against"),
                "LSG against the other archs: left of the line it keeps less.",
            ),
            *helps.pieces,
        ),
    )


def _of(found: Sequence[Cell], group: str) -> list[Cell]:
    return [cell for cell in found if cell.group == group]


def _mean_kept(found: Sequence[Cell], archs: Sequence[str], seed: int = 0) -> Sampled | None:
    """Mean score kept over the tasks that count for all these archs, each the mean over them."""
    by_task: dict[str, list[Sampled]] = {}
    for cell in counting(found, archs):
        by_task.setdefault(cell.task, []).append(cell.kept)
    if not by_task:
        return None
    return mean_over_tasks([mean(of_task) for of_task in by_task.values()], seed)


def _keeps(name: str, found: Sequence[Cell], bound: float) -> Answer:
    """Whether the converted archs keep at least so many percent, in the mean."""
    rule = (
        f"holds where the whole interval of the mean score kept over archs and at least "
        f"{FEWEST_TASKS} tasks that count for all is {bound:g} % or more; does not hold where it "
        "is below"
    )
    answer, found_by_all = Answer(paper.STATEMENTS[name], rule), counting(found, CONVERTED)
    if not found_by_all:
        means = {arch: _mean_kept(found, (arch,)) for arch in CONVERTED}
        there = {arch: one.interval for arch, one in means.items() if one}
        said = [f"{arch} {in_percent(interval)}" for arch, interval in there.items()]
        if len(ran(found, CONVERTED)) < FEWEST_TASKS:
            return in_part(answer, said)
        return none_counts(answer, said, there)
    interval = _mean_kept(found, CONVERTED).interval
    tasks = _tasks(found, CONVERTED)
    verdict = at_least(interval, bound) if len(tasks) >= FEWEST_TASKS else OPEN
    alone = {arch: _mean_kept(found_by_all, (arch,)).interval for arch in CONVERTED}
    because = f"mean score kept {in_percent(interval)}, {_built_on(tasks)}"
    return Answer(answer.statement, rule, verdict, because, interval, alone)


def _built_on(tasks: Sequence[str]) -> str:
    """The tasks of a mean, and that they are too few for a verdict where they are."""
    few = f" ({FEWEST_TASKS} are needed)" if len(tasks) < FEWEST_TASKS else ""
    return f"tasks that count: {', '.join(tasks)}{few}"


def _more(long: Sequence[Cell], short: Sequence[Cell]) -> Sampled | None:
    """Mean score kept on long question answering minus that on short tasks."""
    kept = [_mean_kept(found, CONVERTED, seed) for seed, found in enumerate((long, short))]
    return kept[0] - kept[1] if all(kept) else None


def _drops_more(more: Sampled | None, groups: dict[str, list[Cell]]) -> Answer:
    rule = (
        "holds where the whole interval of the difference between the two mean scores kept, each "
        f"over at least {FEWEST_TASKS} tasks that count for all, is below 0; does not hold where "
        "it is above"
    )
    answer = Answer(paper.STATEMENTS["long-qa-more"], rule)
    if more is None:
        return none_counts(answer, (), {}) if _no_common_task(groups) else answer
    tasks = {group: _tasks(groups[group], CONVERTED) for group in (tidy.LONG_QA, tidy.SHORT)}
    enough = all(len(of_group) >= FEWEST_TASKS for of_group in tasks.values())
    on = "; ".join(f"{group}, {_built_on(of_group)}" for group, of_group in tasks.items())
    because = f"difference {in_points(more.interval)}; {on}"
    verdict = at_most(more.interval, 0) if enough else OPEN
    return Answer(answer.statement, rule, verdict, because, more.interval)


def _no_common_task(groups: dict[str, list[Cell]]) -> bool:
    """Whether long QA and short tasks were run by all, and of one of them none counts for all."""
    found = [groups[group] for group in (tidy.LONG_QA, tidy.SHORT)]
    enough = all(len(ran(of_group, CONVERTED)) >= FEWEST_TASKS for of_group in found)
    return enough and not all(counting(of_group, CONVERTED) for of_group in found)


def _shared(found: Sequence[Cell], *archs: str) -> list[tuple[Cell, ...]]:
    """The cells of these archs, task by task, where all of them count."""
    by_key = {(cell.arch, cell.task): cell for cell in found if cell.counts}
    tasks = sorted({cell.task for cell in found})
    rows = [tuple(by_key.get((arch, task)) for arch in archs) for task in tasks]
    return [row for row in rows if all(row)]


def _apart(found: Sequence[Cell], arch: str, other: str) -> Sampled | None:
    """Score kept by one arch minus that by another, mean over the tasks that count for both."""
    shared = _shared(found, arch, other)
    if len(shared) < FEWEST_TASKS:
        return None
    return mean_over_tasks([ours.kept - theirs.kept for ours, theirs in shared])


def _kept_row(sampled: Sampled | None) -> dict:
    interval = sampled.interval if sampled else UNKNOWN
    value = sampled.value if sampled else None
    return {"score kept (%)": value, **bounds(interval, "score kept", "%")}


def _mean_cells(found: Sequence[Cell], archs: Sequence[str]) -> dict:
    """The cells of a mean over what counts for these archs, or that nothing of it does."""
    row = _kept_row(_mean_kept(found, archs))
    none = ran(found, archs) and not counting(found, archs)
    return dict.fromkeys(row, cells.NONE_COUNTS) if none else row


def _piece(name: str, found: list[Cell], title: str) -> Piece:
    """Means over tasks first, then task by task, as table and drawing."""
    rows = []
    for arch in (ALL_CONVERTED, *ARCHS):
        archs = CONVERTED if arch == ALL_CONVERTED else (arch,)
        rows.append(
            dict.fromkeys(_COLUMNS, "-")
            | {"task": MEAN, "arch": arch, **_mean_cells(found, archs)}
            | {"counts": cells.several(len(_tasks(found, archs)), "task")}
        )
    for cell in found:
        rows.append(_row(cell, cells.marked(cell.task, cell.synthetic)))
    drawing = score_kept(found, f"{title}, score kept in percent")
    return Piece(
        name, f"{title}. {CAPTION}", filled(rows, _COLUMNS), drawing,
        f"{title}: score kept, with its 95 % interval; on the dotted line nothing is lost. "
        "Of teachers that learned the task (of all if none did).",
    )  # fmt: skip


def _tasks(found: Sequence[Cell], archs: Sequence[str]) -> list[str]:
    """The tasks that a mean over these archs is built on."""
    return sorted({cell.task for cell in counting(found, archs)})


def _row(cell: Cell, name: str) -> dict:
    comparison, of_kept = cell.comparison, cell.kept.interval
    if math.isnan(of_kept.value):  # of a teacher that scores 0
        of_kept = ("-", "-", "-")
    else:
        of_kept = (of_kept.value, *bounds(of_kept, "", "%").values())
    values = (
        name, cell.arch, f"no, {cell.why_not}" if cell.why_not else "yes",
        comparison.teacher.value, comparison.student.value, *of_kept,
        cells.verdict(*comparison.difference[1:]), comparison.seeds, comparison.examples,
        cell.group,
    )  # fmt: skip
    return dict(zip(_COLUMNS, values, strict=True))
