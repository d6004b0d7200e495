"""Parity plots: predicted against reference values of every label, with the histogram of the errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from ..data.frame import Frame
from ..potential.metrics import PROPERTIES
from .results import SetResults, Values
from .style import INK, MAIN, QUIET, colours, embedded, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SIZE = (4.4, 4.2)
#: points drawn; the figures in the plot are those of all
MOST_POINTS = 30_000
#: the axes reach beyond the reference by its range, or by this many times the median error if that is more;
#: predictions still farther are counted, not drawn
MEDIANS = 3.0
#: more groups than this share one colour
MOST_GROUPS = 10
#: more names than this stand beside the plot
MOST_INSIDE = 6


def parity_plots(results: SetResults, atomic_energies: Mapping[int, float]) -> list[tuple[str, str]]:
    """(title, image) of each property with labels; energies are per atom and relative to the E0s."""
    figures = []
    for name in PROPERTIES:
        if name not in results.values:
            continue
        values = results.values[name]
        shift = _e0_per_atom(results.frames, atomic_energies)[values.structure] if name == "energy" else 0.0
        groups, of = _groups(values, results.frames)
        what, unit = _heading(name)
        title = f"{what} above the E0s" if name == "energy" else what
        figures.append((title, _plot(title, unit, values.reference - shift, values.predicted - shift, groups, of)))
    return figures


def _heading(name: str) -> tuple[str, str]:
    """What and unit, without the prefix milli of the tables."""
    what, _, unit = PROPERTIES[name].partition(" [")
    unit = unit.rstrip("]")
    return what, unit[1:] if unit.startswith("m") else unit


def _e0_per_atom(frames: Sequence[Frame], atomic_energies: Mapping[int, float]) -> np.ndarray:
    return np.array([np.mean([atomic_energies[int(number)] for number in frame.atoms.numbers]) for frame in frames])


def _groups(values: Values, frames: Sequence[Frame]) -> tuple[list[str], np.ndarray]:
    """Names by which points are coloured (elements of atoms, kinds of structures), and the place of each point."""
    if values.element.any():
        present = sorted(set(values.element.tolist()))
        return [chemical_symbols[number] for number in present], np.searchsorted(present, values.element)
    kinds = list(dict.fromkeys(frame.kind for frame in frames))
    place = np.array([kinds.index(frame.kind) for frame in frames])
    if len(kinds) > MOST_GROUPS:
        return ["all kinds"], np.zeros(len(values.structure), int)
    return kinds, place[values.structure]


def _plot(
    title: str, unit: str, reference: np.ndarray, predicted: np.ndarray, groups: list[str], of: np.ndarray
) -> str:
    good = np.isfinite(predicted)
    reference, predicted, of = reference[good], predicted[good], of[good]
    notes = [f"{np.sum(~good)} not finite"] if not good.all() else []
    with sheet(*SIZE) as (figure, axes):
        axes.set(title=title, xlabel=f"reference [{unit}]", ylabel=f"model [{unit}]")
        if len(reference):
            low, high = _limits(reference, predicted)
            inside = (predicted >= low) & (predicted <= high)
            if not inside.all():
                notes.append(f"{np.sum(~inside)} beyond the axes")
            axes.plot([low, high], [low, high], color=QUIET, linewidth=0.8, zorder=1)
            _points(axes, reference[inside], predicted[inside], groups, of[inside])
            axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
            axes.text(0.03, 0.97, _figures(reference, predicted, unit, notes), transform=axes.transAxes, va="top",
                      fontsize=8, linespacing=1.45)  # fmt: skip
            _histogram(axes, predicted - reference, unit)
        return embedded(figure)


def _limits(reference: np.ndarray, predicted: np.ndarray) -> tuple[float, float]:
    low, high = float(reference.min()), float(reference.max())
    room = max(high - low, MEDIANS * float(np.median(np.abs(predicted - reference))), 1e-6)
    low, high = max(low - room, min(low, predicted.min())), min(high + room, max(high, predicted.max()))
    margin = 0.05 * (high - low)
    return low - margin, high + margin


def _points(axes: Axes, reference: np.ndarray, predicted: np.ndarray, groups: list[str], of: np.ndarray) -> None:
    # in an order at random, so that no group hides another
    order = np.random.default_rng(0).permutation(len(reference))[:MOST_POINTS]
    palette = colours(groups)
    shade = np.array([palette[name] for name in groups])[of[order]]
    size = float(np.clip(6000 / max(len(order), 1), 2.5, 16))
    axes.scatter(
        reference[order], predicted[order], s=size, c=shade, alpha=0.6, linewidths=0, rasterized=True, zorder=2
    )
    if len(groups) > 1:
        handles = [
            axes.plot([], [], "o", color=palette[name], markersize=4.5, label=name)[0]
            for number, name in enumerate(groups)
            if (of == number).any()
        ]
        place = (1.0, 1.0) if len(handles) > MOST_INSIDE else (0.0, 0.74)
        axes.legend(handles=handles, loc="upper left", bbox_to_anchor=place, handletextpad=0.1, borderaxespad=0.3)


def _figures(reference: np.ndarray, predicted: np.ndarray, unit: str, notes: list[str]) -> str:
    error = predicted - reference
    spread = float(reference.std())
    lines = [
        f"RMSE {1e3 * np.sqrt(np.mean(error**2)):.4g} m{unit}",
        f"MAE  {1e3 * np.mean(np.abs(error)):.4g} m{unit}",
        f"spread {1e3 * spread:.4g} m{unit}",
        f"{len(error)} values",
        *notes,
    ]
    return "\n".join(lines)


def _histogram(axes: Axes, error: np.ndarray, unit: str) -> None:
    """Inset at the lower right, where the diagonal leaves room."""
    limit = 1e3 * float(np.percentile(np.abs(error), 98)) or 1e-9
    inset = axes.inset_axes((0.6, 0.09, 0.37, 0.24))
    inset.hist(np.clip(1e3 * error, -limit, limit), 31, range=(-limit, limit), color=MAIN, alpha=0.75)
    inset.axvline(0.0, color=INK, linewidth=0.6)
    inset.set(yticks=[], xlim=(-limit, limit))
    inset.set_xlabel(f"error [m{unit}]", fontsize=7, labelpad=1)
    inset.tick_params(labelsize=6.5, length=2, pad=1.5)
    inset.locator_params(axis="x", nbins=3)
    inset.grid(visible=False)
    inset.spines["left"].set_visible(False)
    inset.patch.set_alpha(0.85)
