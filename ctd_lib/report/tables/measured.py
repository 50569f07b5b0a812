"""What else was measured of systems: references, batches, machines, and what could not be run."""

import pandas as pd

from ctd_lib.report import systems, tidy
from ctd_lib.report.tables import cells

SHORT = 512
"""Tokens at which systems are compared that read no more."""
COMPARED = {
    "distillation": "student to its teacher",
    "replacement": "our student to the public teacher",
    "implementation": "our teacher to the public one",
}
"""What each kind of ratio sets against each other."""


def references(records: pd.DataFrame) -> pd.DataFrame:
    """The reference systems, and full attention's teacher and student, as public code runs them."""
    rows = systems.alone(systems.rows(records))
    rows = rows[(rows.role == "reference") | (rows.arch == "full")]
    rows = rows[(rows.implementation != systems.OURS) & (rows.dtype == "float32")]
    lengths = [SHORT, tidy.headline_length(rows)]
    rows = rows[rows.length.isin(lengths)].sort_values(
        ["machine", "length"], ascending=[True, True], kind="stable"
    )
    return systems.only_if_several(
        cells.complete(
            (
                {
                    "machine": row.machine,
                    "system": row.system,
                    "layers": row.layers,
                    "parameters (M)": row.parameters / 1e6,
                    "weights": row.weights,
                    "length (tokens)": row.length,
                    "positions": "more than published" if row.extended else "as published",
                    "time (ms)": row.ms,
                    "quartile 1 (ms)": row.low,
                    "quartile 3 (ms)": row.high,
                    "speed (tokens/s)": row.tokens_per_second,
                    "peak (MiB)": row.mib,
                    "share of the machine's peak (%)": 100 * row.peak_share,
                }
                for row in rows.itertuples()
            ),
            ("system", "time (ms)", "peak (MiB)"),
        ),
        ("machine",),
    )


def workloads(records: pd.DataFrame) -> pd.DataFrame:
    """Batches of documents of several lengths against batches of equally long ones."""
    rows = systems.rows(records)
    names = ["machine", "system", "role", "implementation", "weights", "dtype", "layers",
             "length", "batch_size"]  # fmt: skip
    wide = rows.pivot_table(index=names, columns="workload", values="tokens_per_second",
                            sort=False)  # fmt: skip
    wide = wide.reindex(columns=["fixed", "variable"]).dropna().reset_index()
    return systems.only_if_several(
        cells.complete(
            (
                {
                    "machine": row.machine,
                    "weights": row.weights,
                    "system": row.system,
                    "role": row.role,
                    "implementation": row.implementation,
                    "dtype": row.dtype,
                    "longest (tokens)": row.length,
                    "documents a batch": row.batch_size,
                    "all as long (tokens/s)": row.fixed,
                    "short and long (tokens/s)": row.variable,
                    "change (%)": tidy.change(row.fixed, row.variable),
                }
                for row in wide.itertuples()
            ),
            ("system", "all as long (tokens/s)", "short and long (tokens/s)"),
        )
    )


def batches(records: pd.DataFrame) -> pd.DataFrame:
    """Batches of several sizes, of documents that are all as long."""
    rows = systems.rows(records)
    rows = rows[(rows.workload == "fixed") & rows.ms.notna()]
    names = ["machine", "weights", "system", "role", "implementation", "dtype", "length"]
    table = []
    for values, sizes in rows.groupby(names, sort=False):
        sizes = sizes.sort_values("batch_size")
        smallest = sizes.iloc[0]
        for size in sizes.itertuples() if len(sizes) > 1 else ():
            table.append(
                dict(zip(names, values, strict=True)) | {
                    "documents a batch": size.batch_size,
                    "speed (tokens/s)": size.tokens_per_second,
                    "change against the smallest batch (%)": "-"
                    if size.batch_size == smallest.batch_size
                    else tidy.change(smallest.tokens_per_second, size.tokens_per_second),
                    "peak (MiB)": size.mib,
                }
            )  # fmt: skip
    frame = pd.DataFrame(table).rename(columns={"length": "length (tokens)"})
    return systems.only_if_several(
        cells.complete(
            frame.to_dict("records"), ("system", "documents a batch", "speed (tokens/s)")
        )
    )


def repeated(records: pd.DataFrame) -> pd.DataFrame:
    """Ratios measured more than once on a machine, how far they lie apart; those of others."""
    found = systems.at_headline(systems.every_ratio(records))
    same = [name for name in systems.RATIO_IDENTITY if name != "machine"]
    table = []
    for keys, of_ratio in found.groupby(same, sort=False):
        by_machine = of_ratio.groupby("machine", sort=False)
        if by_machine.size().max() < 2:
            continue
        of = dict(zip(same, keys, strict=True))
        for machine, again in by_machine:
            ratio = 1 + again.change / 100
            table.append(
                {
                    "machine": machine,
                    "weights": of["weights"],
                    "arch": of["arch"],
                    "compared": COMPARED[of["what"]],
                    "implementation": of["by"],
                    "dtype": of["dtype"],
                    "length (tokens)": of["length"],
                    "measurements": len(again),
                    "lowest ratio": ratio.min(),
                    "highest ratio": ratio.max(),
                    "apart (%)": "-" if len(again) == 1 else tidy.change(ratio.min(), ratio.max()),
                }
            )
    return systems.only_if_several(cells.complete(table, ("arch", "compared", "apart (%)")))


def failures(records: pd.DataFrame) -> pd.DataFrame:
    """What could not be run, and why."""
    rows = systems.rows(records)
    if not rows.empty and rows.error.isna().all():
        return pd.DataFrame([{"system": "none: every system could be run"}])
    names = ["machine", "system", "role", "implementation", "weights", "dtype", "error"]
    table = []
    for values, failed in rows.groupby(names, sort=False):
        lengths = ", ".join(f"{length:,}" for length in sorted(failed.length.unique()))
        table.append(dict(zip(names, values, strict=True)) | {"lengths (tokens)": lengths})
    return systems.only_if_several(cells.complete(table, ("system", "error")))


def machines(records: pd.DataFrame) -> pd.DataFrame:
    """The machine of each run: its speed, how quiet it was, the energy it took."""
    rows = []
    for record in systems.ordered(tidy.ranked(records, systems.KIND, variant=None)).itertuples():
        values = record.values["machine"]
        calibration, energy = values["calibration"], values["energy"]
        speeds = {
            f"matrix product, {dtype} (GFLOP/s)": round(speed)
            for dtype, speed in values["matmul_gflops"].items()
        }
        rows.append(
            {
                "arch": record.arch,
                "machine": systems.machine(record),
                "date (UTC)": record.provenance["date"][:16].replace("T", " "),
                **speeds,
                "calibration, best (ms)": 1000 * calibration["best_seconds"],
                "rounds": calibration["rounds"],
                "disturbed": calibration["disturbed"],
                "energy": "not measured" if energy is None
                else f"{energy['kwh']:.3g} kWh ({energy['tool']})",
            }
        )  # fmt: skip
    return cells.complete(rows, ("machine", "rounds", "disturbed", "energy"))
