"""Score kept: against time needed, and task by task."""

import pandas as pd
from matplotlib.figure import Figure

from ctd_lib import ARCHS
from ctd_lib.report import kept, tables, tidy
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing, legend


def headline(records: pd.DataFrame) -> Drawing:
    """Score kept against time needed, one point per arch."""
    table = tables.headline(records).set_index("arch").loc[list(ARCHS)]
    kept = pd.to_numeric(table.iloc[:, 0], errors="coerce")
    change = pd.to_numeric(table["time, change (%)"], errors="coerce")
    figure = Figure()
    axes = figure.subplots()
    axes.axhline(100, color="#555555", linewidth=1, linestyle=":")
    words = []
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
        words.append(f"{arch} {kept[arch]:.1f} % at {100 + change[arch]:.1f} %")
    axes.set_xlabel("time of the student, % of its teacher's")
    axes.set_ylabel("score kept, %")
    axes.margins(0.15)
    legend(axes)
    return Drawing(figure, "Score kept at share of the teacher's time: " + ", ".join(words) + ".")


def retention(records: pd.DataFrame) -> Drawing:
    """Score kept per task, with the line at which nothing is lost."""
    scores = tidy.scores(records)
    values = tidy.kept_by(scores, ["task", "arch"])
    compared = {(pair.task, pair.arch): kept.comparison(pair) for pair in kept.pairs(records)}
    synthetic = set(scores.task[scores.synthetic.astype(bool)])
    tasks = sorted(scores.task.unique())
    figure = Figure()
    axes = figure.subplots()
    axes.axvline(100, color="#555555", linewidth=1, linestyle=":")
    words = []
    for offset, arch in enumerate(ARCHS):
        found = [(values.get((task, arch)), row) for row, task in enumerate(tasks)]
        found = [(value, row) for value, row in found if pd.notna(value)]
        axes.plot(
            [value for value, _ in found],
            [row + 0.14 * (offset - 2) for _, row in found],
            marker=MARKERS[arch],
            color=COLOURS[arch],
            linestyle="",
            label=arch,
        )
        for row, task in enumerate(tasks):
            if sure := compared.get((task, arch)):
                place = [row + 0.14 * (offset - 2)] * 2
                axes.plot(sure.retention[1:], place, color=COLOURS[arch], linewidth=1)
        if found:
            lowest, highest = (pick(found) for pick in (min, max))
            words.append(
                f"{arch} from {lowest[0]:.1f} % on {tasks[lowest[1]]} "
                f"to {highest[0]:.1f} % on {tasks[highest[1]]}"
            )
    marked = [f"{task} {tables.SYNTHETIC_MARK}" if task in synthetic else task for task in tasks]
    axes.set_yticks(range(len(tasks)), marked)
    axes.invert_yaxis()
    axes.set_xlabel("score kept, %")
    axes.grid(axis="y", visible=False)
    legend(axes)
    return Drawing(figure, "Score kept: " + (", ".join(words) or "not run") + ".")
