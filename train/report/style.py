"""Look of the figures, and how they get into the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, LINE, BAND = "#1d2733", "#66717e", "#d9dee4", "#f0f3f6"
MAIN, ACCENT = "#1f6f8b", "#c8553d"
#: of elements, kinds and runs, in their order
PALETTE = (MAIN, ACCENT, "#7a5ea8", "#3f8f5b", "#c9932b", "#5b7083", "#b0476f", "#4d79c7", "#8a6d3b", "#2f9c95")

STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 200,  # of what is rasterised
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 1.3,
    "svg.hashsalt": "fp_potential",  # the same data give the same file
}


@contextmanager
def sheet(width: float, height: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure in the report's style with one pair of axes; inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        yield figure, figure.add_subplot()


def embedded(figure: Figure) -> str:
    """The figure as a data URI (SVG). To be called while its `sheet` is open."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()


def colours(names: list[str]) -> dict[str, str]:
    """A colour for each name; they repeat after the tenth."""
    return {name: PALETTE[number % len(PALETTE)] for number, name in enumerate(names)}
