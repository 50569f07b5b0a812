"""Score kept: against time needed, and task by task."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from ctd_lib import ARCHS
from ctd_lib.report import tables
from ctd_lib.report.figures.forest import Mark, forest
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing, legend
from ctd_lib.report.pairs import Cell, teacher_and_student
from ctd_lib.report.tables import cells


def headline(records: pd.DataFrame) -> Drawing:
    """Score kept against time needed, one point per arch."""
    table = tables.headline(records).set_index("arch").loc[list(ARCHS)]
    kept = pd.to_numeric(table.iloc[:, 0], errors="coerce")
    change = pd.to_numeric(table["time, change (%)"], errors="coerce")
    figure = Figure()
    axes = figure.subplots()
    axes.axhline(100, color="#555555", linewidth=1, linestyle=":")
    words, intervals = [], tables.kept_intervals(records)
    for arch in ARCHS:
        if pd.isna(kept[arch]) or pd.isna(change[arch]):
            words.append(f"{arch} not run")
            continue
        axes.plot(
            100 + change[arch],
            kept[arch],
            marker=MARKERS[arch],
            color=COLOURS[arch],
            linestyle="",
            markersize=11,
            label=arch,
        )
        if arch in intervals:
            axes.plot(
                [100 + change[arch]] * 2, intervals[arch][1:], color=COLOURS[arch], linewidth=1
            )
        words.append(f"{arch} {kept[arch]:.1f} % at {100 + change[arch]:.1f} %")
    axes.set_xlabel("time of the student, % of its teacher's")
    axes.set_ylabel("score kept, %")
    axes.margins(0.4, 0.15)
    legend(axes)
    return Drawing(figure, "Score kept at share of the teacher's time: " + ", ".join(words) + ".")


def retention(records: pd.DataFrame) -> Drawing:
    """Score kept per task, with the line at which nothing is lost."""
    return score_kept(teacher_and_student(records), "Score kept in percent")


def score_kept(found: Sequence[Cell], what: str) -> Drawing:
    """Score kept of those cells whose teacher learned the task; of all if there are none."""
    learned = [cell for cell in found if cell.learned]
    marks = [
        Mark(cells.marked(cell.task, cell.synthetic), cell.arch, cell.kept.interval)
        for cell in learned or found
    ]
    return forest(marks, "score kept, %", 100, what)
