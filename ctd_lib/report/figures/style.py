"""How every figure of the report looks.

Colours are Okabe and Ito's, which the colour-blind tell apart; every arch also has its own marker,
and teacher and student differ by line style, so that a grey print reads as well. The ground is
white in the dark theme too.
"""

from collections.abc import Callable
from dataclasses import dataclass

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from ctd_lib import ARCHS
from ctd_lib.report import tables

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
    kind: str | None = None
    """Kind of record that it needs; where a profile has none, the study's records are shown."""

    @property
    def name(self) -> str:
        """Name of its files."""
        return self.draw.__name__


def legend(axes: mpl.axes.Axes) -> None:
    """Beside the axes, or a word that there is nothing to draw."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    else:
        axes.text(0.5, 0.5, tables.NOT_RUN, transform=axes.transAxes, ha="center")
