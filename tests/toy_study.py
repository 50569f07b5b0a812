"""Toy records of the study profile: shares of right answers that no model ever gave."""

import hashlib
import json
from pathlib import Path

import toy_records

from ctd_lib import ARCHS, params, records
from ctd_lib.report import paper
from ctd_lib.scores import predictions

EXAMPLES = 200
TASKS = {
    "sst2": ("classification", "accuracy", 128, False),
    "stsb": ("classification", "accuracy", 128, False),  # in truth graded, not right or wrong
    "mrpc": ("classification", "accuracy", 128, False),
    "wikigold": ("tagging", "entity_f1", 4096, False),
    "litbank": ("tagging", "entity_f1", 4096, False),
    "sec-filings": ("tagging", "entity_f1", 4096, False),
    "press-ner": ("tagging", "entity_f1", 4096, True),
    "hotpotqa": ("span-qa", "f1", 4096, False),
    "squad-long": ("span-qa", "f1", 4096, False),
}
TEACHER, STUDENT = 0.90, 0.88
SHARES = {("full", "teacher"): 0.92, ("full", "student"): 0.90, ("lsg", "student"): 0.60}
"""Of right answers, where they are not `TEACHER` and `STUDENT`."""


def finetuned(
    arch: str, role: str, task: str, right: float | None = None, variant: str = "", seed: int = 0
) -> dict:
    """The record of one finetuning, with its predictions under `kept`."""
    family, metric, max_length, synthetic = TASKS[task]
    if right is None:
        right = SHARES.get((arch, role), TEACHER if role == "teacher" else STUDENT)
    made = record(
        "finetune", arch, {
            "main_metric": metric, "score": right, "scores": {metric: right},
            "train_examples": 100, "test_examples": EXAMPLES, "truncated_examples": 0,
            "lost_labels": 0, "family": family, "max_length": max_length, "seconds": 30.0,
            "upper_bound": 1.0, "upper_bounds": {},
        }, variant=variant, role=role, task=task, finetune_seed=seed or None,
    )  # fmt: skip
    made["source"] = {"name": f"toy:{task}", "licence": "toy licence", "synthetic": synthetic}
    return made | {"kept": predicted(task, right)}


def record(kind: str, arch: str, values: dict, **named) -> dict:
    """A record with the study's own parameters, or those of a variant of it."""
    chosen = params.as_dict(params.make(params.STAGES[kind], profile="study", arch=arch, **named))
    del chosen["variant"]
    return {
        "schema": 1, "kind": kind, "profile": "study", "params": chosen, "values": values,
        "source": None, "artifact": "-".join([kind, *(str(x) for x in named.values() if x)]),
        "provenance": toy_records.PROVENANCE,
    }  # fmt: skip


def main(archs=ARCHS, tasks=TASKS) -> list[dict]:
    """Teacher and student of these archs on these tasks."""
    return [
        finetuned(arch, role, task)
        for arch in archs
        for role in ("teacher", "student")
        for task in tasks
    ]


def measured() -> list[dict]:
    """Half the time for every student, and little less memory."""
    rows = [toy_records.timing(role, 4096, 0) for role in ("teacher", "student")]
    rows = [row | {"peak_bytes": 2**30 - 2**24 * (row["role"] == "student")} for row in rows]
    values = {"rows": rows, "dtype": "float32", "device": "cpu", "threads": 2}
    return [record("measure", arch, values) for arch in ARCHS]


def predicted(task: str, right: float) -> predictions.Predictions:
    """The first answers are right, so many of them; where one model errs, a worse one errs too."""
    family, metric, *_ = TASKS[task]
    examples = []
    for number in range(EXAMPLES):
        good = number < round(right * EXAMPLES)
        where = {"tokens": 100, "kind": ""}
        if family == "classification":
            gold = number % 2
            given = {"gold": gold, "predicted": gold if good else 1 - gold}
        elif family == "tagging":
            gold = [["PER", number, number + 1, 9]]
            given = {"gold": gold, "predicted": gold if good else [["PER", 0, 9, 9]]}
        else:
            name = f"name{number}"  # another answer each, so that no constant one is of use
            given = {"id": str(number), "gold": [name], "predicted": name if good else "Tom"}
            where |= {"position": 9}
        examples.append(given | where)
    rules = "squad" if family == "span-qa" else ""
    return predictions.Predictions(task, family, metric, rules, examples)


def write(made: list[dict], folder: Path) -> None:
    """Write them, with predictions, as `records.load` expects them."""
    (folder / "predictions").mkdir(parents=True, exist_ok=True)
    for one in made:
        path = folder / f"{one['kind']}-{one['params']['arch']}-{one['artifact']}.json"
        content = {name: value for name, value in one.items() if name != "kept"}
        if "kept" in one:
            file = records.predictions_of(path)
            predictions.write(one["kept"], file)
            content["predictions"] = hashlib.sha256(file.read_bytes()).hexdigest()
        path.write_text(json.dumps(content))


def answer(outcome, name):
    """What an outcome says of one statement."""
    [found] = [one for one in outcome.answers if one.statement is paper.STATEMENTS[name]]
    return found


def of(outcome, name):
    """One table of an outcome."""
    [piece] = [piece for piece in outcome.pieces if piece.name == name]
    return piece.frame
