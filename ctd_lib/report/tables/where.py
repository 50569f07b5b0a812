"""Where the student loses: teacher and student bin by bin, with how sure the difference is."""

import pandas as pd

from ctd_lib import ARCHS
from ctd_lib.report import kept
from ctd_lib.report.tables import cells
from ctd_lib.scores import where

READ_BY_SHORT = 512
"""Tokens that an encoder without long-context attention reads."""
FEW = "few examples"
"""Said of a bin on fewer documents than `kept.FEWEST_EXAMPLES`, in the place of a verdict."""


def halves(records: pd.DataFrame) -> pd.DataFrame:
    """Scores of what stands before and after the reach of a short encoder."""
    return _bins(records, "position", "position (tokens)", (0, READ_BY_SHORT))


def positions(records: pd.DataFrame) -> pd.DataFrame:
    """Scores by the position of the answer or entity."""
    return _bins(records, "position", "position (tokens)")


def lengths(records: pd.DataFrame) -> pd.DataFrame:
    """Scores by the length of the document."""
    return _bins(records, "tokens", "document (tokens)")


def tags(records: pd.DataFrame) -> pd.DataFrame:
    """Scores by the type of entity."""
    return _bins(records, "tag", "tag")


def questions(records: pd.DataFrame) -> pd.DataFrame:
    """Scores by the type of question, or by the part of a classification task."""
    return _bins(records, "kind", "kind")


def _bins(
    records: pd.DataFrame, by: str, heading: str, edges: tuple[int, ...] = where.EDGES
) -> pd.DataFrame:
    found = kept.where_lost(records, by, edges)
    columns = [
        "task", heading, "arch", "examples", "documents", "items", "teacher (score)",
        "student (score)", "change (score)", "change, low (score)", "change, high (score)",
        "student is",
    ]  # fmt: skip
    rows = (
        dict(zip(columns, (
            cells.marked(row.task, row.synthetic), row.bin, row.arch,
            row.examples, row.documents, row.items, row.teacher, row.student, row.difference,
            row.low, row.high,
            FEW if row.documents < kept.FEWEST_EXAMPLES else cells.verdict(row.low, row.high),
        ), strict=True))
        for row in sorted(found.itertuples(), key=lambda row: (row.task, ARCHS.index(row.arch)))
    )  # fmt: skip
    return cells.complete(rows, columns)
