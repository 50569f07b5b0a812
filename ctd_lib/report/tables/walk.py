"""What each step of book/own-model.md took and gave, from the records that its commands left."""

from collections.abc import Callable

import pandas as pd

from ctd_lib.report.tables import cells

RECORDS = "own-model"
COLUMNS = ("step", "run time (s)", "what came of it", "machine")


def walk_through(records: pd.DataFrame) -> pd.DataFrame:
    """The steps of the walk-through in their order, and their sum."""
    rows = []
    for kind, of_it in RESULTS.items():
        for row in records[records.kind == kind].sort_values("role", ascending=False).itertuples():
            host = row.provenance["host"]
            processor = host["gpu"] or host["cpu"]
            threads = row.values.get("threads")
            rows.append(
                {
                    "step": f"{kind}, {row.role}" if kind == "finetune" else kind,
                    "run time (s)": row.provenance["seconds"],
                    "what came of it": of_it(row.values),
                    "machine": f"{processor}, {threads} threads" if threads else processor,
                }
            )
    if rows:
        total = sum(row["run time (s)"] for row in rows)
        rows.append({"step": "all", "run time (s)": total, "what came of it": "", "machine": ""})
    return cells.complete(rows, COLUMNS)


def _convert(values: dict) -> str:
    return (
        f"tensors: {values['copied']} copied, {values['tiled']} tiled, {values['new']} new; "
        f"masked-LM loss {_moved(values)}"
    )


def _pretrain(values: dict) -> str:
    return f"{values['steps']} steps; masked-LM loss {_moved(values)}"


def _distill(values: dict) -> str:
    return (
        f"{values['steps']} steps; {values['teacher_layers']} to {values['student_layers']} layers;"
        f" masked-LM loss of the student {_moved(values)}, of its teacher "
        f"{values['mlm_loss_teacher']:.2f}"
    )


def _finetune(values: dict) -> str:
    metric = values["main_metric"].replace("_f1", " F1").replace("_", " ")
    score = f"{values['score']:.3f} {cells.SYNTHETIC_MARK}"
    return f"{metric} {score} on {values['test_examples']} documents"


def _measure(values: dict) -> str:
    longest = max(row["length"] for row in values["rows"])
    ms = {r["role"]: 1000 * r["seconds_median"] for r in values["rows"] if r["length"] == longest}
    return f"{longest} tokens: teacher {ms['teacher']:.0f} ms, student {ms['student']:.0f} ms"


def _export(values: dict) -> str:
    rows = {row["form"]: row for row in values["rows"]}
    return "; ".join(
        f"{form} {row['file_bytes'] / 2**20:.0f} MiB, F1 {row['score']:.3f} {cells.SYNTHETIC_MARK}"
        for form, row in rows.items()
    )


def _moved(values: dict) -> str:
    return f"{values['mlm_loss_before']:.2f} to {values['mlm_loss_after']:.2f} nats"


RESULTS: dict[str, Callable[[dict], str]] = {
    "convert": _convert,
    "pretrain": _pretrain,
    "distill": _distill,
    "finetune": _finetune,
    "measure": _measure,
    "export": _export,
}
