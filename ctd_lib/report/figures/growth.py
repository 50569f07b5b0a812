"""Time and memory of the paper's systems over input length, ours beside the public ones."""

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, NullLocator

from ctd_lib import ARCHS
from ctd_lib.report import scaling, systems
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing, legend

DTYPE = "float32"
Lines = dict[tuple[str, str], pd.Series]
"""By arch and role: values by length."""


def time_over_length(records: pd.DataFrame) -> Drawing:
    """Median time of one forward."""
    return _growth(records, "ms", "time of one forward, ms", "Time of one forward")


def memory_over_length(records: pd.DataFrame) -> Drawing:
    """Memory of the forward alone."""
    return _growth(records, "own_mib", "memory of the forward, MiB", "Memory of the forward alone")


def _growth(records: pd.DataFrame, column: str, label: str, words: str) -> Drawing:
    """A panel for each machine and implementation."""
    rows = systems.alone(systems.rows(records))
    panels: dict[tuple[str, str], Lines] = {}
    for keys, line in systems.lines(systems.rows_of(rows, dtype=DTYPE), column):
        if keys["by"] in (systems.OURS, systems.PUBLIC):
            panel = panels.setdefault((keys["machine"], keys["by"]), {})
            panel[keys["arch"], keys["role"]] = line
    figure = Figure()
    if not panels:
        legend(figure.subplots())
        return Drawing(figure, f"{words}: not run.")
    figure.set_size_inches(9, 5.4 * -(-len(panels) // 2))
    grid = figure.subplots(-(-len(panels) // 2), 2, squeeze=False, sharey=True).flat
    several = len({machine for machine, _ in panels}) > 1
    told = []
    for axes, ((machine, by), lines) in zip(grid, panels.items(), strict=False):
        title = f"{by}, {machine}" if several else by
        axes.set_title(title, fontsize="medium")
        told.append(f"{title}: {_panel(axes, lines)}")
        axes.set_ylabel(label)
    for axes in list(grid)[len(panels) :]:
        axes.remove()
    return Drawing(
        figure, f"{words} in {DTYPE}, with the exponent of the length. " + " ".join(told)
    )


def _panel(axes: mpl.axes.Axes, lines: Lines) -> str:
    """Draw the lines of one implementation; return them in words."""
    words = []
    for arch in ARCHS:
        slopes = []
        for role, style in (("teacher", "-"), ("student", "--")):
            line = lines.get((arch, role))
            if line is None:
                continue
            slopes.append(f"{scaling.slope(line):.2f}")
            axes.plot(
                line.index, line, style, marker=MARKERS[arch], color=COLOURS[arch], markersize=5,
                fillstyle="none" if role == "student" else "full",
                label=None if len(slopes) > 1 else arch,
            )  # fmt: skip
        if not slopes:
            continue
        axes.lines[-len(slopes)].set_label(f"{arch} {', '.join(slopes)}")
        words.append(f"{arch} {' and '.join(slopes)}{_crossed(axes, lines, arch)}")
    lengths = sorted({length for line in lines.values() for length in line.index})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [f"{int(length)}" for length in lengths], rotation=45)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator())
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("input length, tokens")
    axes.legend(
        loc="upper center", bbox_to_anchor=(0.5, -0.24), ncol=2, fontsize="small",
        title="exponent of the length: teacher, student", title_fontsize="small",
    )  # fmt: skip
    return "; ".join(words) + "."


def _crossed(axes: mpl.axes.Axes, lines: Lines, arch: str) -> str:
    """Mark where the teacher needs less than full attention's from then on; say it."""
    line, full = lines.get((arch, "teacher")), lines.get(("full", "teacher"))
    if arch == "full" or line is None or full is None:
        return ""
    ratios = (line / full).dropna()
    length = scaling.crossing(ratios)
    if length and math.isfinite(length):
        height = np.exp(np.interp(np.log(length), np.log(line.index.to_numpy(float)), np.log(line)))
        axes.plot(
            length, height, marker="*", markersize=13, color=COLOURS[arch], linestyle="",
            markeredgecolor="black", markeredgewidth=0.8, zorder=4,
        )  # fmt: skip
    return f", below full from {scaling.crossing_words(ratios, 'no length')} tokens"
