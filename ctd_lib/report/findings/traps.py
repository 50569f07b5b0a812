"""Finding on traps of public implementations: what each would change."""

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.findings.common import (
    MEAN,
    NOT_YET,
    Answer,
    Outcome,
    Piece,
    all_below,
    bounds,
    filled,
    in_score,
    mean,
    mean_over_tasks,
    within,
)
from ctd_lib.report.findings.drawings import Mark, forest
from ctd_lib.report.findings.pairs import Cell, recipe_and_variant
from ctd_lib.report.tables import cells
from ctd_lib.scores.bootstrap import Interval

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
    """Global attention in tagging; two more without records."""
    rows, marks, gains = [], [], {}
    names = ("none (score)", "policy (score)", "policy is")
    public = {arch: _public(records, arch) for arch in ("nystromformer", "bigbird")}
    for policy in POLICIES:
        for role in ROLES:
            found = {
                cell.task: cell
                for cell in recipe_and_variant(records, policy, role)
                if cell.arch == "longformer" and cell.task in TASKS
            }
            for task in TASKS:
                rows.append(
                    {"policy": policy, "model": role, "task": task} | _row(found.get(task), *names)
                )
            if set(found) == set(TASKS):
                gain = mean_over_tasks([cell.second - cell.first for cell in found.values()])
                gains[policy, role] = gain.interval
                rows.append({
                    "policy": policy, "model": role, "task": "mean", "none (score)": "-",
                    "policy (score)": "-", **_change(gain.interval, "policy is"),
                })  # fmt: skip
                marks.append(Mark(f"{policy}, {role}", "longformer", gain.interval))
    return Outcome(
        (
            _globals(gains),
            *(_alike(arch, found) for arch, found in public.items()),
        ),
        (
            Piece(
                "finding_traps",
                "Longformer with global attention in tagging, against none as published: change of "
                "entity F1 and its 95 % interval by paired bootstrap over test examples, for the "
                "mean over tasks too; one run each.",
                filled(rows, _COLUMNS),
                forest(marks, "change of the mean entity F1", 0, "Global attention in tagging"),
                "Global attention in tagging: change of the mean entity F1 against none, with its "
                "95 % interval.",
            ),
            _public_piece(public),
        ),
    )  # fmt: skip


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
        f"holds where the whole interval of the mean change over {', '.join(PUBLIC_TASKS)}, of "
        f"teacher and student, is within {MARGIN:g} of score; does not hold where it is outside"
    )
    answer = Answer(paper.STATEMENTS[arch], rule)
    change = _mean_change(found)
    if change is None:
        return answer
    because = f"mean change of the score {in_score(change)}"
    return Answer(answer.statement, rule, within(change, MARGIN), because, change)


def _mean_change(found: dict[tuple[str, str], Cell]) -> Interval | None:
    """Over tasks, each the mean over teacher and student; None before all of them are there."""
    if len(found) < len(PUBLIC_TASKS) * len(ROLES):
        return None
    changes = {key: cell.second - cell.first for key, cell in found.items()}
    by_task = [mean([changes[role, task] for role in ROLES]) for task in PUBLIC_TASKS]
    return mean_over_tasks(by_task).interval


def _public_piece(public: dict[str, dict]) -> Piece:
    rows = []
    for arch, found in public.items():
        change = _mean_change(found)
        row = {"arch": arch, "model": "both", "task": MEAN}
        if change:
            row |= {"ours (score)": "-", "public (score)": "-"}
        rows.append(row | (_change(change, "public is") if change else {}))
        for role in ROLES:
            for task in PUBLIC_TASKS:
                cell = found.get((role, task))
                names = ("ours (score)", "public (score)", "public is")
                rows.append({"arch": arch, "model": role, "task": task} | _row(cell, *names))
    return Piece(
        "finding_public_attention",
        "The same finetuned models, tested with the attention as transformers computes it, "
        "against ours: change of the score and its 95 % interval by paired bootstrap over test "
        "examples, for the mean over tasks too; one run each.",
        filled(rows, _PUBLIC_COLUMNS),
    )


def _globals(gains: dict[tuple[str, str], Interval]) -> Answer:
    rule = (
        f"does not hold where a policy raises the mean entity F1 over {' and '.join(TASKS)} of "
        "teacher or student, by the whole interval; holds where all of them lower it"
    )
    answer = Answer(paper.STATEMENTS["globals"], rule)
    if len(gains) < len(POLICIES) * len(ROLES):
        return answer
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
