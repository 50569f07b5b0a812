"""The first page: the paper's claims, ours and the verdict, in one table and one figure."""

import math
from collections.abc import Mapping
from dataclasses import replace

import pandas as pd

from ctd_lib.report import paper
from ctd_lib.report.figures.forest import Mark, Star, forest
from ctd_lib.report.findings.common import NOT_YET, OPEN, PART, PROFILE, Answer, Piece
from ctd_lib.report.findings.costs import time_and_memory
from ctd_lib.report.findings.scores import long_documents, short_tasks
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Interval

ROWS = {
    "short": ("score kept, short tasks", "short text"),
    "long-ner": ("score kept, long NER", "long NER"),
    "long-qa": ("score kept, long QA", "long QA"),
    "time": ("change of time", "time"),
    "memory": ("change of peak memory", "memory"),
}
"""Of each statement on the first page: its words, and the paper's claims that belong to it."""
COSTS = ("time", "memory")
NO_VERDICT = (NOT_YET, PART)


def front(records: Mapping[str, pd.DataFrame], other: str) -> Piece:
    """The headline from the study, row by row from another profile where the study has none yet.

    Args:
        records: of both profiles, by name.
        other: the profile that steps in. It is too small for a verdict on scores.
    """
    ours = {name: _answers(found) for name, found in records.items()}
    rows, marks, stars = [], [], []
    for name, (words, column) in ROWS.items():
        profile = PROFILE if ours[PROFILE][name].verdict not in NO_VERDICT else other
        answer = ours[profile][name]
        if profile != PROFILE and name not in COSTS and answer.verdict not in NO_VERDICT:
            answer = replace(answer, verdict=OPEN)
        claims = [claim for claim in paper.CLAIMS if claim.column == column]
        rows.append(_row(words, claims, answer, name in COSTS, profile))
        # A change of -40 % leaves 60 % of the teacher's time.
        shift = 100 if name in COSTS else 0
        for arch, found in _alike(answer).items():
            marks.append(Mark(words.removeprefix("change of "), arch, _shifted(found, shift)))
            stars += [Star(marks[-1].row, shift + c.value, c.statistic) for c in claims]
    drawing = forest(
        marks, "student, % of its teacher", 100,
        "Student in percent of its teacher", list(dict.fromkeys(stars)),
        narrow=True,
    )  # fmt: skip
    return Piece(
        "front",
        "What the student has of its teacher; ours: mean over the converted archs. Scores: small "
        "trained models, with the 95 % interval over tasks and test examples. Time and memory: one "
        "forward of models of the paper's size in float32, our implementation; from the lowest to "
        "the highest bound of any arch; of so few rounds those of time are too narrow, see Method. "
        "Best: of one arch; a weak teacher's score is easily kept. 'None counts': there is no task "
        "that the teachers of all archs learned, so that their scores kept are of different tasks. "
        "A verdict on scores needs two tasks that count: where one does, the interval is over its "
        "test examples alone. "
        f"{paper.LEGEND}",
        pd.DataFrame(rows),
        drawing,
        "Student in percent of its teacher. Scores: to the right is better; time and memory: to "
        "the left. Stars: the paper's values.",
    )


def _answers(records: pd.DataFrame) -> dict[str, Answer]:
    """By the names of `ROWS`."""
    found = [build(records) for build in (short_tasks, long_documents, time_and_memory)]
    names = {statement: name for name, statement in paper.STATEMENTS.items()}
    return {names[one.statement]: one for outcome in found for one in outcome.answers}


def _row(words: str, claims: list[paper.Claim], answer: Answer, cost: bool, profile: str) -> dict:
    known = {claim.statistic: _text(f"{claim.value:g} ({claim.mark})") for claim in claims}
    missing = PART if answer.verdict == PART else NOT_YET
    low, high = (_text(f"{bound:.1f}") for bound in answer.ours[1:])
    if values := [found.value for found in _alike(answer).values()]:
        mean, interval = answer.ours.value, f"{low} to {high}"
        best = (min if cost else max)(values)
    elif answer.by_arch:
        mean, interval, best = cells.NONE_COUNTS, "-", cells.NONE_COUNTS
    else:
        mean = interval = best = missing
    return {
        "quantity (%)": words,
        "verdict": answer.verdict,
        "paper, mean": known.get("mean", paper.NOT_AVAILABLE),
        "paper, best": known.get("best", paper.NOT_AVAILABLE),
        "ours, mean (%)": mean,
        "interval": interval,
        "ours, best (%)": best,
        "records": profile if answer.by_arch else "-",
    }


def _alike(answer: Answer) -> Mapping[str, Interval]:
    """What the archs have, where it is of the same tasks: without a mean over them it is not."""
    return {} if math.isnan(answer.ours.value) else answer.by_arch


def _text(number: str) -> str:
    return number.replace("-", "\N{MINUS SIGN}")


def _shifted(found: Interval, by: float) -> Interval:
    return Interval(*(value + by for value in found))
