"""What of a profile's plan was run: every cell planned, done or missing, its hours, its budget."""

import itertools
import json
from collections.abc import Iterator

import pandas as pd
import yaml

from ctd_lib import ARCHS, params, paths
from ctd_lib.report import tidy
from ctd_lib.report.tables import cells

BUDGET_COLUMNS = (
    "stage", "task", "model", "steps", "tokens", "first finetuned on", "train examples", "epochs",
    "examples a step", "test examples", "read up to (tokens)", "peak learning rate",
)  # fmt: skip


def planned(profile: str) -> Iterator[tuple[int, str, dict]]:
    """Every run that leaves a record, in order: number of its block, kind, parameters."""
    blocks = yaml.safe_load((paths.notebooks() / "matrix.yml").read_text())[profile]
    for number, block in enumerate(blocks, start=1):
        grid = block.get("parameters", {})
        kind = block["notebook"].split("_")[1]
        for values in itertools.product(*grid.values()):
            if kind in params.STAGES:
                yield number, kind, dict(zip(grid, values, strict=True))


def runs(records: pd.DataFrame, profile: str) -> pd.DataFrame:
    """One row per planned run: what it is of, whether it is done, its seconds."""
    done = {
        (row.kind, _digest(row.kind, row.params)): row.provenance["seconds"]
        for row in records[records.kind.isin(params.STAGES)].itertuples()
    }
    rows = []
    for block, kind, given in planned(profile):
        wanted = params.as_dict(params.make(params.STAGES[kind], profile=profile, **given))
        recorded = "systems" if wanted.get("systems") == "paper" else kind
        seconds = done.get((recorded, _digest(recorded, wanted)))
        seed = given.get("finetune_seed", given.get("seed", 0))
        rows.append({
            "block": block, "kind": kind, "arch": given["arch"],
            "role": given.get("role", "student" if kind == "finetune" else ""),
            "task": given.get("task", ""), "variant": given.get("variant", ""), "seed": seed,
            "done": seconds is not None, "seconds": seconds or 0.0,
        })  # fmt: skip
    return pd.DataFrame(rows)


def coverage(records: pd.DataFrame) -> pd.DataFrame:
    """Block by block of the plan: runs planned, done, missing, and the hours they took."""
    found = runs(records, _profile(records))
    rows = [
        {
            "block": str(block),
            "stage": of_block.kind.iloc[0],
            "of": _of(of_block),
            **_counts(of_block),
        }
        for block, of_block in found.groupby("block")
    ]
    return cells.complete([*rows, {"block": "all", "stage": "-", "of": "-", **_counts(found)}])


def coverage_grid(records: pd.DataFrame) -> pd.DataFrame:
    """Every model on every task: seeds done of seeds planned."""
    found = runs(records, _profile(records))
    found = found[found.kind == "finetune"]
    tasks = list(dict.fromkeys(found.task))
    rows = []
    for (variant, arch, role), of_model in found.groupby(["variant", "arch", "role"], sort=False):
        row = {"recipe": variant or "the profile's", "arch": arch, "model": role}
        row |= dict.fromkeys(tasks, "-")
        for task, done in of_model.groupby("task").done:
            row[task] = f"{done.sum()} of {len(done)}"
        rows.append(row)
    return cells.complete(rows)


def budgets(records: pd.DataFrame) -> pd.DataFrame:
    """What each training was given, the same for every arch; one row where all records agree."""
    rows = []
    for kind in ("pretrain", "distill", "finetune"):
        for row in tidy.select(records, kind).itertuples():
            rows.append(_budget(row))
    frame = pd.DataFrame(rows, columns=list(BUDGET_COLUMNS)).drop_duplicates()
    return cells.complete(frame.to_dict("records"), BUDGET_COLUMNS)


def _budget(row) -> dict:
    given, values = row.params, row.values
    found = dict.fromkeys(BUDGET_COLUMNS, "-") | {"stage": row.kind}
    if row.kind == "finetune":
        return found | {
            "task": cells.marked(row.task, row.source["synthetic"]),
            "train examples": values["train_examples"],
            "first finetuned on": given.get("first_task") or "-",
            "epochs": given["epochs"],
            "examples a step": given["finetune_batch_size"],
            "test examples": values["test_examples"],
            "read up to (tokens)": values["max_length"],
            "peak learning rate": given["finetune_learning_rate"],
        }
    return found | {
        "model": "teacher" if row.kind == "pretrain" else "student",
        "steps": values["steps"],
        "tokens": values["tokens"],
        "read up to (tokens)": given["max_length"],
        "peak learning rate": given[f"{row.kind}_learning_rate"],
    }


def _counts(found: pd.DataFrame) -> dict:
    return {
        "planned": len(found),
        "done": int(found.done.sum()),
        "missing": int((~found.done).sum()),
        "run time (h)": f"{found.seconds.sum() / 3600:.2f}",
    }


def _of(found: pd.DataFrame) -> str:
    """What a block ranges over: names where they are few, else how many."""
    words = []
    for column in ("variant", "role", "task", "arch", "seed"):
        names = [str(name) for name in dict.fromkeys(found[column]) if name != ""]
        if column == "arch" and names == list(ARCHS):
            words.append("all archs")
        elif names and names != ["0"]:
            words.append(f"{column} {', '.join(names)}")
    return "; ".join(words)


def _profile(records: pd.DataFrame) -> str:
    return records.profile.iloc[0] if len(records) else "study"


def _digest(kind: str, given: dict) -> str:
    """Of what differs from the defaults: a record may be older than a parameter."""
    defaults = params.defaults(params.STAGES[kind])
    own = {
        name: value
        for name, value in given.items()
        if name != "variant" and not (name in defaults and value == defaults[name])
    }
    return json.dumps(own, sort_keys=True)
