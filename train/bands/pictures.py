"""Pictures of bands against their reference, and of potentials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...bands import Pseudopotential
from ...files import replaced
from .evaluation import Results, SystemResult
from .targets import edges

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REFERENCE, MODEL = "#66717e", "#c8553d"
PALETTE = ("#1f6f8b", "#c8553d", "#7a5ea8", "#3f8f5b", "#c9932b", "#5b7083", "#b0476f", "#4d79c7")
#: largest q of the pictures of potentials, 1/Bohr
LARGEST_Q = 8.0
STYLE: Any = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "svg.hashsalt": "fp_potential",
}


def sheet(width: float, height: float, columns: int = 1, rows: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure with its axes, row by row; inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False)
        return figure, list(axes.reshape(-1))


def draw_bands(axes: Axes, result: SystemResult, window: tuple[float, float] | None = None) -> None:
    """Bands of the model (lines) and of the reference (points) along the path; ``window`` of energies, eV."""
    data = result.system.data
    path = torch.from_numpy(data.path)
    steps = path.diff()
    # lengths that do not grow are no path: points in their order
    x = path.numpy() if bool((steps >= 0).all()) and bool((steps > 0).any()) else torch.arange(len(path)).numpy()
    for band in range(result.energies.shape[1]):
        if data.reference is not None:
            used = (result.system.weights[:, band] > 0).numpy()
            label = "reference" if band == 0 else None
            axes.plot(x[used], data.reference[used, band], "o", ms=2.2, color=REFERENCE, mew=0, label=label)
        axes.plot(x, result.energies[:, band].numpy(), lw=0.9, color=MODEL, label="model" if band == 0 else None)
    axes.set_xlim(float(x[0]), float(x[-1]) if len(x) > 1 else float(x[0]) + 1)
    axes.set_xticks([])
    axes.set_ylabel("E [eV]")
    if window is not None:
        axes.set_ylim(*window)


def bands_figure(results: Results, zoom: bool = False) -> Figure:
    """Bands of all systems, with errors and gaps in the titles."""
    number = len(results.systems)
    columns = min(4, number)
    rows = -(-number // columns)
    figure, axes = sheet(2.6 * columns + 0.4, 3.2 * rows, columns, rows)
    for place, result in zip(axes, results.systems, strict=False):
        draw_bands(place, result, window_of(result, zoom))
        title = result.system.data.name
        if result.system.fitted:
            title += f": rms {1000 * result.rms(result.system.fitted):.0f} meV"
        gaps = result.gaps()
        place.set_title(title + (f"\ngap {gaps[0]:.3f} ({gaps[1]:.3f}) eV" if gaps else ""))
    for place in axes[number:]:
        place.set_visible(False)
    axes[0].legend(loc="best", fontsize=7)
    return figure


def heat_figure(results: Sequence[SystemResult]) -> Figure:
    """Errors by k-point (across) and band (up) of systems with a reference, meV."""
    number = len(results)
    columns = min(4, number)
    rows = -(-number // columns)
    figure, axes = sheet(2.6 * columns + 0.9, 2.4 * rows, columns, rows)
    errors = [1000 * r.errors(r.system.data.relative_band).where(r.system.weights > 0, torch.nan) for r in results]
    largest = max(float(error.abs().nan_to_num().max()) for error in errors) or 1.0
    for place, result, error in zip(axes, results, errors, strict=False):
        image = place.imshow(
            error.T.numpy(), aspect="auto", origin="lower", cmap="RdBu_r", vmin=-largest, vmax=largest, rasterized=True
        )
        place.set(title=result.system.data.name, xlabel="k-point", ylabel="band")
    for place in axes[number:]:
        place.set_visible(False)
    figure.colorbar(image, ax=axes[:number], label="error [meV]")
    return figure


def window_of(result: SystemResult, zoom: bool = False) -> tuple[float, float] | None:
    """Energies that a picture shows, eV: around the middle of the gap or the system's own; None: all."""
    data = result.system.data
    half = data.plot_range_zoom if zoom else data.plot_range
    if half is None:
        return None
    middle = data.plot_center
    if middle is None:
        if data.reference is None:
            return None
        place, valence, conduction = edges(result.system)
        reference = result.system.reference
        middle = 0.5 * float(reference[place, valence] + reference[place, conduction])
    return middle - half, middle + half


def potentials_figure(
    curves: Sequence[tuple[str, Tensor, Tensor, str]], species: Sequence[str], shells: Tensor | None = None
) -> Figure:
    """v(q) of all species; each of ``curves`` is (label, q, v (m, n_species), line style).

    Args:
        curves: what is drawn.
        species: names of the columns.
        shells: q at which the plane waves of the systems need v, as marks on the axis.
    """
    figure, axes = sheet(5.2, 3.4)
    for label, q, values, style in curves:
        for column, name in enumerate(species):
            colour = PALETTE[column % len(PALETTE)]
            text = f"{name} {label}".strip()
            axes[0].plot(q.numpy(), values[:, column].numpy(), style, lw=1.1, color=colour, label=text)
    if shells is not None:
        inside = shells[shells <= LARGEST_Q]
        axes[0].plot(inside.numpy(), torch.zeros_like(inside).numpy(), "|", ms=5, color=REFERENCE, mew=0.5)
    axes[0].axhline(0.0, color=REFERENCE, lw=0.6)
    axes[0].set(xlabel="q [1/Bohr]", ylabel="v(q) [Ha Bohr³]", xlim=(0.0, LARGEST_Q))
    axes[0].legend(fontsize=7, ncols=max(1, len(curves)))
    return figure


def curve(potential: Pseudopotential, largest: float = LARGEST_Q, points: int = 400) -> tuple[Tensor, Tensor]:
    """q and v(q) of ``potential`` for a picture; the long-range term is cut off below q = 0.02."""
    q = torch.linspace(0.02 if potential.terms.long_range else 0.0, largest, points, dtype=torch.float64)
    with torch.no_grad():
        return q, potential.local(q)


def save(figure: Figure, path: Path) -> None:
    """Write a picture whole; its format is that of the ending."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    ending = path.suffix[1:]
    metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(ending, {})
    with replaced(path) as temporary, open(temporary, "wb") as file:
        figure.savefig(file, format=ending, dpi=150, metadata=metadata)
