"""The figures of the report: one function each, from records to a drawing.

Colours are Okabe and Ito's, which the colour-blind tell apart; every arch also has its own marker,
and teacher and student differ by line style, so that a grey print reads as well. The ground is
white in the dark theme too.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ctd_lib import ARCHS, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments, kept, tables, tidy

COLOURS = dict(zip(ARCHS, ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7"), strict=True))
MARKERS = dict(zip(ARCHS, ("o", "s", "^", "D", "v"), strict=True))
STYLE = {
    "axes.edgecolor": "#555555",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": "white",
    "figure.figsize": (7.2, 3.8),
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 11,
    "grid.color": "#dddddd",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 7,
    # The same records give the same file, byte for byte.
    "svg.hashsalt": "ctd",
}

ROLES = "teacher filled, student hollow"


@dataclass(frozen=True)
class Drawing:
    """A figure and what it shows, in words with its numbers, for those who do not see it."""

    figure: Figure
    alt: str


@dataclass(frozen=True)
class Plot:
    """A figure of the book: `draw` makes it, `caption` says what it shows."""

    draw: Callable[[pd.DataFrame], Drawing]
    caption: str

    @property
    def name(self) -> str:
        """Name of its files."""
        return self.draw.__name__


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
    _legend(axes)
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
    _legend(axes)
    return Drawing(figure, "Score kept: " + (", ".join(words) or "not run") + ".")


def latency(records: pd.DataFrame) -> Drawing:
    """Time over length, both axes logarithmic."""
    timings = tidy.timings(records)
    figure = _over_length(timings, "ms", "time of one forward, ms")
    return Drawing(figure, "Median time of one forward: " + _ends(timings, "ms", "ms"))


def memory(records: pd.DataFrame) -> Drawing:
    """Peak memory over length, both axes logarithmic."""
    timings = tidy.timings(records).dropna(subset="mib")
    figure = _over_length(timings, "mib", "peak memory, MiB")
    return Drawing(figure, "Peak memory: " + _ends(timings, "mib", "MiB"))


def positions(records: pd.DataFrame) -> Drawing:
    """Score over the position of the answer or entity."""
    found = kept.where_lost(records, "position")
    return _over_bins(found, "position, tokens from", "Score by position of the answer or entity")


def lengths(records: pd.DataFrame) -> Drawing:
    """Score over the length of the document."""
    found = kept.where_lost(records, "tokens")
    return _over_bins(found, "document, tokens from", "Score by length of the document")


def tags(records: pd.DataFrame) -> Drawing:
    """Score by type of entity."""
    return _over_kinds(kept.where_lost(records, "tag"), "Entity F1 by type of entity")


def questions(records: pd.DataFrame) -> Drawing:
    """Score by type of question."""
    return _over_kinds(kept.where_lost(records, "kind"), "Score by type of question or part")


PLOTS = (
    Plot(headline, "What the student keeps of its teacher's score, at which share of its teacher's "
         "time. Up and to the left is better."),
    Plot(retention, "Score kept by the student, task by task; on the dotted line nothing is lost. "
         "A line through a point is its 95 % interval. "
         f"{tables.SYNTHETIC_NOTE}"),
    Plot(latency, "Median time of one forward over input length: teacher solid, student dashed."),
    Plot(memory, "Peak memory of one forward over input length: teacher solid, student dashed."),
    Plot(positions, f"Score over the position of the answer or entity: {ROLES}."),
    Plot(lengths, f"Score over the length of the document: {ROLES}."),
    Plot(tags, f"Entity F1 by type of entity: {ROLES}."),
    Plot(questions, f"Score by type of question, or by part of a classification task: {ROLES}."),
)  # fmt: skip


def write_all(profile: str) -> dict[str, Drawing]:
    """Write every figure of a profile as SVG, PNG, text alternative and page fragment.

    Raises:
        CtdError: the profile has no records.
    """
    found = records.load(profile)
    if found.empty:
        raise CtdError(f"profile {profile!r} has no records yet; run its notebooks first.")
    drawn = {}
    with mpl.rc_context(STYLE):
        for plot in PLOTS:
            drawing = drawn[plot.name] = plot.draw(found)
            fragments.write_figure(plot.name, plot.caption, drawing.figure, drawing.alt, profile)
    return drawn


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
        mark = f" {tables.SYNTHETIC_MARK}" if of_task.synthetic.any() else ""
        axes.set_title(task + mark, fontsize="medium")
        yield axes, of_task
    for axes in grid[:, 0]:
        axes.set_ylabel("score")
    lines = [line for axes in figure.axes for line in axes.lines]
    drawn = {arch: line for arch in ARCHS for line in lines if line.get_label() == arch}
    if drawn:
        figure.legend(drawn.values(), drawn.keys(), loc="outside right upper")
    else:
        _legend(grid.flat[0])


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


def _over_length(timings: pd.DataFrame, column: str, label: str) -> Figure:
    figure = Figure()
    axes = figure.subplots()
    for arch, role in itertools.product(ARCHS, ("teacher", "student")):
        line = timings[(timings.arch == arch) & (timings.role == role)]
        student = role == "student"
        axes.plot(
            line.length,
            line[column],
            marker=MARKERS[arch],
            color=COLOURS[arch],
            linestyle="--" if student else "-",
            fillstyle="none" if student else "full",
            label=None if student or line.empty else arch,
        )
    lengths = sorted(timings.length.unique())
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [f"{int(length)}" for length in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("input length, tokens")
    axes.set_ylabel(label)
    _legend(axes)
    return figure


def _ends(timings: pd.DataFrame, column: str, unit: str) -> str:
    """The values at the longest length, in words."""
    if timings.empty:
        return "not run."
    last = timings[timings.length == timings.length.max()]
    values = ", ".join(
        f"{row.arch} {row.role} {getattr(row, column):,.0f} {unit}" for row in last.itertuples()
    )
    return f"at {int(timings.length.max())} tokens {values}."


def _legend(axes: mpl.axes.Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        axes.text(0.5, 0.5, tables.NOT_RUN, transform=axes.transAxes, ha="center")
