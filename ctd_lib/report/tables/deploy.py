"""What to deploy: the models to choose from, the forms of one model, and what documents cost."""

import pandas as pd

from ctd_lib.report import candidates, systems, tidy
from ctd_lib.report.tables import cells

TOKENS_PER_PAGE = 500
REFERENCE_FORM = "torch float32"


def choice(records: pd.DataFrame) -> pd.DataFrame:
    """For each length the models that no other beats in score, time and memory, best score first.

    Of the rows of a length, the first that fits a budget of time and memory is the one to take.
    """
    found = candidates.candidates(records)
    rows = []
    for length, of_length in found.groupby("length"):
        kind = "long" if length > tidy.LONG_CONTEXT else "short"
        for row in candidates.front(of_length).itertuples():
            rows.append(
                {
                    "length (tokens)": length,
                    "time (ms)": row.ms,
                    "memory (MiB)": row.mib,
                    "take": row.arch,
                    "model": row.role,
                    "dtype": row.dtype,
                    "mean (score)": row.score,
                    "over": cells.marked(
                        cells.several(row.tasks, f"{kind} task"), of_length.synthetic
                    ),
                    "documents (an hour)": round(3600 * row.documents_per_second),
                }
            )
    return cells.complete(rows, ("length (tokens)", "time (ms)", "memory (MiB)", "take"))


def forms(records: pd.DataFrame) -> pd.DataFrame:
    """Time, memory, size and score of each form of an exported model."""
    exported = records[records.kind == "export"]
    finetuned = exported.params.map(lambda p: p["finetuned"]).astype(bool)
    rows = []
    for which in (True, False):
        for record in tidy.select(exported[finetuned == which], "export").itertuples():
            rows += _forms(record, record.task if which else "none: the encoder")
    return cells.complete(rows, ("arch", "model", "form", "time (ms)"))


def _forms(record, task: str) -> list[dict]:
    """The rows of one export at its longest length."""
    measured = record.values["rows"]
    longest = max(row["length"] for row in measured)
    rows = [row for row in measured if row["length"] == longest]
    plain = next(row for row in rows if row["form"] == REFERENCE_FORM)
    made = []
    for row in rows:
        # Where memory ran out, the figures are None.
        median, usual = (tidy.scaled(one["seconds_median"], 1000) for one in (row, plain))
        low, high = row["seconds_iqr"] or (None, None)
        peak = tidy.scaled(row["peak_bytes"], 2**-20)
        comparable = row["score"] is not None and plain["score"]
        made.append(
            {
                "arch": record.arch,
                "model": record.role,
                "task": task,
                "form": row["form"],
                "length (tokens)": longest,
                "time (ms)": median,
                "quartile 1 (ms)": tidy.scaled(low, 1000),
                "quartile 3 (ms)": tidy.scaled(high, 1000),
                "time, change (%)": tidy.change(usual, median),
                "memory of the forward (MiB)": peak - tidy.scaled(row["baseline_bytes"], 2**-20),
                "file (MiB)": row["file_bytes"] / 2**20,
                "reached (score)": "-" if row["score"] is None else row["score"],
                "score kept (%)": 100 * row["score"] / plain["score"] if comparable else "-",
            }
        )
    return made


def price(records: pd.DataFrame) -> pd.DataFrame:
    """Documents and pages an hour and, where a price was given, what a million pages cost.

    Each system in the batch size that gives it the most documents.
    """
    rows = systems.rows(records)
    rows = systems.at_headline(systems.rows_of(rows, workload="fixed").dropna(subset=["ms"]))
    names = ["machine", "system", "role", "implementation", "weights", "dtype", "layers"]
    best = rows.loc[rows.groupby(names).documents_per_second.idxmax().sort_values()]
    table = []
    for row in systems.ordered(best).itertuples():
        pages = 3600 * row.tokens_per_second / TOKENS_PER_PAGE
        table.append(
            {
                "machine": row.machine,
                "weights": row.weights,
                "system": row.system,
                "role": row.role,
                "implementation": row.implementation,
                "dtype": row.dtype,
                "length (tokens)": row.length,
                "documents a batch": row.batch_size,
                "documents (an hour)": round(3600 * row.documents_per_second),
                "pages (an hour)": round(pages),
                "cost of a million pages": "no price given" if pd.isna(row.price_per_hour)
                else f"{1e6 * row.price_per_hour / pages:,.2f}",
            }
        )  # fmt: skip
    return systems.only_if_several(cells.complete(table, ("system", "documents (an hour)")))
