"""Finding on time and memory: what the student saves at the paper's length."""

import math

import pandas as pd

from ctd_lib.report import paper, systems, tidy
from ctd_lib.report.figures.forest import Mark, forest
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
from ctd_lib.report.findings.scores import ALL_CONVERTED, CONVERTED
from ctd_lib.scores.sampled import Interval

A_LOT = 30.0
"""Percent less time: what "a lot" means here."""
A_LITTLE = 10.0
"""Percent of memory, more or less: what "a little" means here."""
TIME, MEMORY = "time", "memory"
PAPER_SIZE, STUDY_SIZE = "paper's size", "study's size"
_COLUMNS = (
    "what", "models", "arch", "length (tokens)", "change (%)", "change, low (%)", "change, high (%)"
)  # fmt: skip

Change = dict[str, tuple[int, Interval]]
"""By arch: length in tokens and change in percent."""


def time_and_memory(records: pd.DataFrame) -> Outcome:
    """Time falls a lot, memory little: of models of the paper's size, else of the study's."""
    rows, marks, shown = [], [], {}
    for models, measured in ((STUDY_SIZE, _study_size), (PAPER_SIZE, _paper_size)):
        for what in (TIME, MEMORY):
            found = measured(records, what)
            mean = _mean(found)
            if models == PAPER_SIZE and math.isnan(mean.value):
                continue
            where = (
                f"{models}, {systems.chosen_machine(records)}" if models == PAPER_SIZE else models
            )
            shown[what] = mean, {arch: change for arch, (_, change) in found.items()}, where
            rows += [_row(what, models, arch, *one) for arch, one in found.items()]
            rows.append(_row(what, models, ALL_CONVERTED, _length(found), mean))
            marks += [
                Mark(f"{what}, {models}", arch, change)
                for arch, (_, change) in found.items()
                if not math.isnan(change.value)
            ]
    return Outcome(
        (
            _answer("time", *shown[TIME], f"at least {A_LOT:g} % less time"),
            _answer("memory", *shown[MEMORY], f"a change of peak memory within {A_LITTLE:g} %"),
        ),
        (
            Piece(
                "finding_time_and_memory",
                "Change from teacher to student of one forward in float32. Models of the paper's "
                "size have its shapes and random weights, on which neither time nor memory "
                "depends; the study's are small and trained. Low and high: of time, the 95 % "
                "interval of the ratio of medians at the paper's size, else the student's "
                "quartiles against the teacher's, the most and the least favourable; of memory, "
                "one measurement each. Of the converted archs: the mean, and the lowest and "
                "highest bound of any.",
                filled(rows, _COLUMNS),
                forest(marks, "change, %", 0, "Change from teacher to student in percent"),
                "Change of time and peak memory from teacher to student; left of the line is less.",
            ),
        ),
    )


def _study_size(records: pd.DataFrame, what: str) -> Change:
    """Of the models that were converted and distilled."""
    timings = tidy.timings(records)
    length = tidy.headline_length(timings, "ms" if what == TIME else "mib")
    interval = _time if what == TIME else _memory
    return {
        arch: (length, interval(teacher, student))
        for arch, teacher, student in tidy.pairs(timings, length)
    }


def _paper_size(records: pd.DataFrame, what: str) -> Change:
    """Of our implementation at the paper's shapes, on `systems.chosen_machine`."""
    ratios = systems.at_headline(systems.ratios(records))
    ratios = systems.rows_of(ratios, what="distillation", by=systems.OURS, dtype="float32")
    if len(ratios):
        ratios = systems.rows_of(ratios, machine=systems.chosen_machine(records))
    found = {}
    for row in ratios.itertuples():
        memory = tidy.change(row.mib_to, row.mib_of)
        interval = (row.change, row.low, row.high) if what == TIME else (memory,) * 3
        found[row.arch] = row.length, Interval(*interval)
    return found


def _time(teacher: tidy.Timing, student: tidy.Timing) -> Interval:
    return Interval(
        tidy.change(teacher.ms, student.ms),
        tidy.change(teacher.high, student.low),
        tidy.change(teacher.low, student.high),
    )


def _memory(teacher: tidy.Timing, student: tidy.Timing) -> Interval:
    value = tidy.change(teacher.mib, student.mib)
    return Interval(value, value, value)


def _length(found: Change) -> int:
    return max(length for length, _ in found.values())


def _mean(found: Change) -> Interval:
    """Mean over the converted archs, lowest and highest bound; unknown where one is."""
    converted = [found[arch][1] for arch in CONVERTED if arch in found]
    if len(converted) < len(CONVERTED) or any(math.isnan(one.value) for one in converted):
        return UNKNOWN
    value = sum(one.value for one in converted) / len(converted)
    return Interval(value, min(one.low for one in converted), max(one.high for one in converted))


def _answer(
    name: str, mean: Interval, by_arch: dict[str, Interval], models: str, words: str
) -> Answer:
    rule = (
        f"holds where every converted arch has {words}, over its whole range; does not hold where "
        "the whole range of all of them is on the other side; models of the paper's size count "
        "before those of the study"
    )
    statement = paper.STATEMENTS[name]
    if math.isnan(mean.value):
        return Answer(statement, rule)
    verdict = at_most(mean, -A_LOT) if name == "time" else within(mean, A_LITTLE)
    alone = {arch: by_arch[arch] for arch in CONVERTED}
    because = f"mean change {in_percent(mean)}, our implementation, models of the {models}"
    return Answer(statement, rule, verdict, because, mean, alone)


def _row(what: str, models: str, arch: str, length: int, found: Interval) -> dict:
    value = None if math.isnan(found.value) else found.value
    return {
        "what": what, "models": models, "arch": arch, "length (tokens)": length,
        "change (%)": value, **bounds(found, "change", "%"),
    }  # fmt: skip
