"""Scores task by task: how sure, on what data, after which cut."""

import itertools

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.report import kept, paper, tidy
from ctd_lib.report.tables import cells
from ctd_lib.scores import glue as glue_scores
from ctd_lib.scores.bootstrap import Comparison
from ctd_lib.tasks import registry


def scores(records: pd.DataFrame) -> pd.DataFrame:
    """Score of teacher and student, task by task, and what the student keeps."""
    all_scores = tidy.scores(records)
    compared = {(pair.task, pair.arch): kept.comparison(pair) for pair in kept.pairs(records)}
    rows = []
    for task, of_task in all_scores.groupby("task", sort=True):
        for arch in ARCHS:
            found = of_task[of_task.arch == arch]
            # The score kept is of the seeds that both have; the scores beside it are of the same.
            both = found.dropna(subset=["teacher", "student"])
            found = found if both.empty else both
            kept_of_teacher = tidy.kept_by(found, "task").mean()
            if pd.isna(kept_of_teacher) and (task, arch) in compared:
                kept_of_teacher = "-"  # of a teacher that scores 0
            rows.append(
                {
                    "task": cells.marked(task, of_task.synthetic),
                    "group": of_task.group.iloc[0],
                    "metric": of_task.metric.iloc[0],
                    "arch": arch,
                    "teacher (score)": found.teacher.mean(),
                    "student (score)": found.student.mean(),
                    "score kept (%)": kept_of_teacher,
                    **_interval(compared.get((task, arch))),
                    "seeds": found.seed.nunique() or None,
                    "test examples": cells.only(found.test_examples),
                }
            )
    return cells.complete(rows)


def training_noise(records: pd.DataFrame) -> pd.DataFrame:
    """How far scores of one model and task lie apart by the seed of finetuning."""
    rows = []
    found = tidy.select(records, "finetune")
    by_model = found.assign(score=[values["score"] for values in found["values"]]).groupby(
        ["task", "role", "arch"]
    )
    for (task, role, arch), of_model in by_model:
        if of_model.seed.nunique() > 1:
            score = of_model.score
            rows.append(
                {
                    "task": cells.marked(task, [s["synthetic"] for s in of_model.source]),
                    "model": role,
                    "arch": arch,
                    "seeds": of_model.seed.nunique(),
                    "lowest (score)": score.min(),
                    "highest (score)": score.max(),
                    "apart (score)": score.max() - score.min(),
                }
            )
    rows.sort(key=lambda row: (row["task"], row["model"] == "student", ARCHS.index(row["arch"])))
    return cells.complete(rows, ("task", "model", "arch", "seeds", "apart (score)"))


def _interval(found: Comparison | None) -> dict:
    """What the kept predictions say of the score kept and of the difference."""
    low, high = (found.retention.low, found.retention.high) if found else (None, None)
    if found and pd.isna(low):
        low = high = cells.UNBOUNDED
    return {
        "score kept, low (%)": low,
        "score kept, high (%)": high,
        "student is": cells.verdict(*found.difference[1:]) if found else None,
    }


def glue(records: pd.DataFrame) -> pd.DataFrame:
    """The GLUE score and the tasks it is the mean of, each on its whole official dev part."""
    found = glue_scores.macro(tidy.select(records, "finetune"))
    if found.empty:
        return cells.complete([], ["arch", "model", "GLUE (score)"])
    names = [*glue_scores.SCORES, "glue"]
    means = {key: of_model[names].mean() for key, of_model in found.groupby(["arch", "role"])}
    rows = []
    for arch, role in itertools.product(ARCHS, ("teacher", "student")):
        row = means.get((arch, role), pd.Series(index=names, dtype=float))
        by_task = {f"{task} (score)": row[task] for task in glue_scores.SCORES}
        macro = cells.NOT_ALL_RUN if pd.isna(row["glue"]) else row["glue"]
        rows.append({"arch": arch, "model": role} | by_task | {"GLUE (score)": macro})
    return cells.complete(rows)


def truncation(records: pd.DataFrame) -> pd.DataFrame:
    """What was cut off the test examples, and the score that leaves within reach."""
    rows: dict[tuple, list[str]] = {}
    for row in tidy.select(records, "finetune").itertuples():
        rows.setdefault(tuple(_cut(row).items()), []).append(row.arch)
    made = []
    for cut, archs in rows.items():
        named = [arch for arch in ARCHS if arch in archs]
        made.append(dict(cut) | {"arch": "all" if len(named) == len(ARCHS) else ", ".join(named)})
    columns = ["task", "read up to (tokens)", "arch"]
    return cells.complete(sorted(made, key=lambda row: row["task"]), columns)


def _cut(row) -> dict:
    values = row.values
    name, whole = next(
        ((name, values[name]) for name in ("answers", "entities") if name in values), ("-", "-")
    )
    bound = values.get("upper_bound")
    if values["family"] == "classification" and values["truncated_examples"]:
        # A cut text may still tell its class: nothing is known of what the rest would have told.
        bound = paper.NOT_AVAILABLE
    return {
        "task": cells.marked(row.task, row.source["synthetic"]),
        "read up to (tokens)": values["max_length"],
        "test examples": values["test_examples"],
        "cut": values["truncated_examples"],
        "labels lost": values["lost_labels"],
        "what is looked for": name,
        "in the text": whole,
        "whole in what is read": values.get(f"read_{name}", "-"),
        "metric": values["main_metric"],
        "upper bound (score)": bound,
    }


def sources(records: pd.DataFrame) -> pd.DataFrame:
    """The labelled data behind the scores, with licences."""
    rows = {}
    for row in records[records.kind == "finetune"].itertuples():
        source = row.source
        rows[row.task, source["name"]] = {
            "task": cells.marked(row.task, source["synthetic"]),
            "data": source["name"],
            "kind": "synthetic" if source["synthetic"] else "real",
            "licence": registry.licence(row.task, source["licence"]),
        }
    return cells.complete(rows[key] for key in sorted(rows))
