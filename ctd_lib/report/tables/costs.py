"""Time, memory and parameters over lengths, teacher beside student."""

from dataclasses import astuple

import pandas as pd

from ctd_lib.report import paper, tidy
from ctd_lib.report.tables import cells


def latency(records: pd.DataFrame) -> pd.DataFrame:
    """Median time of one forward over lengths that the models read, teacher beside student."""
    timings = tidy.timings(records).dropna(subset="ms")
    return cells.complete(
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
    return cells.complete(
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
    return cells.complete(
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
