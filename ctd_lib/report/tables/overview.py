"""Teacher and student over all tasks: the headline, the paper's claims, the two steps apart."""

from collections.abc import Iterable

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.report import kept, paper, tidy
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Interval, mean_over_tasks


def headline(records: pd.DataFrame) -> pd.DataFrame:
    """One row per arch: score kept, time, memory, parameters; then the paper's mean and best."""
    shared, timings = kept.shared_scores(records), tidy.timings(records)
    length, memory_length = tidy.headline_length(timings), tidy.headline_length(timings, "mib")
    intervals, ran = kept_intervals(records), set(tidy.shared(tidy.scores(records)).group)
    means = shared.groupby(["arch", "task"])[["teacher", "student"]].mean()
    rows = []
    for arch, teacher, student in tidy.pairs(timings, length):
        of_arch = shared[shared.arch == arch]
        mib = [tidy.at(timings, arch, r, memory_length).mib for r in ("teacher", "student")]
        by_group = {}
        for group in tidy.GROUPS:
            name = cells.marked(group, shared.synthetic[shared.group == group])
            value = tidy.mean_kept(of_arch[of_arch.group == group])
            none = pd.isna(value) and group in ran and len(of_arch)
            by_group[f"{name} (%)"] = cells.NONE_COUNTS if none else value
        rows.append(
            {
                "arch": arch,
                f"{cells.marked('score kept', shared.synthetic)} (%)": tidy.mean_kept(of_arch),
                "95 % interval": _said(intervals.get(arch)),
                "score, of full's teacher (%)": _of_full(means, arch),
                **by_group,
                f"teacher at {length} (ms)": teacher.ms,
                f"student at {length} (ms)": student.ms,
                "time, change (%)": tidy.change(teacher.ms, student.ms),
                "memory, change (%)": tidy.change(*mib),
                "teacher (M)": teacher.parameters / 1e6,
                "student (M)": student.parameters / 1e6,
            }
        )
    ours = cells.complete(rows)
    return pd.concat([ours, _paper_rows(list(ours.columns))], ignore_index=True)


def _of_full(means: pd.DataFrame, arch: str) -> float | None:
    """Mean over tasks of the student's score in percent of the full teacher's."""
    archs = means.index.get_level_values("arch")
    if not {"full", arch} <= set(archs):
        return None
    return (100 * means.loc[arch].student / means.loc["full"].teacher).mean()


def kept_intervals(records: pd.DataFrame) -> dict[str, Interval]:
    """Of the headline's mean score kept, by arch, where every task of the mean has one."""
    compared = {(pair.arch, pair.task): kept.comparison(pair) for pair in kept.pairs(records)}
    made = {}
    for arch, of_arch in kept.shared_scores(records).groupby("arch"):
        found = [compared.get((arch, task)) for task in of_arch.task.unique()]
        if None not in found:
            made[arch] = mean_over_tasks([one.kept for one in found]).interval
    return made


def _said(found: Interval | None) -> str | None:
    if found is None:
        return None
    return cells.UNBOUNDED if pd.isna(found.low) else f"{found.low:.1f} to {found.high:.1f}"


def claims(records: pd.DataFrame) -> pd.DataFrame:
    """Each number of the paper that may be quoted, and ours beside it."""
    ours = headline(records).set_index("arch").loc[list(ARCHS[1:])]
    rows = []
    for claim in paper.CLAIMS:
        column = _column(ours.columns, claim)
        values = pd.to_numeric(ours[column], errors="coerce").dropna()
        if values.empty:
            value, who = ours[column].iloc[0], "-"
        elif claim.statistic == "mean":
            value, who = values.mean(), f"mean of {len(values)}"
        else:
            who = (-values if claim.value < 0 else values).idxmax()
            value = values[who]
        rows.append(
            {
                "quantity": claim.quantity,
                "paper (%)": claim.value,
                "known from": f"{claim.source} ({claim.mark})",
                "ours (%)": value,
                "arch": who,
                "data": cells.SYNTHETIC_MARK if cells.SYNTHETIC_MARK in column else "-",
            }
        )
    return cells.complete(rows)


def effects(records: pd.DataFrame) -> pd.DataFrame:
    """What conversion and what distillation changes: full teacher, converted teacher, student."""
    shared, timings = kept.shared_scores(records), tidy.timings(records)
    length = tidy.headline_length(timings)
    means = shared.groupby(["arch", "task"])[["teacher", "student"]].mean()
    full = tidy.at(timings, "full", "teacher", length)
    rows = []
    for arch, teacher, student in tidy.pairs(timings, length, ARCHS[1:]):
        row = {"arch": arch, "score, conversion (%)": None, "score, distillation (%)": None}
        if {"full", arch} <= set(shared.arch):
            ours, reference = means.loc[arch], means.loc["full"]
            row["score, conversion (%)"] = tidy.change(reference.teacher, ours.teacher).mean()
            row["score, distillation (%)"] = tidy.change(ours.teacher, ours.student).mean()
        rows.append(
            row
            | {
                "time, conversion (%)": tidy.change(full.ms, teacher.ms),
                "time, distillation (%)": tidy.change(teacher.ms, student.ms),
                "memory, conversion (%)": tidy.change(full.mib, teacher.mib),
                "memory, distillation (%)": tidy.change(teacher.mib, student.mib),
                "paper": paper.NOT_AVAILABLE,
            }
        )
    return cells.complete(rows)


def _paper_rows(columns: list[str]) -> pd.DataFrame:
    """The paper's mean and best in the columns of the headline table."""
    rows = []
    for statistic in ("mean", "best"):
        row = dict.fromkeys(columns, paper.NOT_AVAILABLE) | {"arch": f"paper, {statistic}"}
        for claim in paper.CLAIMS:
            if claim.statistic == statistic:
                row[_column(columns, claim)] = claim.value
        rows.append(row)
    return pd.DataFrame(rows)


def _column(columns: Iterable[str], claim: paper.Claim) -> str:
    return next(name for name in columns if name.startswith(claim.column))
