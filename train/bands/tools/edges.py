"""Band edges of a system: where they are, deformation potentials, effective masses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....bands import HARTREE, Pseudopotential, solve
from ....bands.derivatives import deformation_potentials, inverse_masses
from ...errors import InputError
from ..evaluation import SystemResult
from ..targets import edges, valence_band

#: directions (Cartesian) along which masses are printed
DIRECTIONS = {"x": (1.0, 0.0, 0.0), "y": (0.0, 1.0, 0.0), "z": (0.0, 0.0, 1.0), "xyz": (1.0, 1.0, 1.0)}
#: bands below the valence and above the conduction edge in the table
VALENCE, CONDUCTION = 3, 1
#: inverse masses (1/electron mass) below this are no masses
FLAT = 1e-4


@dataclass(frozen=True)
class Edges:
    """Bands and k-points of the edges: of the highest valence and the lowest conduction state over all k."""

    valence: int
    conduction: int
    valence_k: int
    conduction_k: int
    gap: float
    direct_gap: float


@dataclass(frozen=True)
class EdgeState:
    """A state at an edge: energy and dE/d ln Ω in eV, masses along `DIRECTIONS` in electron masses (None: flat)."""

    label: str
    k: tuple[float, ...]
    band: int
    energy: float
    deformation: float
    masses: tuple[float | None, ...]


def edges_of(result: SystemResult, valence: int | None = None) -> Edges:
    """The edges of the model's bands.

    The valence band is ``valence``, or that of the training file; without both, that of the valence electrons
    (`targets.valence_band`).

    Raises:
        InputError: ``valence`` has no band above it.
    """
    system = result.system
    number = system.data.n_bands
    if valence is not None and not 0 <= valence < number - 1:
        raise InputError(f"valence band {valence}: expected 0 … {number - 2}, with a conduction band above it")
    if valence is None and (system.data.reference is not None or system.data.valence_band is not None):
        valence = edges(system)[1]
    energies = result.energies
    at = valence_band(system.data.species, energies) if valence is None else valence
    top, bottom = energies[:, at], energies[:, at + 1]
    return Edges(
        at,
        at + 1,
        int(top.argmax()),
        int(bottom.argmin()),
        float(bottom.min() - top.max()),
        float((bottom - top).min()),
    )


def edge_states(result: SystemResult, potential: Pseudopotential, found: Edges) -> list[EdgeState]:
    """The highest valence states and the lowest conduction state, each at the k-point of its edge."""
    system = result.system
    step = 1 if potential.terms.spin_orbit else 2
    downwards = range(found.valence, max(-1, found.valence - step * VALENCE), -step)
    upwards = range(found.conduction, min(system.data.n_bands, found.conduction + step * CONDUCTION), step)
    rows = []
    for label, place, bands in (("VBM", found.valence_k, downwards), ("CBM", found.conduction_k, upwards)):
        k = system.k[place]
        states = solve(system.hamiltonian, potential, k[None], system.data.n_bands)
        energies = HARTREE * states.listed(states.energies)[0]
        slopes = HARTREE * deformation_potentials(states, potential)[0]
        along = [
            inverse_masses(states, potential, torch.tensor(direction, dtype=torch.float64))[0]
            for direction in DIRECTIONS.values()
        ]
        for number, band in enumerate(bands):
            sign = "-" if label == "VBM" else "+"
            rows.append(
                EdgeState(
                    label if number == 0 else f"{label} {sign} {number}",
                    tuple(k.tolist()),
                    band,
                    float(energies[band]),
                    float(slopes[band]),
                    tuple(_mass(inverse[band]) for inverse in along),
                )
            )
    return rows


def _mass(inverse: Tensor) -> float | None:
    value = float(inverse)
    return 1.0 / value if abs(value) > FLAT else None


def edges_table(name: str, found: Edges, states: Sequence[EdgeState]) -> list[list[str]]:
    """Rows of the states; the first is a heading."""
    heading = [name, "k", "band", "E [eV]", "dE/dlnV [eV]", *(f"m {direction}" for direction in DIRECTIONS)]
    rows = [heading]
    for state in states:
        k = " ".join(f"{x:.4g}" for x in state.k)
        masses = ("-" if mass is None else f"{mass:.4f}" for mass in state.masses)
        rows.append([state.label, k, str(state.band), f"{state.energy:.4f}", f"{state.deformation:.4f}", *masses])
    return rows


def gap_line(result: SystemResult, found: Edges) -> str:
    """The gap in words."""
    kind = "direct" if found.valence_k == found.conduction_k else "indirect"
    if found.gap <= 0:
        return f"{result.system.data.name}: no gap above band {found.valence} ({found.gap:.4f} eV)"
    smallest = "" if kind == "direct" else f"; smallest direct gap {found.direct_gap:.4f} eV"
    return f"{result.system.data.name}: gap {found.gap:.4f} eV, {kind}{smallest}"
