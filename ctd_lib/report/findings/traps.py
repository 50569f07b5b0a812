"""Finding on traps of public implementations: what each would change."""

from collections.abc import Sequence

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.figures.forest import Mark, forest
from ctd_lib.report.findings.common import (
    FAILS,
    NOT_YET,
    Answer,
    Outcome,
    Piece,
    all_below,
    all_within,
    bounds,
    filled,
    in_part,
    in_score,
)
from ctd_lib.report.pairs import Cell, recipe_and_variant
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Interval, mean, mean_over_tasks

POLICIES = ("global-first", "global-every-64")
TASKS = ("wikigold", "litbank")
ROLES = ("teacher", "student")
PUBLIC_TASKS = ("wikigold", "litbank", "hotpotqa")
MARGIN = 0.02
"""Of score: within it, two implementations are said to score alike."""
_PUBLIC_COLUMNS = (
    "arch", "model", "task", "ours (score)", "public (score)", "change (score)",
    "change, low (score)", "change, high (score)", "public is",
)  # fmt: skip
_COLUMNS = (
    "policy", "model", "task", "none (score)", "policy (score)", "change (score)",
    "change, low (score)", "change, high (score)", "policy is",
)  # fmt: skip


def traps(records: pd.DataFrame) -> Outcome:
    """Global attention in tagging; two archs with the public attention against ours."""
    rows, marks, gains, ran = [], [], {}, set()
    names = ("none (score)", "policy (score)", "policy is")
    public = {arch: _public(records, arch) for arch in ("nystromformer", "bigbird")}
    for policy in POLICIES:
        for role in ROLES:
            found = _against_none(records, policy, role)
            ran |= found.keys()
            for task in TASKS:
                cell = found.get(task)
                rows.append({"policy": policy, "model": role, "task": task} | _row(cell, *names))
                if cell:
                    change = (cell.second - cell.first).interval
                    marks.append(Mark(f"{policy}, {role}, {task}", "longformer", change))
            if set(found) == set(TASKS):
                gain = mean_over_tasks([cell.second - cell.first for cell in found.values()])
                gains[policy, role] = gain.interval
                rows.append({
                    "policy": policy, "model": role, "task": "mean", "none (score)": "-",
                    "policy (score)": "-", **_change(gain.interval, "policy is"),
                })  # fmt: skip
                marks.append(Mark(f"{policy}, {role}, mean", "longformer", gain.interval))
    return Outcome(
        (
            _globals(gains, sorted(ran)),
            *(_alike(arch, found) for arch, found in public.items()),
        ),
        (
            Piece(
                "finding_traps",
                "Longformer with global attention in tagging, against none as published: change of "
                "entity F1 and its 95 % interval by paired bootstrap over test examples, for the "
                "mean over tasks too; one run each. None is the run that names it, made together "
                "with the others; where there is no such run, that of the recipe.",
                filled(rows, _COLUMNS),
                forest(marks, "change of entity F1", 0, "Global attention in tagging"),
                "Global attention in tagging: change of entity F1 against none, with its 95 % "
                "interval.",
            ),
            _public_piece(public),
        ),
    )  # fmt: skip


def _against_none(records: pd.DataFrame, policy: str, role: str) -> dict[str, Cell]:
    """By task; none is what the recipe has, but a run that names it is of the policies' making."""
    return {
        cell.task: cell
        for base in ("", "global-none")  # the latter goes before
        for cell in recipe_and_variant(records, policy, role, base)
        if cell.arch == "longformer" and cell.task in TASKS
    }


def _public(records: pd.DataFrame, arch: str) -> dict[tuple[str, str], Cell]:
    """Ours beside the public attention, by role and task."""
    return {
        (role, cell.task): cell
        for role in ROLES
        for cell in recipe_and_variant(records, "public-attention", role)
        if cell.arch == arch and cell.task in PUBLIC_TASKS
    }


def _alike(arch: str, found: dict[tuple[str, str], Cell]) -> Answer:
    rule = (
        f"holds where the whole interval of the change on each of {', '.join(PUBLIC_TASKS)}, mean "
        f"over teacher and student, is within {MARGIN:g} of score; does not hold where that of one "
        "is wholly outside"
    )
    answer = Answer(paper.STATEMENTS[arch], rule)
    changes = _by_task(found)
    said = [f"{task} {in_score(change)}" for task, change in changes.items()]
    verdict = all_within(list(changes.values()), MARGIN)
    if len(changes) < len(PUBLIC_TASKS) and verdict != FAILS:
        return in_part(answer, said)
    return Answer(answer.statement, rule, verdict, f"change of the score: {', '.join(said)}")


def _by_task(found: dict[tuple[str, str], Cell]) -> dict[str, Interval]:
    """The mean change of teacher and student, on tasks that both ran."""
    return {
        task: mean([found[role, task].second - found[role, task].first for role in ROLES]).interval
        for task in PUBLIC_TASKS
        if all((role, task) in found for role in ROLES)
    }


def _public_piece(public: dict[str, dict]) -> Piece:
    rows = []
    for arch, found in public.items():
        changes = _by_task(found)
        for task in PUBLIC_TASKS:
            row = {"arch": arch, "model": "both", "task": task}
            if task in changes:
                row |= {"ours (score)": "-", "public (score)": "-"}
                row |= _change(changes[task], "public is")
            rows.append(row)
        for role in ROLES:
            for task in PUBLIC_TASKS:
                cell = found.get((role, task))
                names = ("ours (score)", "public (score)", "public is")
                rows.append({"arch": arch, "model": role, "task": task} | _row(cell, *names))
    return Piece(
        "finding_public_attention",
        "The same finetuned models, tested with the attention as transformers computes it, "
        "against ours: change of the score and its 95 % interval by paired bootstrap over test "
        "examples, for the mean of teacher and student too; one run each.",
        filled(rows, _PUBLIC_COLUMNS),
    )


def _globals(gains: dict[tuple[str, str], Interval], tasks: Sequence[str]) -> Answer:
    rule = (
        f"does not hold where a policy raises the mean entity F1 over {' and '.join(TASKS)} of "
        "teacher or student, by the whole interval; holds where each of them lowers it so"
    )
    answer = Answer(paper.STATEMENTS["globals"], rule)
    if len(gains) < len(POLICIES) * len(ROLES):
        return in_part(answer, [f"on {task}" for task in tasks])
    because = "mean change of entity F1: " + ", ".join(
        f"{policy}, {role} {in_score(interval)}" for (policy, role), interval in gains.items()
    )
    return Answer(answer.statement, rule, all_below(list(gains.values())), because)


def _row(cell: Cell | None, first: str, second: str, verdict: str) -> dict:
    if cell is None:
        return {}
    return {
        first: cell.comparison.teacher.value,
        second: cell.comparison.student.value,
        **_change(cell.comparison.difference, verdict),
    }


def _change(found: Interval, verdict: str) -> dict:
    return {
        "change (score)": found.value,
        **bounds(found, "change", "score"),
        verdict: cells.verdict(*found[1:]) or NOT_YET,
    }
