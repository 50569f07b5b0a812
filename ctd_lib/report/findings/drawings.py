"""One drawing for all findings: values with their intervals, row by row, an arch a marker."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from ctd_lib import ARCHS
from ctd_lib.report.figures import COLOURS, MARKERS, Drawing
from ctd_lib.report.findings.common import NOT_YET
from ctd_lib.scores.bootstrap import Interval

SPREAD = 0.14
"""Between the archs of one row."""


class Mark(NamedTuple):
    """One point and the line through it."""

    row: str
    arch: str
    found: Interval


def forest(
    marks: Sequence[Mark],
    label: str,
    reference: float,
    what: str,
    stars: Sequence[tuple[str, float]] = (),
) -> Drawing:
    """Marks by row, those of one arch alike, with a dotted line at the reference.

    Args:
        label: of the axis.
        what: start of the text alternative.
        stars: values of the paper, by row.
    """
    rows = list(dict.fromkeys([*(mark.row for mark in marks), *(row for row, _ in stars)]))
    figure = Figure(figsize=(7.2, 1.2 + 0.55 * max(len(rows), 2)))
    axes = figure.subplots()
    if not marks:
        axes.text(0.5, 0.5, NOT_YET, transform=axes.transAxes, ha="center")
        return Drawing(figure, f"{what}: {NOT_YET}.")
    axes.axvline(reference, color="#555555", linewidth=1, linestyle=":")
    labelled = set()
    for mark in marks:
        place = rows.index(mark.row) + SPREAD * (ARCHS.index(mark.arch) - 2)
        if not math.isnan(mark.found.low):
            axes.plot(mark.found[1:], [place] * 2, color=COLOURS[mark.arch], linewidth=1.2)
        axes.plot(
            mark.found.value, place, marker=MARKERS[mark.arch], color=COLOURS[mark.arch],
            linestyle="", label=None if mark.arch in labelled else mark.arch,
        )  # fmt: skip
        labelled.add(mark.arch)
    for row, value in stars:
        axes.plot(
            value, rows.index(row) - 3 * SPREAD, marker="*", markersize=11, color="#555555",
            linestyle="", fillstyle="none", label=None if "paper" in labelled else "paper",
        )  # fmt: skip
        labelled.add("paper")
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="y", visible=False)
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    return Drawing(figure, f"{what}: {_told(marks, stars)}.")


def _told(marks: Sequence[Mark], stars: Sequence[tuple[str, float]]) -> str:
    words = []
    for row in dict.fromkeys(mark.row for mark in marks):
        of_row = [mark for mark in marks if mark.row == row]
        values = ", ".join(f"{mark.arch} {mark.found.value:.3g}" for mark in of_row)
        paper = "".join(f", paper {value:g}" for name, value in stars if name == row)
        words.append(f"{row} {values}{paper}")
    return "; ".join(words)
