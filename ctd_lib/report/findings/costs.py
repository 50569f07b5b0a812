"""Finding on time and memory: what the student saves at the paper's length."""

import math

import pandas as pd

from ctd_lib.report import paper, tidy
from ctd_lib.report.findings.common import (
    UNKNOWN,
    Answer,
    Outcome,
    Piece,
    at_most,
    bounds,
    filled,
    in_percent,
    within,
)
from ctd_lib.report.findings.drawings import Mark, forest
from ctd_lib.report.findings.scores import ALL_CONVERTED, CONVERTED
from ctd_lib.scores.bootstrap import Interval

A_LOT = 30.0
"""Percent less time: what "a lot" means here."""
A_LITTLE = 10.0
"""Percent of memory, more or less: what "a little" means here."""
TIME, MEMORY = "time", "memory"
_COLUMNS = ("what", "arch", "length (tokens)", "change (%)", "change, low (%)", "change, high (%)")


def time_and_memory(records: pd.DataFrame) -> Outcome:
    """Time falls a lot, memory little."""
    timings = tidy.timings(records)
    rows, marks, means = [], [], {}
    for what, column in ((TIME, "ms"), (MEMORY, "mib")):
        length = tidy.headline_length(timings, column)
        by_arch = {}
        for arch, teacher, student in tidy.pairs(timings, length):
            found = _time(teacher, student) if what == TIME else _memory(teacher, student)
            by_arch[arch] = found
            rows.append(_row(what, arch, length, found))
            if not math.isnan(found.value):
                marks.append(Mark(what, arch, found))
        means[what] = _range([by_arch[arch] for arch in CONVERTED]), by_arch
        rows.append(_row(what, ALL_CONVERTED, length, means[what][0]))
    return Outcome(
        (
            _answer("time", *means[TIME], f"at least {A_LOT:g} % less time"),
            _answer("memory", *means[MEMORY], f"a change of peak memory within {A_LITTLE:g} %"),
        ),
        (
            Piece(
                "finding_time_and_memory",
                "Change from teacher to student of one forward. Low and high: of time, the "
                "student's quartiles against the teacher's, the most and the least favourable; of "
                "memory, one measurement each. Of the converted archs: the mean, and the lowest "
                "and highest bound of any.",
                filled(rows, _COLUMNS),
                forest(marks, "change, %", 0, "Change from teacher to student in percent"),
                "Change of time and peak memory from teacher to student; left of the line is less.",
            ),
        ),
    )


def _time(teacher: tidy.Timing, student: tidy.Timing) -> Interval:
    return Interval(
        tidy.change(teacher.ms, student.ms),
        tidy.change(teacher.high, student.low),
        tidy.change(teacher.low, student.high),
    )


def _memory(teacher: tidy.Timing, student: tidy.Timing) -> Interval:
    value = tidy.change(teacher.mib, student.mib)
    return Interval(value, value, value)


def _range(found: list[Interval]) -> Interval:
    """Mean of the values, lowest and highest bound; unknown where one is."""
    if any(math.isnan(one.value) for one in found):
        return UNKNOWN
    value = sum(one.value for one in found) / len(found)
    return Interval(value, min(one.low for one in found), max(one.high for one in found))


def _answer(name: str, found: Interval, by_arch: dict[str, Interval], words: str) -> Answer:
    rule = (
        f"holds where every converted arch has {words}, over its whole range; does not hold where "
        "the whole range of all of them is on the other side"
    )
    statement = paper.STATEMENTS[name]
    if math.isnan(found.value):
        return Answer(statement, rule)
    verdict = at_most(found, -A_LOT) if name == "time" else within(found, A_LITTLE)
    alone = {arch: by_arch[arch] for arch in CONVERTED}
    because = f"mean change {in_percent(found)}"
    return Answer(statement, rule, verdict, because, found, alone)


def _row(what: str, arch: str, length: int, found: Interval) -> dict:
    value = None if math.isnan(found.value) else found.value
    return {
        "what": what, "arch": arch, "length (tokens)": length, "change (%)": value,
        **bounds(found, "change", "%"),
    }  # fmt: skip
