"""Records of kind "systems" as tidy frames: every system's rows, and ratios between them.

What was measured together lies in one record. A row that several records have counts once, from the
one made with parameters that the profile names, else from the latest; rows of several machines stay
apart.
"""

from collections.abc import Iterable, Iterator

import pandas as pd

from ctd_lib import ARCHS, records, runtime
from ctd_lib.report import tidy

KIND = "systems"
COMMITTED = "study"
"""Profile whose records are shown where the report's own has none of a kind."""
OURS = "ours"
PUBLIC = "public"
ORDER = {
    "by": (OURS, PUBLIC),
    "dtype": ("float32", "bfloat16"),
    "weights": ("random", "trained"),
    "arch": ARCHS,
    "role": ("teacher", "student", "reference"),
}
NOTED = ("weights",)
"""Columns that tables have only where they tell rows apart.

The machine always stays: `note` names all machines of the records, a table may have rows of one.
"""
_IDENTITY = [
    "machine", "system", "arch", "role", "implementation", "weights", "dtype", "layers", "length",
    "batch_size", "workload",
]  # fmt: skip
RATIO_IDENTITY = ["what", "machine", "arch", "weights", "by", "dtype", "length"]
_SIDE = ("system", "role", "implementation", "dtype", "length", "batch_size", "workload")
_NUMBERS = (
    "ms", "low", "high", "p5", "p95", "tokens_per_second", "documents_per_second", "mib",
    "own_mib", "baseline_mib", "parameters", "flops", "peak_share", "price_per_hour",
)  # fmt: skip
_COLUMNS = (
    *_IDENTITY, "by", "device", "repeats", *_NUMBERS, "extended", "error", "record", "commit",
)  # fmt: skip
_RATIO_COLUMNS = (
    *RATIO_IDENTITY, "device", "batch_size", "layers_of", "layers_to", "change", "low", "high",
    "ms_of", "ms_to", "mib_of", "mib_to", "flops_of", "flops_to", "parameters_of", "parameters_to",
)  # fmt: skip


def shown(profile: str, kind: str | None) -> pd.DataFrame:
    """The records of a profile or, where they lack a kind, those of the study if it has it."""
    found = records.load(profile)
    if kind is None or (found.kind == kind).any():
        return found
    committed = records.load(COMMITTED)
    return committed if (committed.kind == kind).any() else found


def measured(found: pd.DataFrame) -> pd.DataFrame:
    """Every row of every record, those that count most last, with the columns `_COLUMNS`."""
    rows = []
    for record in tidy.ranked(found, KIND, variant=None).itertuples():
        own = {
            "machine": machine(record),
            "device": record.values["device"],
            "price_per_hour": record.params.get("price_per_hour"),
            "record": record.key,
            "commit": commit(record.provenance),
        }
        rows += [_row(row) | own for row in record.values["rows"]]
    frame = pd.DataFrame(rows, columns=list(_COLUMNS))
    return frame.astype(dict.fromkeys(_NUMBERS, float))


def rows(found: pd.DataFrame) -> pd.DataFrame:
    """One row for each thing measured, as in `measured`, in the order of tables."""
    return ordered(measured(found).drop_duplicates(_IDENTITY, keep="last"))


def alone(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of one document at a time, all of one length, that could be run."""
    rows = rows[(rows.workload == "fixed") & rows.ms.notna()]
    return rows[rows.batch_size == rows.batch_size.min()]


def ratios(found: pd.DataFrame) -> pd.DataFrame:
    """Changes in percent between two rows of one run, with the columns `_RATIO_COLUMNS`.

    `what` is "distillation" (student to teacher of one implementation), "replacement" (our student
    in bfloat16 to the public teacher in float32) or "implementation" (our teacher to the public
    one). `of` is compared to `to`.
    """
    return ordered(every_ratio(found).drop_duplicates(RATIO_IDENTITY, keep="last"))


def every_ratio(found: pd.DataFrame) -> pd.DataFrame:
    """The same, those that were measured several times each time, those that count most last."""
    every = alone(measured(found))
    by_side = {(row.record, *(getattr(row, name) for name in _SIDE)): row
               for row in every.itertuples()}  # fmt: skip
    made = []
    for record in tidy.ranked(found, KIND, variant=None).itertuples():
        for ratio in record.values["ratios"]:
            of, to = (by_side.get((record.key, *(ratio[side][name] for name in _SIDE)))
                      for side in ("of", "to"))  # fmt: skip
            if of and to and (what := _what(of, to)):
                made.append({"what": what, **_compared(of, to, ratio)})
    return pd.DataFrame(made, columns=list(_RATIO_COLUMNS))


def at_headline(frame: pd.DataFrame) -> pd.DataFrame:
    """Of each machine what was measured at the paper's length, else at its longest."""
    if frame.empty:
        return frame
    column = "ms" if "ms" in frame else "ms_of"
    parts = [part[part.length == tidy.headline_length(part, column)]
             for _, part in frame.groupby("machine", sort=False)]  # fmt: skip
    return pd.concat(parts)


def steps(found: pd.DataFrame) -> Iterator[tuple]:
    """Full teacher, converted teacher and its student, full student, at the headline's length.

    Yields:
        Rows of `measured` that differ in arch and role alone, preferably of runs with the same
        parameters; None where one was not measured.
    """
    every = at_headline(alone(measured(found)))
    teachers = rows_of(every, role="teacher").drop_duplicates(_IDENTITY, keep="last")
    for teacher in ordered(teachers[teachers.arch.isin(ARCHS[1:])]).itertuples():
        like = every[
            (every.machine == teacher.machine) & (every.dtype == teacher.dtype)
            & (every.weights == teacher.weights)
        ]  # fmt: skip
        student = _nearest(like, teacher, arch=teacher.arch, role="student", by=teacher.by)
        # Of full attention there are no variants.
        plain = teacher.by.partition(",")[0]
        full, full_student = (
            _nearest(like, teacher, arch="full", role=role, by=plain)
            for role in ("teacher", "student")
        )
        yield full, teacher, student, full_student


def lines(rows: pd.DataFrame, column: str) -> Iterator[tuple[dict, pd.Series]]:
    """Of each teacher and student a column over lengths, with what tells it from the others."""
    rows = rows[rows.role.isin(("teacher", "student")) & (rows[column] > 0)]
    names = ["machine", "by", "dtype", "weights", "arch", "role"]
    for values, line in rows.groupby(names, sort=False):
        yield dict(zip(names, values, strict=True)), line.groupby("length")[column].last()


def note(found: pd.DataFrame) -> str:
    """Machines, commits and weights behind the tables, for the line below them."""
    every = measured(found)
    if every.empty:
        return ""
    said = {name: ", ".join(sorted(every[name].unique())) for name in ("commit", "weights")}
    machines = "; ".join(every.machine.unique())
    return (
        f"Measured on: {machines}; commit {said['commit']}. Weights: {said['weights']}; time and "
        "memory do not depend on them."
    )


def commit(provenance: dict) -> str:
    """What a record was made from, marked where the working tree held changes beside it."""
    changed = " + changes" if provenance.get("dirty") else ""
    return (provenance["commit"] or "none")[:8] + changed


def machine(record) -> str:
    """The processor that a record was measured on."""
    values = record.values
    return runtime.processor(record.provenance["host"], values["device"], values["threads"])


def chosen_machine(found: pd.DataFrame) -> str | None:
    """The machine that measured most archs; of several the one whose rounds were disturbed least.

    Verdicts take one machine, tables have all. None where nothing was measured.
    """
    archs: dict[str, set] = {}
    rounds: dict[str, list] = {}
    for record in tidy.ranked(found, KIND, variant=None).itertuples():
        of = machine(record)
        calibration = record.values["machine"]["calibration"]
        archs.setdefault(of, set()).add(record.arch)
        rounds.setdefault(of, []).append((calibration["disturbed"], calibration["rounds"]))

    def disturbed(of: str) -> float:
        bad, every = (sum(counts) for counts in zip(*rounds[of], strict=True))
        return bad / max(1, every)

    return min(archs, key=lambda of: (-len(archs[of]), disturbed(of)), default=None)


def by(system: str, implementation: str) -> str:
    """Whose implementation: ours, or the public one; of it maybe a variant, after the comma."""
    variant = system.partition(", ")[2]
    whose = OURS if implementation == OURS else PUBLIC
    return f"{whose}, {variant}" if variant else whose


def rows_of(rows: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Those with these values."""
    for name, value in values.items():
        rows = rows[rows[name] == value]
    return rows


def ordered(frame: pd.DataFrame) -> pd.DataFrame:
    """By machine, then ours before public, float32 before bfloat16, archs as in `ARCHS`."""

    def place(column: pd.Series) -> pd.Series:
        known = ORDER.get(str(column.name))
        if known is None:
            return column
        return column.map({name: number for number, name in enumerate(known)}).fillna(len(known))

    names = ["machine", "weights", "by", "dtype", "length", "arch", "role"]
    return frame.sort_values([n for n in names if n in frame], key=place, kind="stable")


def only_if_several(frame: pd.DataFrame, columns: Iterable[str] = NOTED) -> pd.DataFrame:
    """Without those of these columns that have one value throughout: `note` has it."""
    return frame.drop(columns=[c for c in columns if c in frame and frame[c].nunique() < 2])


def _row(row: dict) -> dict:
    low, high = row["seconds_iqr"] or (None, None)
    scaled = {
        "ms": (row["seconds_median"], 1000), "low": (low, 1000), "high": (high, 1000),
        "p5": (row["seconds_p5"], 1000), "p95": (row["seconds_p95"], 1000),
        "tokens_per_second": (row["tokens_per_second"], 1),
        "documents_per_second": (row["documents_per_second"], 1),
        "mib": (row["peak_bytes"], 2**-20), "baseline_mib": (row["baseline_bytes"], 2**-20),
        "flops": (row["flops"], 1), "peak_share": (row["peak_share"], 1),
        "parameters": (row["parameters"], 1),
    }  # fmt: skip
    numbers = {name: tidy.scaled(*value) for name, value in scaled.items()}
    plain = {name: row[name] for name in (*_IDENTITY[1:], "repeats", "extended", "error")}
    return plain | numbers | {
        "by": by(row["system"], row["implementation"]),
        "own_mib": numbers["mib"] - numbers["baseline_mib"],
    }  # fmt: skip


def _what(of, to) -> str | None:
    """What a ratio tells; None: nothing that the report asks."""
    alike, replaces = of.dtype == to.dtype, of.by == OURS != to.by
    match of.role, to.role:
        case "student", "teacher" if alike and of.by == to.by:
            return "distillation"
        case "student", "teacher" if replaces:
            return "replacement"
        case "teacher", "teacher" if alike and replaces:
            return "implementation"
    return None


def _compared(of, to, ratio: dict) -> dict:
    both = {
        f"{name}_{side}": getattr(row, name)
        for side, row in (("of", of), ("to", to))
        for name in ("layers", "ms", "mib", "flops", "parameters")
    }
    changes = {
        name: 100 * (tidy.scaled(ratio[key], 1) - 1)
        for name, key in (("change", "ratio"), ("low", "low"), ("high", "high"))
    }
    return {
        "machine": of.machine, "arch": of.arch, "weights": of.weights, "dtype": of.dtype,
        "by": to.by, "length": of.length, "device": of.device, "batch_size": of.batch_size,
        **both, **changes,
    }  # fmt: skip


def _nearest(rows: pd.DataFrame, to, **values: object):
    """The row with these values; None: there is none.

    Rather of a run with the same parameters, by which records are named: of another arch, it is not
    the same run.
    """
    chosen = rows_of(rows, **values)
    together = chosen[chosen.record == to.record]
    chosen = chosen if together.empty else together
    return None if chosen.empty else next(chosen.iloc[-1:].itertuples())
