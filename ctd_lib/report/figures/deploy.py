"""Which model to take: score against time, with memory as the size of the point."""

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from ctd_lib import ARCHS
from ctd_lib.report import candidates, tidy
from ctd_lib.report.figures.style import COLOURS, MARKERS, Drawing, legend
from ctd_lib.report.tables import cells

AREA = 300
"""Square points of the marker of the model that needs most memory."""
SHADE = "#777777"


def pareto(records: pd.DataFrame) -> Drawing:
    """A panel for short and one for long documents; a line along the models to choose from."""
    found = candidates.candidates(records)
    long = found.length > tidy.LONG_CONTEXT
    panels = [part[part.length == tidy.headline_length(part)] if is_long
              else part[part.length == part.length.max()]
              for is_long, part in ((False, found[~long]), (True, found[long]))
              if len(part)]  # fmt: skip
    figure = Figure()
    if not panels:
        legend(figure.subplots())
        return Drawing(figure, "Score against time and memory: not run.")
    figure.set_size_inches(4.2 * len(panels) + 1.2, 4.2)
    most = max(part.mib.max() for part in panels)
    told = []
    for axes, part in zip(figure.subplots(1, len(panels), squeeze=False).flat, panels, strict=True):
        told.append(_panel(axes, part, most))
    _legend(figure, pd.concat(panels), most)
    return Drawing(figure, "Score, time and memory of the models to choose from. " + " ".join(told))


def _panel(axes: mpl.axes.Axes, part: pd.DataFrame, most: float) -> str:
    """Draw the models at one length; return those that none beats in score and time, in words."""
    best = candidates.front(part, ("ms",)).sort_values("ms")
    # Up to the time of the next one, the one before is the best to be had.
    axes.step(best.ms, best.score, where="post", color=SHADE, linewidth=1.2, zorder=1)
    for row in part.itertuples():
        student = row.role == "student"
        axes.scatter(
            row.ms, row.score, s=_area(row.mib, most), marker=MARKERS[row.arch], zorder=3,
            facecolors="none" if student else COLOURS[row.arch],
            edgecolors=COLOURS[row.arch], linewidths=1.5,
        )  # fmt: skip
        if row.dtype != "float32":
            axes.annotate(
                row.dtype, (row.ms, row.score), xytext=(0, 10), textcoords="offset points",
                fontsize="xx-small", ha="center",
            )  # fmt: skip
    length = int(part.length.iloc[0])
    tasks = "long" if length > tidy.LONG_CONTEXT else "short"
    title = cells.marked(f"{tasks} tasks", part.synthetic)
    axes.set_title(f"{title}, {length:,} tokens", fontsize="medium")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.18)
    axes.set_xlabel("time of one document, ms")
    axes.set_ylabel("mean score")
    words = "; ".join(
        f"{row.arch} {row.role} {row.score:.3f} in {row.ms:,.0f} ms with {row.mib:,.0f} MiB"
        for row in best.itertuples()
    )
    return f"{tasks.capitalize()} tasks at {length:,} tokens, none better in less time: {words}."


def _area(mib: float, most: float) -> float:
    """Square points of a marker; of a model whose memory was not measured those of a small one."""
    return AREA * (0.1 if pd.isna(mib) or pd.isna(most) else max(mib / most, 0.05))


def _legend(figure: Figure, found: pd.DataFrame, most: float) -> None:
    """Archs, roles, and what the size of a point stands for."""

    def handle(label: str, area: float = 49, **look) -> Line2D:
        look = {"marker": "o", "color": SHADE, "linestyle": ""} | look
        return Line2D([], [], label=label, markersize=area**0.5, **look)

    handles = [
        handle(arch, marker=MARKERS[arch], color=COLOURS[arch])
        for arch in ARCHS
        if (found.arch == arch).any()
    ]
    handles += [handle("teacher"), handle("student", fillstyle="none")]
    handles += [handle("best for its time", linestyle="-", marker="", linewidth=1.2)]
    sizes = sorted({round(mib, -1) for mib in (found.mib.min(), most) if pd.notna(mib)})
    handles += [handle(f"{size:,.0f} MiB", _area(size, most), fillstyle="none") for size in sizes]
    figure.legend(handles=handles, loc="outside right center", labelspacing=0.9)
