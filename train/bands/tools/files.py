"""Bands and potentials as files, and the pictures of such files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from ...errors import InputError
from ..bundle.write import write_bands, write_points
from ..data import Array
from ..evaluation import Results
from ..pictures import PALETTE, REFERENCE, bands_figure, save, sheet
from .paths import jumps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Kind = Literal["bands", "reciprocal", "real", "cost"]
#: what a table is by its name; the first that fits
KINDS: tuple[tuple[str, Kind], ...] = (
    (r"qSpace_pot\.(dat|par)$", "reciprocal"),
    (r"_pot\.dat$", "real"),
    (r"training_cost", "cost"),
    (r"(?i)band", "bands"),
)
AXES = {
    "reciprocal": ("q [1/Bohr]", "v(q) [Ha Bohr³]"),
    "real": ("r [Bohr]", "v(r) [Ha]"),
    "cost": ("epoch", "cost [eV²]"),
    "bands": ("", "E [eV]"),
}
#: largest abscissa of pictures of potentials, unless another is asked for
LARGEST = {"reciprocal": 8.0, "real": 12.0}


def write_results(results: Results, folder: str | Path) -> list[Path]:
    """``<system>_bands.dat`` (length along the path and energies, eV), ``<system>_kpoints.par``, ``bands.pdf``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for result in results.systems:
        data = result.system.data
        written += [folder / f"{data.name}_bands.dat", folder / f"{data.name}_kpoints.par"]
        write_bands(written[-2], data.path, result.energies.numpy())
        write_points(written[-1], data.kpoints, data.k_weights)
    written.append(folder / "bands.pdf")
    save(bands_figure(results), written[-1])
    return written


@dataclass(frozen=True)
class Table:
    """A file of numbers: the first column and the others."""

    path: Path
    kind: Kind
    x: Array
    columns: Array


def read_table(path: Path, kind: Kind | None = None) -> Table:
    """Bands (``expBandStruct_X.par``, ``*_bands.dat``), potentials (``*_pot.dat``, ``*_qSpace_pot.*``) or costs.

    Raises:
        InputError: no such file, not a table, or a name that does not say what it is.
    """
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a table of bands, potentials or costs")
    found = kind or next((kind for pattern, kind in KINDS if re.search(pattern, path.name)), None)
    if found is None:
        raise InputError(f"{path}: its name does not say what it holds; give --kind bands, reciprocal, real or cost")
    try:
        numbers = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: {error}; expected a table of numbers, a row for each point") from error
    if numbers.shape[1] < 2:
        raise InputError(f"{path}: {numbers.shape[1]} columns; expected an abscissa and one or more others")
    return Table(path, found, numbers[:, 0].copy(), numbers[:, 1:].copy())


def tables_figure(
    tables: Sequence[Table], window: tuple[float, float] | None = None, largest: float | None = None
) -> Figure:
    """A picture of tables of one kind: each file in a colour, bands as points for the first of ``expBandStruct``.

    Raises:
        InputError: tables of several kinds.
    """
    kinds = {table.kind for table in tables}
    if len(kinds) > 1:
        raise InputError(f"one picture shows one kind of table, these are {', '.join(sorted(kinds))}")
    kind = tables[0].kind
    figure, (axes,) = sheet(5.2, 3.6)
    if kind == "reciprocal":
        axes.axhline(0.0, color=REFERENCE, lw=0.6)
    for number, table in enumerate(tables):
        reference = table.path.name.startswith("expBandStruct")
        colour = REFERENCE if reference else PALETTE[number % len(PALETTE)]
        style = {"marker": "o", "ms": 2.2, "ls": "", "mew": 0} if reference else {"lw": 1.0}
        for place, column in enumerate(table.columns.T):
            label = table.path.stem if place == 0 else None
            x = _along(table) if kind == "bands" else table.x
            axes.plot(x, column, color=colour, label=label, alpha=1.0 if kind == "bands" else 0.95, **style)
    xlabel, ylabel = AXES[kind]
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if kind == "bands":
        axes.set_xticks([])
    elif kind == "cost":
        axes.set_yscale("log")
    if kind in LARGEST:
        axes.set_xlim(0.0, LARGEST[kind] if largest is None else largest)
    if window is not None:
        axes.set_ylim(*window)
    axes.legend(fontsize=7)
    return figure


def _along(table: Table) -> Array:
    """Place of each row on the path, from 0 to 1: sums of the steps' sizes without jumps; or the number of the row."""
    steps = np.abs(np.diff(table.x))
    steps[jumps(steps)] = 0.0
    if not steps.any():
        steps[:] = 1.0
    x = np.concatenate([[0.0], np.cumsum(steps)])
    return x / max(float(x[-1]), 1e-12)
