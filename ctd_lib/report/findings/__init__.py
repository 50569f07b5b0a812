"""The findings of the report: one page each, from the committed records of the study.

Each is a claim, what was run, a table, a figure where one helps, and a verdict that a stated rule
gives from intervals. They are built whatever of the study was run: what has no records says so.
"""

from pathlib import Path

import matplotlib as mpl
import pandas as pd

from ctd_lib import paths, records
from ctd_lib.report import coverage, fragments, paper, tables
from ctd_lib.report.figures import STYLE
from ctd_lib.report.findings.common import (
    FAILS,
    HOLDS,
    NOT_YET,
    OPEN,
    PART,
    PROFILE,
    Answer,
    Finding,
    Outcome,
    Piece,
)
from ctd_lib.report.findings.costs import time_and_memory
from ctd_lib.report.findings.front import front
from ctd_lib.report.findings.recipes import distillation, layers, order, text
from ctd_lib.report.findings.scores import long_documents, lsg, short_tasks
from ctd_lib.report.findings.steps import two_steps
from ctd_lib.report.findings.traps import traps
from ctd_lib.report.tables.cells import SYNTHETIC_MARK, SYNTHETIC_NOTE, Table

FINDINGS = (
    Finding("short-tasks", "Short tasks", short_tasks),
    Finding("long-documents", "Long documents", long_documents),
    Finding("time-and-memory", "Time and memory", time_and_memory),
    Finding("layers", "Which layers", layers),
    Finding("text", "Which text", text),
    Finding("two-steps", "Conversion and distillation apart", two_steps),
    Finding("lsg", "LSG", lsg),
    Finding("order", "Which order", order),
    Finding("distillation", "What distillation adds", distillation),
    Finding("traps", "Traps", traps),
)
_CLASSES = {HOLDS: "tip", FAILS: "danger", OPEN: "note", PART: "note", NOT_YET: "note"}
"""Colours of the boxes."""
OVERVIEW = "findings"
"""Name of the table of all statements."""
COVERAGE = (
    Table(coverage.coverage, "Block by block of the plan: runs planned, done and missing, and the "
          "run time of those done."),
    Table(coverage.coverage_grid, "Every model on every task: finetunings done of those planned, "
          "one a seed."),
    Table(coverage.budgets, "What each training was given; every arch the same."),
    Table(tables.training_noise, "The study: scores of one model and task by several seeds of "
          "finetuning, and how far they lie apart. Where a model was made again between its seeds, "
          "that is in it too.", named="study_training_noise"),
    Table(tables.conversion, "The study: what conversion did to the tensors, and on inputs of the "
          "length named the masked-LM loss on held-out text and how far a converted model is from "
          "its backbone.", named="study_conversion"),
    Table(tables.training, "The study: masked-LM loss on held-out text of the full length, through "
          "pretraining and distillation.", named="study_training"),
)  # fmt: skip


def write_all(profile: str = "quick") -> pd.DataFrame:
    """Write all pieces of the pages of findings, of the first page and of the coverage.

    Args:
        profile: whose records step in on the first page where the study has none yet.

    Returns:
        The overview: one row per statement.
    """
    found = {name: records.load(name) for name in dict.fromkeys((PROFILE, profile))}
    study = found[PROFILE]
    with mpl.rc_context(STYLE):
        outcomes = {finding: finding.build(study) for finding in FINDINGS}
        for finding, outcome in outcomes.items():
            _write(_folder() / f"{finding.name}.md", verdicts(outcome))
            for piece in outcome.pieces:
                _write_piece(piece, PROFILE)
        shown = front(found, profile)
        sources = sorted(set(shown.frame.records) - {"-"}, reverse=True) or [PROFILE]
        _write_piece(shown, "` and `results/".join(sources))
    made = overview(outcomes)
    caption = f"What the paper says, and what the study's records say. {paper.LEGEND}"
    _write_piece(Piece(OVERVIEW, caption, made), PROFILE)
    for table in COVERAGE:
        _write_piece(Piece(table.name, table.caption, table.build(study)), PROFILE)
    return made


def verdicts(outcome: Outcome) -> str:
    """The statements of a finding with their verdicts, as a page includes them."""
    return "\n".join(_verdict(answer) for answer in outcome.answers)


def overview(outcomes: dict[Finding, Outcome]) -> pd.DataFrame:
    """One row per statement: who says it, the verdict, the numbers behind it."""
    return pd.DataFrame(
        {
            "finding": finding.title,
            "statement": answer.statement.text,
            "known from": answer.statement.mark or "open question",
            "verdict": answer.verdict,
            "by": answer.because or "-",
        }
        for finding, outcome in outcomes.items()
        for answer in outcome.answers
    )


def _verdict(answer: Answer) -> str:
    mark = answer.statement.mark
    said = f"the paper, {mark}: {paper.MARKS[mark]}" if mark else "the paper leaves it open"
    because = f": {answer.because}" if answer.because else ""
    return (
        f":::{{admonition}} {answer.statement.text}\n:class: {_CLASSES[answer.verdict]}\n"
        f"**{answer.verdict.capitalize()}**{because}.\n\n"
        f"Said by: {said}. Rule: {answer.rule}.\n:::\n"
    )


def _write_piece(piece: Piece, profile: str) -> None:
    """A table and its figure."""
    notes = SYNTHETIC_NOTE if SYNTHETIC_MARK in piece.frame.to_csv() else ""
    fragments.write_table(piece.name, piece.caption, piece.frame, profile, notes)
    if piece.drawing is not None:
        drawing = piece.drawing
        fragments.write_figure(
            piece.name, piece.figure_caption, drawing.figure, drawing.alt, profile
        )


def _folder() -> Path:
    return paths.book_generated() / "findings"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
