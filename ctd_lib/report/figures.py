"""The figures of the report: one function each, from records to a drawing.

Colours are Okabe and Ito's, which the colour-blind tell apart; every arch also has its own marker,
and teacher and student differ by line style, so that a grey print reads as well. The ground is
white in the dark theme too.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ctd_lib import ARCHS, records
from ctd_lib.errors import CtdError
from ctd_lib.report import fragments, tables, tidy

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
    kept = scores.groupby(["task", "arch"]).kept.mean()
    synthetic = set(scores.task[scores.synthetic.astype(bool)])
    tasks = sorted(scores.task.unique())
    figure = Figure()
    axes = figure.subplots()
    axes.axvline(100, color="#555555", linewidth=1, linestyle=":")
    words = []
    for offset, arch in enumerate(ARCHS):
        found = [(kept.get((task, arch)), row) for row, task in enumerate(tasks)]
        found = [(value, row) for value, row in found if pd.notna(value)]
        axes.plot(
            [value for value, _ in found],
            [row + 0.14 * (offset - 2) for _, row in found],
            marker=MARKERS[arch],
            color=COLOURS[arch],
            linestyle="",
            label=arch,
        )
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


PLOTS = (
    Plot(headline, "What the student keeps of its teacher's score, at which share of its teacher's "
         "time. Up and to the left is better."),
    Plot(retention, "Score kept by the student, task by task; on the dotted line nothing is lost. "
         f"{tables.SYNTHETIC_NOTE}"),
    Plot(latency, "Median time of one forward over input length: teacher solid, student dashed."),
    Plot(memory, "Peak memory of one forward over input length: teacher solid, student dashed."),
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
