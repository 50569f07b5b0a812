"""Finding on traps of public implementations: what each would change, as far as it was run."""

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.findings.common import (
    NOT_YET,
    Answer,
    Outcome,
    Piece,
    all_below,
    bounds,
    filled,
    in_score,
    mean_over_tasks,
)
from ctd_lib.report.findings.drawings import Mark, forest
from ctd_lib.report.findings.pairs import recipe_and_variant
from ctd_lib.report.tables import cells
from ctd_lib.scores.bootstrap import Interval

POLICIES = ("global-first", "global-every-64")
TASKS = ("wikigold", "litbank")
ROLES = ("teacher", "student")
_COLUMNS = (
    "policy", "model", "task", "none (score)", "policy (score)", "change (score)",
    "change, low (score)", "change, high (score)", "policy is",
)  # fmt: skip


def traps(records: pd.DataFrame) -> Outcome:
    """Global attention in tagging; two more without records."""
    rows, marks, gains = [], [], {}
    for policy in POLICIES:
        for role in ROLES:
            found = {
                cell.task: cell
                for cell in recipe_and_variant(records, policy, role)
                if cell.arch == "longformer" and cell.task in TASKS
            }
            for task in TASKS:
                rows.append({"policy": policy, "model": role, "task": task} | _row(found.get(task)))
            if set(found) == set(TASKS):
                gain = mean_over_tasks([cell.second - cell.first for cell in found.values()])
                gains[policy, role] = gain.interval
                rows.append({
                    "policy": policy, "model": role, "task": "mean", "none (score)": "-",
                    "policy (score)": "-", **_change(gain.interval),
                })  # fmt: skip
                marks.append(Mark(f"{policy}, {role}", "longformer", gain.interval))
    return Outcome(
        (
            _globals(gains),
            *(Answer(paper.STATEMENTS[name], "no runs of it are planned in this profile")
              for name in ("nystromformer", "bigbird")),
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
        ),
    )  # fmt: skip


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


def _row(cell) -> dict:
    if cell is None:
        return {}
    return {
        "none (score)": cell.comparison.teacher.value,
        "policy (score)": cell.comparison.student.value,
        **_change(cell.comparison.difference),
    }


def _change(found: Interval) -> dict:
    return {
        "change (score)": found.value,
        **bounds(found, "change", "score"),
        "policy is": cells.verdict(*found[1:]) or NOT_YET,
    }
