"""Where scores are lost: a panel for each task."""

from collections.abc import Callable, Iterator

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from ctd_lib import ARCHS
from ctd_lib.report import kept
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing, legend
from ctd_lib.report.tables import cells


def positions(records: pd.DataFrame) -> Drawing:
    """Score over the position of the answer or entity."""
    found = _enough(kept.where_lost(records, "position"))
    return _over_bins(found, "position, tokens from", "Score by position of the answer or entity")


def lengths(records: pd.DataFrame) -> Drawing:
    """Score over the length of the document."""
    found = _enough(kept.where_lost(records, "tokens"))
    return _over_bins(found, "document, tokens from", "Score by length of the document")


def tags(records: pd.DataFrame) -> Drawing:
    """Score by type of entity."""
    return _over_kinds(_enough(kept.where_lost(records, "tag")), "Entity F1 by type of entity")


def questions(records: pd.DataFrame) -> Drawing:
    """Score by type of question."""
    found = _enough(kept.where_lost(records, "kind"))
    return _over_kinds(found, "Score by type of question or part")


def _enough(found: pd.DataFrame) -> pd.DataFrame:
    """Bins on enough documents for a point, of tasks with two such bins; all if there are none.

    The tables have the others too, and say that they are of few examples.
    """
    enough = found[found.documents >= kept.FEWEST_EXAMPLES]
    bins = enough.groupby("task").bin.nunique()
    enough = enough[enough.task.isin(bins[bins > 1].index)]
    return found if enough.empty else enough


def _over_bins(found: pd.DataFrame, label: str, words: str) -> Drawing:
    """A panel a task, over bins of tokens: lines, told by their ends."""

    def first_token(name: str) -> int:
        return int(name.split()[0])

    def ends(rows: pd.DataFrame) -> tuple:
        order = rows.bin.map(first_token)
        return rows.loc[order.idxmin()], rows.loc[order.idxmax()]

    figure = Figure()
    for axes, of_task in _panels(figure, found):
        names = sorted(of_task.bin.unique(), key=first_token)
        _both(axes, of_task, names, ("-", "--"), spread=0.0)
        axes.set_xticks(range(len(names)), [str(first_token(name)) for name in names])
        axes.set_xlabel(label)
    return Drawing(figure, f"{words}: {_told(found, ends)}")


def _over_kinds(found: pd.DataFrame, words: str) -> Drawing:
    """A panel a task, over kinds without an order: points, told by lowest and highest."""

    def extremes(rows: pd.DataFrame) -> tuple:
        return rows.loc[rows.student.idxmin()], rows.loc[rows.student.idxmax()]

    figure = Figure()
    for axes, of_task in _panels(figure, found):
        names = sorted(of_task.bin.unique())
        _both(axes, of_task, names, ("", ""), spread=0.14)
        axes.set_xticks(range(len(names)), names, rotation=45 if len(names) > 4 else 0)
    return Drawing(figure, f"{words}: {_told(found, extremes)}")


def _panels(figure: Figure, found: pd.DataFrame) -> Iterator[tuple[mpl.axes.Axes, pd.DataFrame]]:
    """Axes for each task, two beside each other, with its rows; then the legend."""
    tasks = sorted(found.task.unique())
    columns, rows = min(len(tasks), 2) or 1, -(-len(tasks) // 2) or 1
    figure.set_figheight(0.8 + 3 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(tasks) or 1 :]:
        axes.remove()
    for axes, task in zip(grid.flat, tasks, strict=False):
        of_task = found[found.task == task]
        axes.set_title(cells.marked(task, of_task.synthetic), fontsize="medium")
        yield axes, of_task
    for axes in grid[:, 0]:
        axes.set_ylabel("score")
    lines = [line for axes in figure.axes for line in axes.lines]
    drawn = {arch: line for arch in ARCHS for line in lines if line.get_label() == arch}
    if drawn:
        figure.legend(drawn.values(), drawn.keys(), loc="outside right upper")
    else:
        legend(grid.flat[0])


def _both(
    axes: mpl.axes.Axes, rows: pd.DataFrame, names: list[str], styles: tuple, spread: float
) -> None:
    """Teacher and student of every arch over named bins."""
    for offset, arch in enumerate(ARCHS):
        of_arch = rows[rows.arch == arch].set_index("bin").reindex(names)
        places = [place + spread * (offset - 2) for place in range(len(names))]
        for role, style in zip(("teacher", "student"), styles, strict=True):
            axes.plot(
                places,
                of_arch[role].astype(float),
                marker=MARKERS[arch],
                color=COLOURS[arch],
                linestyle=style,
                fillstyle="none" if role == "student" else "full",
                label=arch if role == "teacher" and of_arch.teacher.notna().any() else None,
            )


def _told(found: pd.DataFrame, choose: Callable[[pd.DataFrame], tuple]) -> str:
    """Two chosen bins of every task and arch, in words."""
    words = []
    for (task, arch), rows in found.dropna(subset=["teacher", "student"]).groupby(["task", "arch"]):
        ends = " and ".join(
            f"{row.teacher:.2f} to {row.student:.2f} at {row.bin}" for row in choose(rows)
        )
        words.append(f"{task}, {arch} {ends}")
    return "from teacher to student " + "; ".join(words) + "." if words else "not run."
