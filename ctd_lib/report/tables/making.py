"""How the models were made, and every run behind the report."""

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.records import KINDS
from ctd_lib.report import systems, tidy
from ctd_lib.report.tables import cells


def conversion(records: pd.DataFrame) -> pd.DataFrame:
    """What conversion did to the tensors and to the masked-LM loss."""
    fields = {
        "copied": "copied",
        "tiled": "tiled",
        "new": "new",
        "dropped": "dropped",
        "compared at (tokens)": "parity_length",
        "loss, backbone (nats)": "mlm_loss_before",
        "loss, converted (nats)": "mlm_loss_after",
        "largest difference": "parity_max_abs_diff",
    }
    return cells.complete(_by_arch(records, "convert", fields))


def training(records: pd.DataFrame) -> pd.DataFrame:
    """Held-out masked-LM loss through continued pretraining and distillation."""
    pretrain = {
        "pretraining (steps)": "steps",
        "teacher, before (nats)": "mlm_loss_before",
        "teacher, after (nats)": "mlm_loss_after",
    }
    distill = {
        "distillation (steps)": "steps",
        "student, before (nats)": "mlm_loss_before",
        "student, after (nats)": "mlm_loss_after",
        "teacher (layers)": "teacher_layers",
        "student (layers)": "student_layers",
    }
    rows = zip(
        _by_arch(records, "pretrain", pretrain), _by_arch(records, "distill", distill), strict=True
    )
    return cells.complete(before | after for before, after in rows)


def runs(records: pd.DataFrame) -> pd.DataFrame:
    """Every record: when, how long, from which code, on which machine."""
    rows = []
    order = {name: number for number, name in enumerate((*KINDS, *ARCHS))}
    for row in sorted(records.itertuples(), key=lambda r: (order[r.kind], order[r.arch], r.path)):
        made, host = row.provenance, row.provenance["host"]
        rows.append(
            {
                "stage": row.kind,
                "arch": row.arch,
                "model, task": " ".join(x for x in (row.role, row.task) if isinstance(x, str))
                or "-",
                "recipe": tidy.variant_of(row) or "-",
                "seed": row.seed,
                "date (UTC)": made["date"][:16].replace("T", " "),
                "run time (s)": made["seconds"],
                "trained in": tidy.precision(row) if row.kind in tidy.TRAINED else "-",
                "commit": systems.commit(made),
                "machine": f"{host['gpu'] or host['cpu']}; {host['cores']} cores",
                "torch": made["versions"].get("torch"),
                "transformers": made["versions"].get("transformers"),
                "record": row.path.name,
            }
        )
    return cells.complete(rows)


def _by_arch(records: pd.DataFrame, kind: str, fields: dict[str, str]) -> list[dict]:
    """One row per arch: the mean over seeds of each field of that kind of record."""
    found = tidy.select(records, kind)
    values = pd.DataFrame(list(found["values"]), index=found.arch, columns=list(fields.values()))
    means = values.astype(float).groupby(level=0).mean().reindex(ARCHS)
    means.columns = list(fields)
    return means.rename_axis("arch").reset_index().to_dict("records")
