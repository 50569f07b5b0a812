"""Time and memory of the profile's own models over input length."""

import itertools

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from ctd_lib import ARCHS
from ctd_lib.report import tidy
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing, legend


def latency(records: pd.DataFrame) -> Drawing:
    """Time over length, both axes logarithmic."""
    timings = tidy.timings(records).dropna(subset="ms")
    figure = _over_length(timings, "ms", "time of one forward, ms")
    return Drawing(figure, "Median time of one forward: " + _ends(timings, "ms", "ms"))


def memory(records: pd.DataFrame) -> Drawing:
    """Peak memory over length, both axes logarithmic."""
    timings = tidy.timings(records).dropna(subset="mib")
    figure = _over_length(timings, "mib", "peak memory, MiB")
    return Drawing(figure, "Peak memory: " + _ends(timings, "mib", "MiB"))


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
    if timings.empty:  # a logarithmic axis needs a number
        return figure
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
    legend(axes)
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
