"""Finding on time and memory: what the student saves at the paper's length."""

import math
from typing import NamedTuple

import numpy as np
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
PUBLIC = f"{PAPER_SIZE}, public"
MODELS = {systems.OURS: PAPER_SIZE, systems.PUBLIC: PUBLIC}
"""Of the paper's size, by implementation."""
DEVICES = {"cpu": "a CPU", "cuda": "a GPU"}
_COLUMNS = (
    "what", "models", "machine", "arch", "length (tokens)",
    "change (%)", "change, low (%)", "change, high (%)",
)  # fmt: skip


class Measured(NamedTuple):
    """Changes from teacher to student of models of one size, on one machine."""

    models: str
    machine: str | None
    device: str | None
    batch_size: int | None
    length: int
    changes: dict[str, Interval]
    """In percent, by arch."""

    def mean(self) -> Interval:
        """Mean over the converted archs, lowest and highest bound; unknown where one is."""
        found = [self.changes[arch] for arch in CONVERTED if arch in self.changes]
        if len(found) < len(CONVERTED):
            return UNKNOWN
        values, lows, highs = np.array(found).T
        return Interval(values.mean(), lows.min(), highs.max())  # not a number where one is none


def time_and_memory(records: pd.DataFrame) -> Outcome:
    """Time falls a lot, memory little: of models of the paper's size, else of the study's."""
    rows, marks, answers = [], [], []
    for what in (TIME, MEMORY):
        study, paper_size = _study_size(records, what), _paper_size(records, what)
        answers.append(_answer(what, (paper_size or [study])[0], paper_size))
        for measured in (study, *paper_size):
            rows += _rows(what, measured)
        for measured in (study, *paper_size[:1]):
            marks += [
                Mark(f"{what}, {measured.models}", arch, change)
                for arch, change in measured.changes.items()
                if not math.isnan(change.value)
            ]
    return Outcome(
        tuple(answers),
        (
            Piece(
                "finding_time_and_memory",
                "Change from teacher to student of one forward in float32. Models of the paper's "
                "size have its shapes and random weights, on which neither time nor memory "
                "depends; the study's are small and trained. Of several machines the verdict takes "
                "the one that measured most archs, of those the one whose rounds were disturbed "
                "least; its rows come first. Implementations are ours; of the public ones the mean "
                "alone. Low and high: of time, the 95 % interval of the ratio of medians at the "
                "paper's size, too narrow where rounds are few (see Method), else the student's "
                "quartiles against the teacher's, the most and the least favourable; of memory, "
                "one measurement each. Of the converted archs: the mean, and the lowest and "
                "highest bound of any.",
                filled(rows, _COLUMNS),
                forest(marks, "change, %", 0, "Change from teacher to student in percent"),
                "Change of time and peak memory from teacher to student, our implementation, on "
                "the machine of the verdict; left of the line is less.",
            ),
        ),
    )


def _study_size(records: pd.DataFrame, what: str) -> Measured:
    """Models that were converted and distilled."""
    timings = tidy.timings(records)
    length = tidy.headline_length(timings, "ms" if what == TIME else "mib")
    interval = _time if what == TIME else _memory
    changes = {
        arch: interval(teacher, student) for arch, teacher, student in tidy.pairs(timings, length)
    }
    made = list(tidy.select(records, "measure").itertuples())
    if not made:
        return Measured(STUDY_SIZE, None, None, None, length, changes)
    machines = "; ".join(dict.fromkeys(map(systems.machine, made)))
    first = made[0]
    batch_size = first.values["rows"][0]["batch_size"]
    return Measured(STUDY_SIZE, machines, first.values["device"], batch_size, length, changes)


def _paper_size(records: pd.DataFrame, what: str) -> list[Measured]:
    """Models of the paper's shapes, first ours on `systems.chosen_machine`.

    None where that machine lacks an arch.
    """
    ratios = systems.at_headline(systems.ratios(records))
    ratios = systems.rows_of(ratios, what="distillation", dtype="float32")
    found = []
    for (machine, by), group in ratios[ratios.by.isin(MODELS)].groupby(["machine", "by"]):
        first, changes = group.iloc[0], {}
        for row in group.itertuples():
            memory = tidy.change(row.mib_to, row.mib_of)
            interval = (row.change, row.low, row.high) if what == TIME else (memory,) * 3
            changes[row.arch] = Interval(*interval)
        common = (machine, first.device, first.batch_size, first.length)
        found.append(Measured(MODELS[by], *common, changes))
    verdict = (PAPER_SIZE, systems.chosen_machine(records))
    found.sort(key=lambda one: (one.machine != verdict[1], one.models != PAPER_SIZE))
    if not found or found[0][:2] != verdict or math.isnan(found[0].mean().value):
        return []
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


def _answer(what: str, measured: Measured, others: list[Measured]) -> Answer:
    words = {
        TIME: f"at least {A_LOT:g} % less time",
        MEMORY: f"a change of peak memory within {A_LITTLE:g} %",
    }[what]
    rule = (
        f"holds where every converted arch has {words}, over its whole range; does not hold where "
        "the whole range of all of them is on the other side; models of the paper's size count "
        "before those of the study"
    )
    statement, mean = paper.STATEMENTS[what], measured.mean()
    if math.isnan(mean.value):
        return Answer(statement, rule)
    verdict = at_most(mean, -A_LOT) if what == TIME else within(mean, A_LITTLE)
    alone = {arch: measured.changes[arch] for arch in CONVERTED}
    because = (
        f"mean change {in_percent(mean)}, our implementation in float32 at batch size "
        f"{measured.batch_size} on {DEVICES[measured.device]}, models of the {measured.models}"
    )
    if measured.models == PAPER_SIZE:
        because += f", {measured.machine}"
    if what == MEMORY:
        because += _of_public(others)
    return Answer(statement, rule, verdict, because, mean, alone)


def _of_public(found: list[Measured]) -> str:
    """The means of the public implementations, in words; empty where none is known."""
    said = [
        f"{in_percent(mean)} on {one.machine}"
        for one in found
        if one.models == PUBLIC and not math.isnan((mean := one.mean()).value)
    ]
    return f"; the public implementations: {', '.join(said)}" if said else ""


def _rows(what: str, measured: Measured) -> list[dict]:
    """One an arch, and one of the converted archs; of public implementations that alone."""
    changes = {} if measured.models == PUBLIC else measured.changes
    return [
        {
            "what": what, "models": measured.models, "machine": measured.machine, "arch": arch,
            "length (tokens)": measured.length,
            "change (%)": None if math.isnan(change.value) else change.value,
            **bounds(change, "change", "%"),
        }
        for arch, change in (*changes.items(), (ALL_CONVERTED, measured.mean()))
    ]  # fmt: skip
