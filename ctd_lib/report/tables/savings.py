"""Time and memory of every system that the paper names, from records of kind "systems"."""

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.report import fragments, paper, scaling, systems, tidy
from ctd_lib.report.tables import cells

NOTHING = f"{cells.NOT_RUN.capitalize()} yet.\n"


def against_teacher(records: pd.DataFrame) -> pd.DataFrame:
    """Teacher and student at the paper's length, then the paper's mean and best."""
    found = systems.at_headline(_ratios(records, "distillation"))
    rows = []
    for keys, group in found.groupby(["machine", "weights", "by", "dtype"], sort=False):
        of_group = dict(zip(("machine", "weights", "implementation", "dtype"), keys, strict=True))
        rows += [
            of_group | {
                "arch": row.arch,
                "length (tokens)": row.length,
                "teacher (ms)": row.ms_to,
                "student (ms)": row.ms_of,
                "time, change (%)": row.change,
                "95 % interval": interval(row.low, row.high),
                "teacher (MiB)": row.mib_to,
                "student (MiB)": row.mib_of,
                "memory, change (%)": tidy.change(row.mib_to, row.mib_of),
            }
            for row in group.itertuples()
        ]  # fmt: skip
        efficient = group[group.arch.isin(ARCHS[1:])]
        if len(efficient) > 1:
            memory = tidy.change(efficient.mib_to, efficient.mib_of)
            rows.append(
                of_group | dict.fromkeys(("teacher (ms)", "student (ms)"), "-")
                | dict.fromkeys(("95 % interval", "teacher (MiB)", "student (MiB)"), "-")
                | {
                    "arch": f"mean of {len(efficient)} efficient ones",
                    "length (tokens)": efficient.length.iloc[0],
                    "time, change (%)": efficient.change.mean(),
                    "memory, change (%)": memory.mean(),
                }
            )  # fmt: skip
    table = cells.complete(rows, _AGAINST_TEACHER)
    table = systems.only_if_several(table)
    said = [_paper_row(table.columns, statistic) for statistic in ("mean", "best")]
    return pd.concat([table, pd.DataFrame(said)], ignore_index=True)


_AGAINST_TEACHER = (
    "implementation", "dtype", "arch", "length (tokens)", "teacher (ms)", "student (ms)",
    "time, change (%)", "95 % interval", "teacher (MiB)", "student (MiB)", "memory, change (%)",
)  # fmt: skip


def ceiling(records: pd.DataFrame) -> pd.DataFrame:
    """What half of the layers can save at most, from their FLOP, beside what was measured."""
    found = systems.at_headline(_ratios(records, "distillation"))
    return systems.only_if_several(
        cells.complete(
            (
                {
                    "machine": row.machine,
                    "weights": row.weights,
                    "implementation": row.by,
                    "dtype": row.dtype,
                    "arch": row.arch,
                    "layers": f"{row.layers_to:.0f} to {row.layers_of:.0f}",
                    "FLOP a layer (GFLOP)": round(row.flops_to / row.layers_to / 1e9),
                    "FLOP, change (%)": tidy.change(row.flops_to, row.flops_of),
                    "time, change (%)": row.change,
                    "outside the layers (ms)": outside(row),
                    "memory saved (MiB)": row.mib_to - row.mib_of,
                    "weights saved (MiB)": weights_saved(row),
                }
                for row in found.itertuples()
            ),
            ("arch", "FLOP, change (%)", "time, change (%)"),
        )
    )


def outside(row) -> float:
    """Milliseconds that do not depend on the layers; negative: the student does more than halve.

    Time is taken to be one part in proportion to the FLOP of the layers and one that teacher and
    student share: two measurements give both.
    """
    share = row.flops_of / row.flops_to
    return (row.ms_of - share * row.ms_to) / (1 - share)


def weights_saved(row) -> float:
    """MiB of the weights that the student lacks."""
    each = {"float32": 4, "bfloat16": 2}[row.dtype]
    return each * (row.parameters_to - row.parameters_of) / 2**20


def apart(records: pd.DataFrame) -> pd.DataFrame:
    """Conversion and distillation in time and memory, apart: counterpart of the paper's Table 5."""
    rows = []
    for full, teacher, student, full_student in systems.steps(records):
        row = {
            "machine": teacher.machine, "weights": teacher.weights,
            "implementation": teacher.by, "dtype": teacher.dtype,
            "arch": teacher.arch, "length (tokens)": teacher.length,
        }  # fmt: skip
        for name, column in (("time", "ms"), ("memory", "mib")):
            row |= {
                f"{name}, conversion (%)": _change(full, teacher, column),
                f"{name}, distillation (%)": _change(teacher, student, column),
                f"{name}, change by both (%)": _change(full, student, column),
                f"{name}, distillation of full (%)": _change(full, full_student, column),
            }
        rows.append(row | {"paper": paper.NOT_AVAILABLE})
    return systems.only_if_several(cells.complete(rows, ("arch", "paper")))


def against_public(records: pd.DataFrame) -> pd.DataFrame:
    """Ours against the public implementation: the teacher, and the student that replaces it."""
    what = {
        "implementation": "teacher, {dtype}",
        "replacement": "student, {dtype}",
    }
    rows = []
    found = systems.at_headline(_ratios(records, *what))
    for row in found.itertuples():
        rows.append(
            {
                "machine": row.machine,
                "weights": row.weights,
                "ours": what[row.what].format(dtype=row.dtype),
                "against": row.by,
                "arch": row.arch,
                "length (tokens)": row.length,
                "public (ms)": row.ms_to,
                "ours (ms)": row.ms_of,
                "time, change (%)": row.change,
                "95 % interval": interval(row.low, row.high),
                "public (MiB)": row.mib_to,
                "ours (MiB)": row.mib_of,
                "memory, change (%)": tidy.change(row.mib_to, row.mib_of),
            }
        )
    return systems.only_if_several(cells.complete(rows, ("arch", "public (ms)", "ours (ms)")))


def over_length(records: pd.DataFrame) -> pd.DataFrame:
    """How time and memory grow with the length, and from where on full attention costs more."""
    rows = systems.alone(systems.rows(records))
    lines = {}
    for column in ("ms", "own_mib"):
        for keys, line in systems.lines(rows, column):
            lines.setdefault(tuple(keys.items()), {})[column] = line
    table = []
    for key, of_key in lines.items():
        keys = dict(key)
        # Of full attention there are no variants.
        plain = keys | {"arch": "full", "by": keys["by"].partition(",")[0]}
        full = lines.get(tuple(plain.items()), {})
        row = {"implementation": keys.pop("by"), **keys, "measured at (tokens)": _span(of_key)}
        for name, column in (("time", "ms"), ("memory", "own_mib")):
            line, other = of_key.get(column), full.get(column)
            row[f"{name} grows as length to the"] = (
                None if line is None else f"{scaling.slope(line):.2f}"
            )
            crossing = None
            if keys["arch"] == "full":
                crossing = "-"
            elif line is not None and other is not None:
                crossing = scaling.crossing_words((line / other).dropna(), cells.NOT_RUN)
            row[f"less {name} than full from (tokens)"] = crossing
        table.append(row)
    return systems.only_if_several(
        cells.complete(table, ("arch", "role", "time grows as length to the"))
    )


def _ratios(records: pd.DataFrame, *what: str) -> pd.DataFrame:
    found = systems.ratios(records)
    return found[found.what.isin(what)]


def interval(low: float, high: float) -> str | None:
    """Of a change in percent, in words."""
    if pd.isna(low) or pd.isna(high):
        return None
    return " to ".join(fragments.cell(bound, "change (%)") for bound in (low, high))


def _change(before, after, column: str) -> float | None:
    if before is None or after is None:
        return None
    return tidy.change(getattr(before, column), getattr(after, column))


def _paper_row(columns, statistic: str) -> dict:
    row = dict.fromkeys(columns, paper.NOT_AVAILABLE) | {"arch": f"paper, {statistic}"}
    changes = {name: paper.claimed(name.split(",")[0], statistic) for name in columns
               if name.endswith("change (%)")}  # fmt: skip
    return row | changes


def _span(lines: dict) -> str:
    lengths = sorted({length for line in lines.values() for length in line.index})
    return f"{lengths[0]:,} to {lengths[-1]:,}"


def _reached(table: pd.DataFrame, best: float) -> str:
    """Which rows of `ceiling` save as much as the paper's best, in words."""
    reached = table[pd.to_numeric(table["time, change (%)"], errors="coerce") <= best]
    names = [name for name in ("arch", "implementation", "dtype", "machine") if name in reached]
    rows = [
        f"{', '.join(str(row[name]) for name in names)} "
        f"({fragments.cell(row['time, change (%)'], 'change (%)')} %)"
        for row in reached.to_dict("records")
    ]
    if not rows:
        return "no row measured reaches it"
    start = "the only row that reaches it is" if len(rows) == 1 else "the rows that reach it are"
    return f"{start} {'; '.join(rows)}"


def explained(table: pd.DataFrame, profile: str, machine: str | None) -> str:
    """What `ceiling` shows of a machine, in sentences whose numbers come from it."""
    if "implementation" not in table:
        return NOTHING
    ours = systems.rows_of(table, machine=machine, implementation=systems.OURS, dtype="float32")
    if "weights" in ours:  # of several the first
        ours = ours[ours.weights == next(iter(ours.weights), None)]
    numbers = ours[["FLOP, change (%)", "time, change (%)"]].apply(pd.to_numeric, errors="coerce")
    if numbers.dropna().empty:
        return NOTHING
    flop, time = numbers.mean()
    best = paper.claimed("time", "best")
    said = {
        name: fragments.cell(value, "change (%)")
        for name, value in (("flop", flop), ("time", time), ("best", best))
    }
    saved, weights = (pd.to_numeric(ours[f"{name} saved (MiB)"], errors="coerce").mean()
                      for name in ("memory", "weights"))  # fmt: skip
    return (
        f"Profile `{profile}`, {machine}, our implementation in float32, mean over {len(ours)} "
        f"archs: without half of the layers the FLOP change by **{said['flop']} %**; what teacher "
        "and student share outside of the layers should lessen the cut in time. Measured, time "
        f"changes by **{said['time']} %**. The paper's best, {said['best']} %, goes "
        f"**{flop - best:.1f} points** beyond the FLOP that half of the layers saves; "
        f"{_reached(table, best)}. A student's peak memory is {saved:,.0f} MiB lower than its "
        f"teacher's; the weights of the layers that it lacks take {weights:,.0f} MiB.\n"
    )
