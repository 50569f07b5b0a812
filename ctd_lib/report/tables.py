"""The tables of the report: functions from records (`records.load`) to tidy DataFrames.

A heading ends in its unit, so that the CSV file and the page say the same thing. A cell that no
record fills is `NOT_RUN`; a value of the paper that is not known is `paper.NOT_AVAILABLE`. A
synthetic data set and what is made of it bear `SYNTHETIC_MARK`.
"""

from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass

import pandas as pd

from ctd_lib import ARCHS, paths, records
from ctd_lib.errors import CtdError
from ctd_lib.records import KINDS
from ctd_lib.report import fragments, paper, tidy

NOT_RUN = "not run"
SYNTHETIC_MARK = "†"
SYNTHETIC_NOTE = f"{SYNTHETIC_MARK} synthetic documents, made by a program: no real text."


@dataclass(frozen=True)
class Table:
    """A table of the book: `build` makes it, `caption` says what it shows."""

    build: Callable[[pd.DataFrame], pd.DataFrame]
    caption: str

    @property
    def name(self) -> str:
        """Name of its files."""
        return self.build.__name__


def headline(records: pd.DataFrame) -> pd.DataFrame:
    """One row per arch: score kept, time, memory, parameters; then the paper's mean and best."""
    shared, timings = tidy.shared(tidy.scores(records)), tidy.timings(records)
    length, memory_length = tidy.headline_length(timings), tidy.headline_length(timings, "mib")
    rows = []
    for arch, teacher, student in tidy.pairs(timings, length):
        of_arch = shared[shared.arch == arch]
        mib = [tidy.at(timings, arch, r, memory_length).mib for r in ("teacher", "student")]
        by_group = {
            f"{_marked(group, shared[shared.group == group])} (%)": tidy.mean_kept(
                of_arch[of_arch.group == group]
            )
            for group in tidy.GROUPS
        }
        rows.append(
            {
                "arch": arch,
                f"{_marked('score kept', shared)} (%)": tidy.mean_kept(of_arch),
                **by_group,
                f"teacher at {length} (ms)": teacher.ms,
                f"student at {length} (ms)": student.ms,
                "time, change (%)": tidy.change(teacher.ms, student.ms),
                "memory, change (%)": tidy.change(*mib),
                "teacher (M)": teacher.parameters / 1e6,
                "student (M)": student.parameters / 1e6,
            }
        )
    ours = _complete(rows)
    return pd.concat([ours, _paper_rows(list(ours.columns))], ignore_index=True)


def claims(records: pd.DataFrame) -> pd.DataFrame:
    """Each number of the paper that may be quoted, and ours beside it."""
    ours = headline(records).set_index("arch").loc[list(ARCHS[1:])]
    rows = []
    for claim in paper.CLAIMS:
        column = _column(ours.columns, claim)
        values = pd.to_numeric(ours[column], errors="coerce").dropna()
        if values.empty:
            value, who = None, NOT_RUN
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
                "data": SYNTHETIC_MARK if SYNTHETIC_MARK in column else "-",
            }
        )
    return _complete(rows)


def scores(records: pd.DataFrame) -> pd.DataFrame:
    """Score of teacher and student, task by task, and what the student keeps."""
    all_scores = tidy.scores(records)
    rows = []
    for task, of_task in all_scores.groupby("task", sort=True):
        for arch in ARCHS:
            found = of_task[of_task.arch == arch]
            rows.append(
                {
                    "task": _marked(task, of_task),
                    "group": of_task.group.iloc[0],
                    "metric": of_task.metric.iloc[0],
                    "arch": arch,
                    "teacher (score)": found.teacher.mean(),
                    "student (score)": found.student.mean(),
                    "score kept (%)": found.kept.mean(),
                    "seeds": found.seed.nunique() or None,
                    "test examples": _only(found.test_examples),
                    "data": _only(found.source),
                }
            )
    return _complete(rows)


def latency(records: pd.DataFrame) -> pd.DataFrame:
    """Median time of one forward over lengths, teacher beside student."""
    timings = tidy.timings(records)
    return _complete(
        {
            "length (tokens)": length,
            "arch": arch,
            "teacher (ms)": teacher.ms,
            "teacher, quartile 1 (ms)": teacher.low,
            "teacher, quartile 3 (ms)": teacher.high,
            "student (ms)": student.ms,
            "student, quartile 1 (ms)": student.low,
            "student, quartile 3 (ms)": student.high,
            "change (%)": tidy.change(teacher.ms, student.ms),
            "student (tokens/s)": student.tokens_per_second,
        }
        for length in sorted(timings.length.unique())
        for arch, teacher, student in tidy.pairs(timings, length)
    )


def memory(records: pd.DataFrame) -> pd.DataFrame:
    """Peak memory over lengths, teacher beside student."""
    timings = tidy.timings(records).dropna(subset="mib")
    return _complete(
        {
            "length (tokens)": length,
            "arch": arch,
            "teacher (MiB)": teacher.mib,
            "student (MiB)": student.mib,
            "change (%)": tidy.change(teacher.mib, student.mib),
        }
        for length in sorted(timings.length.unique())
        for arch, teacher, student in tidy.pairs(timings, length)
    )


def parameters(records: pd.DataFrame) -> pd.DataFrame:
    """Parameters of teacher and student: ours, and those of the published configurations."""
    timings = tidy.timings(records)
    pairs = tidy.pairs(timings, tidy.headline_length(timings))
    return _complete(
        {
            "arch": arch,
            "teacher (M)": teacher.parameters / 1e6,
            "student (M)": student.parameters / 1e6,
            "change (%)": tidy.change(teacher.parameters, student.parameters),
            "paper, teacher (M)": paper.PARAMETERS[arch].teacher,
            "paper, student (M)": paper.PARAMETERS[arch].student,
            "paper, change (%)": tidy.change(*astuple(paper.PARAMETERS[arch])),
        }
        for arch, teacher, student in pairs
    )


def effects(records: pd.DataFrame) -> pd.DataFrame:
    """What conversion and what distillation changes: full teacher, converted teacher, student."""
    shared, timings = tidy.shared(tidy.scores(records)), tidy.timings(records)
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
    return _complete(rows)


def conversion(records: pd.DataFrame) -> pd.DataFrame:
    """What conversion did to the tensors and to the masked-LM loss."""
    fields = {
        "copied": "copied",
        "tiled": "tiled",
        "new": "new",
        "dropped": "dropped",
        "loss, backbone (nats)": "mlm_loss_before",
        "loss, converted (nats)": "mlm_loss_after",
        "compared at (tokens)": "parity_length",
        "largest difference": "parity_max_abs_diff",
    }
    return _complete(_by_arch(records, "convert", fields))


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
    return _complete(before | after for before, after in rows)


def sources(records: pd.DataFrame) -> pd.DataFrame:
    """The labelled data behind the scores, with licences."""
    rows = {}
    for row in records[records.kind == "finetune"].itertuples():
        source = row.source
        rows[row.task, source["name"]] = {
            "task": row.task + (f" {SYNTHETIC_MARK}" if source["synthetic"] else ""),
            "data": source["name"],
            "kind": "synthetic" if source["synthetic"] else "real",
            "licence": source["licence"],
        }
    return _complete(rows[key] for key in sorted(rows))


def runs(records: pd.DataFrame) -> pd.DataFrame:
    """Every record: when, how long, from which code, on which machine."""
    rows = []
    order = {name: number for number, name in enumerate((*KINDS, *ARCHS))}
    for row in sorted(records.itertuples(), key=lambda r: (order[r.kind], order[r.arch], r.path)):
        made, host = row.provenance, row.provenance["host"]
        dirty = " + changes" if made.get("dirty") else ""
        rows.append(
            {
                "stage": row.kind,
                "arch": row.arch,
                "model, task": " ".join(x for x in (row.role, row.task) if isinstance(x, str))
                or "-",
                "seed": row.seed,
                "date (UTC)": made["date"][:16].replace("T", " "),
                "run time (s)": made["seconds"],
                "commit": (made["commit"] or "none")[:8] + dirty,
                "machine": f"{host['gpu'] or host['cpu']}; {host['cores']} cores",
                "torch": made["versions"].get("torch"),
                "transformers": made["versions"].get("transformers"),
                "record": row.path.name,
            }
        )
    return _complete(rows)


TABLES = (
    Table(headline, "Every student against its own teacher. Scores: mean over the tasks that all "
          "archs ran. Time and memory: one forward at the length named. M: million parameters."),
    Table(claims, "The numbers of the paper that are known, and ours."),
    Table(scores, "Scores of teacher and student on the test split, task by task."),
    Table(latency, "Median time of one forward, with quartiles."),
    Table(memory, "Peak memory of a process that runs one forward."),
    Table(parameters, "Parameters in millions; the paper's are counted from the published "
          "configurations of teachers and students."),
    Table(effects, "Change by conversion (full teacher to converted teacher) and by distillation "
          "(converted teacher to student), apart: the counterpart of the paper's Table 5."),
    Table(conversion, "Conversion: what happened to the tensors, the masked-LM loss on held-out "
          "text, and how far a converted model is from its backbone on a short input."),
    Table(training, "Masked-LM loss on held-out text through pretraining and distillation."),
    Table(sources, "Labelled data behind the scores."),
    Table(runs, "Every run behind this report."),
)  # fmt: skip


def write_all(profile: str) -> dict[str, pd.DataFrame]:
    """Write every table of a profile as CSV and as a page fragment; return them by name.

    Raises:
        CtdError: the profile has no records.
    """
    found = records.load(profile)
    if found.empty:
        raise CtdError(f"profile {profile!r} has no records yet; run its notebooks first.")
    built = {table.name: table.build(found) for table in TABLES}
    for table in TABLES:
        frame = built[table.name]
        notes = SYNTHETIC_NOTE if SYNTHETIC_MARK in frame.to_csv() else ""
        fragments.write_table(table.name, table.caption, frame, profile, notes)
    summary = fragments.summary(built["headline"], ARCHS[1:], profile)
    path = paths.book_generated() / "tables" / "summary.md"
    path.write_text(summary, encoding="utf-8")
    return built


def _complete(rows: Iterable[dict]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows)).astype(object)
    return frame.where(frame.notna(), NOT_RUN)


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


def _by_arch(records: pd.DataFrame, kind: str, fields: dict[str, str]) -> list[dict]:
    """One row per arch: the mean over seeds of each field of that kind of record."""
    found = tidy.select(records, kind)
    values = pd.DataFrame(list(found["values"]), index=found.arch, columns=list(fields.values()))
    means = values.astype(float).groupby(level=0).mean().reindex(ARCHS)
    means.columns = list(fields)
    return means.rename_axis("arch").reset_index().to_dict("records")


def _marked(name: str, of_it: pd.DataFrame) -> str:
    return f"{name} {SYNTHETIC_MARK}" if of_it.synthetic.any() else name


def _only(values: pd.Series) -> object:
    return " / ".join(map(str, values.unique())) if len(values) else None
