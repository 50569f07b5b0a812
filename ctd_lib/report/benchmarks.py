"""What the scripts in `benchmarks/` measured, as tables and a figure of the book.

Rows come from the files under `results/benchmarks`, each of which says on which machine and from
which commit it was measured.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ctd_lib import ARCHS, paths
from ctd_lib.errors import CtdError
from ctd_lib.report import figures, fragments, scaling, systems, tables

FOLDER = "benchmarks"
OURS = ("ours",)
PUBLIC = ("transformers", "lsg-converter")
LANDMARKS = "Nystromformer with landmarks on"
"""How `benchmarks/contender.py` runs transformers': as published it computes full attention."""
UNKNOWN = "-"
"""Of memory where the system does not tell."""


def rows(script: str = "attention") -> pd.DataFrame:
    """Every measured row of a script: one contender at one length in one dtype.

    Raises:
        CtdError: a file is not what the script writes.
    """
    found = []
    for path in sorted(paths.results(FOLDER).glob(f"{script}-*.json")):
        try:
            content = json.loads(path.read_text())
            provenance, measured = content["provenance"], content["rows"]
            device = content.get("device", "cpu")
            for row in measured:
                if "error" not in row:
                    found.append(_named({"device": device, "provenance": provenance} | row, path))
        except (ValueError, KeyError, TypeError) as error:
            raise CtdError(
                f"{path} is no output of benchmarks/{script}.py; measure it again, or delete it."
            ) from error
    return pd.DataFrame(found)


def _named(row: dict, path: Path) -> dict:
    """A row with its file, and the machine that it was measured on with the commit."""
    host = row["provenance"]["host"]
    machine = host["cpu"] if row["device"] == "cpu" else host["gpu"]
    measured = f"{machine}, commit {systems.commit(row['provenance'])}"
    return row | {"file": path.stem, "machine": machine, "measured": measured}


def attention(rows: pd.DataFrame) -> pd.DataFrame:
    """Each arch against its public implementation and full attention, dtype by length."""
    if rows.empty:
        return _none("arch")
    table = []
    for keys, group in _groups(rows):
        ours, public = _one(group, keys["arch"], "ours"), _public(group, keys["arch"])
        if ours is None:
            continue  # it failed
        full, our_full = _one(group, "full", "transformers"), _one(group, "full", "ours")
        table.append(
            keys | {
                "ours (s)": ours["seconds_median"],
                "ours / public": _ratio(public),
                "ours / full": _ratio(full),
                "ours / full, our linear layers": _ratio(our_full),
                "extra memory (MiB)": _mib(ours["extra_bytes"]),
                "extra memory, ours / public": _quotient(ours, public, "extra_bytes"),
                "speed (GFLOP/s)": ours["flop_per_second"] / 1e9,
                "times its bound": f"{ours['times_bound']:.2f}",
            }
        )  # fmt: skip
    return _finished(table, "arch")


def crossover(rows: pd.DataFrame) -> pd.DataFrame:
    """The length from which on each arch is faster than full attention, ours and the public one."""
    if rows.empty:
        return _none("arch")
    forward = rows[~rows.train & (rows.group != "student")]
    table = []
    together = ["machine", "group", "dtype"]
    for (machine, arch, dtype), measured in forward.groupby(together, sort=False):
        ours, public = ((measured.arch == arch) & measured.kind.isin(k) for k in (OURS, PUBLIC))
        full, our_full = ((measured.arch == "full") & measured.kind.isin(k) for k in (PUBLIC, OURS))
        table.append(
            {
                "machine": machine,
                "arch": arch,
                "dtype": dtype,
                "ours (tokens)": _crossing(measured[ours], measured[full]),
                "ours, full with our linear layers (tokens)": _crossing(
                    measured[ours], measured[our_full]
                ),
                "public (tokens)": _crossing(measured[public], measured[full]),
            }
        )
    return _finished(table, "arch")


def replacement(rows: pd.DataFrame) -> pd.DataFrame:
    """Our student of half the layers in bfloat16 against the public teacher in float32."""
    if rows.empty or not (rows.group == "student").any():
        return _none("student")
    table = []
    for (machine, length), group in rows[rows.group == "student"].groupby(["machine", "length"]):
        if not (group.kind.isin(OURS).any() and group.kind.isin(PUBLIC).any()):
            continue  # one of them failed
        student, teacher = (group[group.kind.isin(kinds)].iloc[0] for kinds in (OURS, PUBLIC))
        table.append(
            {
                "machine": machine,
                "student": f"{student.arch}, {student.layers} layers, {student['dtype']}",
                "teacher": f"{teacher.arch}, {teacher.layers} layers, {teacher['dtype']}, public",
                "length (tokens)": length,
                "student (s)": student.seconds_median,
                "teacher (s)": teacher.seconds_median,
                "student / teacher": _ratio(teacher),
                "extra memory, student (MiB)": _mib(student.extra_bytes),
                "extra memory, teacher (MiB)": _mib(teacher.extra_bytes),
            }
        )
    return _finished(table, "student")


def training_step(rows: pd.DataFrame) -> pd.DataFrame:
    """A step of distillation: ours against a plain loop, one measurement a file."""
    table = []
    for _, pair in rows.groupby("file") if len(rows) else ():
        if set(pair.kind) != {"ours", "plain"}:
            continue  # one of them failed
        ours, plain = (pair[pair.kind == kind].iloc[0] for kind in ("ours", "plain"))
        table.append(
            {
                "machine": ours["machine"],
                "arch": ours["arch"],
                "teacher": f"{ours['layers']} layers of {ours['hidden_size']}",
                "length (tokens)": ours["length"],
                "dtype, ours / plain": f"{ours['dtype']} / {plain['dtype']}",
                "ours (tokens/s)": ours["tokens_per_second"]["median"],
                "plain loop (tokens/s)": plain["tokens_per_second"]["median"],
                "times as fast": "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(
                    **ours["speed_ratio"]
                ),
                "peak, ours (MiB)": _mib(ours["peak_bytes"]),
                "peak, plain (MiB)": _mib(plain["peak_bytes"]),
                "peak, ours / plain": _quotient(ours, plain, "peak_bytes"),
            }
        )
    return _finished(table, "arch")


def beside_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """What training costs beside its steps: a batch of text, taking up a checkpoint."""
    if rows.empty:
        return _none("what")
    frame = pd.DataFrame(
        {
            "machine": rows.machine,
            "model": rows.file.str.removeprefix("overheads-"),
            "what": rows.what,
            "length (tokens)": rows.length,
            "parameters (millions)": rows.parameters / 1e6,
            "checkpoint (MiB)": rows.bytes / 2**20,
            "mean (ms)": rows["mean"] * 1e3,
            "highest (ms)": rows.highest * 1e3,
            "times": rows.times,
        }
    ).astype(object)
    return systems.only_if_several(frame.where(frame.notna(), UNKNOWN), ["machine"])


def speed(rows: pd.DataFrame) -> figures.Drawing:
    """Seconds of one forward in float32 over length: ours and the public implementations."""
    figure = Figure()
    axes = figure.subplots()
    if rows.empty:
        return figures.Drawing(figure, "Not run.")
    chosen = rows[~rows.train & (rows.dtype == "float32") & (rows.group != "student")]
    chosen = chosen[chosen.layers == chosen.layers.max()]
    chosen = chosen[chosen.machine.isin(chosen.machine.mode()[:1])]
    words = []
    for arch in ARCHS:
        for kind, line in chosen[chosen.arch == arch].groupby("kind"):
            line = line.groupby("length").seconds_median.median()
            public = kind in PUBLIC
            axes.plot(
                line.index, line, marker=figures.MARKERS[arch], color=figures.COLOURS[arch],
                linestyle="--" if public else "-", fillstyle="none" if public else "full",
                label=None if public else arch,
            )  # fmt: skip
            words.append(f"{arch}, {kind}, {line.iloc[-1]:.1f} s")
    lengths = sorted(chosen.length.unique())
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("input length, tokens")
    axes.set_ylabel("time of one forward, s")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    longest = f"At {lengths[-1]} tokens: " if lengths else ""
    on = f" On {chosen.machine.iloc[0]}." if rows.machine.nunique() > 1 else ""
    return figures.Drawing(figure, f"{longest}{', '.join(words)}.{on}")


TABLES = (
    tables.Table(attention, "One forward, or one forward and backward (training), of the base "
                 "shape: hidden size 768, 12 heads, batch 1. Public: transformers' own, for LSG "
                 f"lsg-converter's; {LANDMARKS}. Full: transformers' full attention through SDPA. "
                 "Ratios are of times, with the range over the rounds."),
    tables.Table(crossover, "From which length on an arch is faster than full attention. "
                 f"Public: {LANDMARKS}."),
    tables.Table(replacement, "A student as it can be had here, against the public teacher that it "
                 "replaces."),
)  # fmt: skip
TRAINING = tables.Table(
    training_step,
    "One step of distillation: ours against a loop with transformers' own attention and all logits "
    "at once. Half the layers in the student, batch 1. Peak: all that the process holds.",
)
BESIDE = tables.Table(
    beside_steps,
    "What training costs beside its steps: the next batch of packed and masked text, from "
    "documents that are tokenised and kept or tokenised as they come, and taking up a checkpoint.",
)
SCRIPTS = {"training": TRAINING, "overheads": BESIDE}
"""The tables of other scripts than `attention`."""


def write_all() -> dict[str, pd.DataFrame]:
    """Write the tables and the figure as files and page fragments; return the tables by name."""
    found, built = rows(), {}
    of_table = {table: _of(table, found) for table in TABLES}
    of_table |= {table: rows(script) for script, table in SCRIPTS.items()}
    for table, own in of_table.items():
        built[table.name] = table.build(own)
        note = "" if own.empty else f"Measured on: {'; '.join(sorted(own.measured.unique()))}."
        fragments.write_table(table.name, table.caption, built[table.name], FOLDER, note)
    with mpl.rc_context(figures.STYLE):
        drawing = speed(found)
        caption = (
            "Time of one forward over input length, float32: ours solid, public dashed; "
            f"{LANDMARKS}."
        )
        fragments.write_figure("speed", caption, drawing.figure, drawing.alt, FOLDER)
    return built


def _of(table: tables.Table, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `attention` that a table shows: a student in a teacher's place, or the others."""
    if rows.empty:
        return rows
    return rows[(rows.group == "student") == (table.build is replacement)]


def _groups(rows: pd.DataFrame) -> Iterator[tuple[dict, pd.DataFrame]]:
    """Those measured together, with what they have in common."""
    rows = rows[rows.group != "student"].assign(
        place=lambda r: r.group.map({arch: number for number, arch in enumerate(ARCHS)}),
        low=lambda r: r.dtype != "float32",
        depth=lambda r: -r.layers,
    )
    rows = rows.sort_values(["train", "low", "depth", "length", "place"], kind="stable")
    together = ["machine", "group", "train", "dtype", "layers", "length"]
    for (machine, arch, train, dtype, layers, length), group in rows.groupby(together, sort=False):
        yield {
            "machine": machine,
            "arch": arch,
            "what": "training" if train else "forward",
            "dtype": dtype,
            "layers": layers,
            "length (tokens)": length,
        }, group  # fmt: skip


def _one(group: pd.DataFrame, arch: str, kind: str):
    found = group[(group.arch == arch) & (group.kind == kind)]
    return None if found.empty else found.iloc[0]


def _public(group: pd.DataFrame, arch: str):
    found = [_one(group, arch, kind) for kind in PUBLIC]
    return next((row for row in found if row is not None), None)


def _ratio(row) -> str:
    if row is None:
        return tables.NOT_RUN
    return "{median:.2f} ({lowest:.2f} to {highest:.2f})".format(**row["ratio"])


def _quotient(ours, other, column: str) -> str:
    if other is None:
        return tables.NOT_RUN
    unknown = pd.isna(ours[column]) or pd.isna(other[column])
    return UNKNOWN if unknown else f"{ours[column] / other[column]:.2f}"


def _mib(memory: float | None) -> float | str:
    return UNKNOWN if pd.isna(memory) else memory / 2**20


def _crossing(arch: pd.DataFrame, full: pd.DataFrame) -> str:
    """Where the ratio of times falls below 1 for good; between two lengths, on log scales."""
    # Lengths may have been measured at two depths: the ratio is of the same one.
    index = ["length", "layers"]
    both = arch.set_index(index).seconds_median / full.set_index(index).seconds_median
    ratios = both.dropna().sort_index().groupby("length").last()
    return scaling.crossing_words(ratios, tables.NOT_RUN)


def _finished(table: list[dict], column: str) -> pd.DataFrame:
    """Rows as a table, the machine named where there are several; one row where there is none."""
    frame = pd.DataFrame(table)
    return systems.only_if_several(frame, ["machine"]) if table else _none(column)


def _none(column: str) -> pd.DataFrame:
    return pd.DataFrame([{column: tables.NOT_RUN}])
