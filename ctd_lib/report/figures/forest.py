"""Values with their intervals, row by row, an arch a marker: the figure of scores and findings."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from ctd_lib import ARCHS
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing
from ctd_lib.report.tables import cells
from ctd_lib.scores.sampled import Interval

SPREAD = 0.14
"""Between the archs of one row."""


class Mark(NamedTuple):
    """One point and the line through it."""

    row: str
    arch: str
    found: Interval


class Star(NamedTuple):
    """A value of the paper."""

    row: str
    value: float
    statistic: str
    """mean or best."""


def forest(
    marks: Sequence[Mark],
    label: str,
    reference: float,
    what: str,
    stars: Sequence[Star] = (),
    narrow: bool = False,
) -> Drawing:
    """Marks by row, those of one arch alike, with a dotted line at the reference.

    Args:
        label: of the axis.
        what: start of the text alternative.
        stars: values of the paper.
        narrow: for half a page, with the legend below.
    """
    rows = list(dict.fromkeys([*(mark.row for mark in marks), *(star.row for star in stars)]))
    height = 0.55 * max(len(rows), 2)
    figure = Figure(figsize=(4.6, 2.2 + height) if narrow else (7.2, 1.2 + height))
    axes = figure.subplots()
    if not marks:
        axes.set_axis_off()
        axes.text(0.5, 0.5, cells.NOT_YET, transform=axes.transAxes, ha="center")
        return Drawing(figure, f"{what}: {cells.NOT_YET}.")
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
    for star in stars:
        label_of = f"paper, {star.statistic}"
        axes.plot(
            star.value, rows.index(star.row) - 3 * SPREAD, marker="*", markersize=11,
            color="#555555", linestyle="", fillstyle="full" if star.statistic == "mean" else "none",
            label=None if label_of in labelled else label_of,
        )  # fmt: skip
        labelled.add(label_of)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="y", visible=False)
    by_label = {line.get_label(): line for line in axes.lines if line.get_label() in labelled}
    shown = [name for name in (*ARCHS, *sorted(labelled - {*ARCHS})) if name in by_label]
    place = (
        {"loc": "upper center", "bbox_to_anchor": (0.4, -0.3), "ncols": 2}
        if narrow
        else {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    )
    axes.legend([by_label[name] for name in shown], shown, **place)
    return Drawing(figure, f"{what}: {_told(marks, stars)}.")


def _told(marks: Sequence[Mark], stars: Sequence[Star]) -> str:
    words = []
    for row in dict.fromkeys(mark.row for mark in marks):
        of_row = [mark for mark in marks if mark.row == row]
        values = ", ".join(f"{mark.arch} {mark.found.value:.3g}" for mark in of_row)
        paper = "".join(f", paper's {s.statistic} {s.value:g}" for s in stars if s.row == row)
        words.append(f"{row} {values}{paper}")
    return "; ".join(words)
