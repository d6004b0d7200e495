"""Bands as sums of the kinetic, local, non-local and spin-orbit expectation values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ....bands import HARTREE, Pseudopotential, solve
from ....bands.decomposition import decompose
from ....files import write_whole
from ...errors import InputError
from ..evaluation import SystemResult
from ..pictures import PALETTE, save, sheet
from ..targets import System
from .edges import Edges, edges_of

#: names of the terms, in the order of the last axis
TERMS = ("T", "V_loc", "V_nl", "V_so")


@dataclass(frozen=True)
class Decomposed:
    """Expectation values ``(nk, nb, 4)`` eV of `TERMS`; their sum is the band."""

    system: System
    terms: Tensor
    edges: Edges

    @property
    def energies(self) -> Tensor:
        """The bands ``(nk, nb)`` eV."""
        return self.terms.sum(2)


def decomposed(system: System, potential: Pseudopotential, valence: int | None = None) -> Decomposed:
    """The terms of every band at every k-point of ``system``, one k-point at a time."""
    rows = []
    with torch.no_grad():
        for k in system.k:
            states = solve(system.hamiltonian, potential, k[None], system.data.n_bands)
            parts = decompose(states, potential)
            rows.append(torch.cat([parts.kinetic, parts.local, parts.nonlocal_, parts.spin_orbit]).T)
    terms = HARTREE * torch.stack(rows)
    result = SystemResult(system, terms.sum(2), torch.zeros(0, dtype=torch.float64))
    return Decomposed(system, terms, edges_of(result, valence))


def terms_table(found: Decomposed, place: int) -> list[list[str]]:
    """Rows of the bands at k-point ``place``; the first is a heading.

    Raises:
        InputError: no such k-point.
    """
    if not 0 <= place < len(found.terms):
        raise InputError(f"k-point {place}: expected 0 … {len(found.terms) - 1}")
    k = " ".join(f"{x:.4g}" for x in found.system.k[place].tolist())
    rows = [[f"{found.system.data.name} at {k}", "E [eV]", *(f"{name} [eV]" for name in TERMS)]]
    for band, values in enumerate(found.terms[place].tolist()):
        label = {found.edges.valence: " (valence edge)", found.edges.conduction: " (conduction edge)"}.get(band, "")
        rows.append([f"band {band}{label}", f"{sum(values):.5f}", *(f"{value:.5f}" for value in values)])
    return rows


def write_terms(found: Decomposed, folder: str | Path) -> list[Path]:
    """``<system>_terms.dat``, a row for each k-point and band, and a picture of the terms along the path."""
    data = found.system.data
    table = Path(folder) / f"{data.name}_terms.dat"
    lines = ["# k-point, band, length along the path [1/Bohr], E, " + ", ".join(TERMS) + " [eV]"]
    for place, (length, bands) in enumerate(zip(data.path, found.terms.tolist(), strict=True)):
        for band, values in enumerate(bands):
            numbers = " ".join(f"{value:.8f}" for value in (length, sum(values), *values))
            lines.append(f"{place} {band} {numbers}")
    write_whole(table, "\n".join(lines) + "\n")
    picture = table.with_suffix(".pdf")
    save(terms_figure(found), picture)
    return [table, picture]


def terms_figure(found: Decomposed):  # type: ignore[no-untyped-def]
    """Each term along the path, of the bands at the gap: the three highest below it, and the lowest above it."""
    step = 2 if bool((found.energies[:, 0::2] == found.energies[:, 1::2]).all()) else 1
    below = range(found.edges.valence, max(-1, found.edges.valence - 3 * step), -step)
    chosen = [*reversed(below), found.edges.conduction]
    figure, axes = sheet(9.0, 2.6, columns=5)
    x = np.arange(len(found.terms)) if len(found.terms) == 1 else found.system.data.path
    for place, name in enumerate(("E", *TERMS)):
        values = found.energies if name == "E" else found.terms[:, :, place - 1]
        for number, band in enumerate(chosen):
            axes[place].plot(x, values[:, band].numpy(), lw=1.0, color=PALETTE[number], label=f"band {band}")
        axes[place].set(title=name, xticks=[])
    axes[0].set_ylabel("[eV]")
    axes[0].legend(fontsize=6)
    return figure
