"""Charge densities of bands of a system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ....bands import Pseudopotential, solve
from ....bands.density import charge_density
from ....bands.symmetry import reduce_points
from ...errors import InputError
from ..bundle.files import read_kpoints
from ..data import BandSystem
from ..targets import System
from .dense import evaluate
from .edges import edges_of
from .paths import mesh, with_points

#: mesh of k-points where none is given
MESH = (4, 4, 4)


@dataclass(frozen=True)
class Density:
    """Values ``(n1, n2, n3)`` in electrons per Bohr³ on a grid of the cell, of bands ``first`` to ``last``."""

    values: Tensor
    electrons: float
    first: int
    last: int


def points_of(
    systems: Sequence[BandSystem], k: Sequence[float] | None, sizes: Sequence[int] | None, file: str | None
) -> list[BandSystem]:
    """The crystals at one k-point, those of a file, or a mesh of which time reversal leaves about half."""
    if k is not None:
        points, weights = np.array([k], dtype=float), np.ones(1)
    elif file is not None:
        points, weights = read_kpoints(Path(file))
    else:
        reduced = reduce_points(torch.from_numpy(mesh(MESH if sizes is None else sizes)))
        points, weights = reduced.points.numpy(), np.bincount(reduced.index.numpy()).astype(float)
    return [with_points(system, points, weights) for system in systems]


def density_of(
    system: System,
    potential: Pseudopotential,
    bands: str | None = None,
    valence: int | None = None,
    grid: Sequence[int] | None = None,
) -> Density:
    """Σ_k w_k Σ_n |ψ_nk(r)|² of the bands ``FIRST:LAST``, or of all up to the valence edge; k-points one at a time.

    Raises:
        InputError: bands that are not two numbers in order, or that the system has not; a grid too small for the basis.
    """
    number = system.data.n_bands
    if bands is None:
        known = system.data.valence_band if valence is None else valence
        first, last = 0, edges_of(evaluate([system], potential).systems[0]).valence if known is None else known
        if not 0 <= last < number:
            raise InputError(f"valence band {last}: expected 0 … {number - 1}")
    else:
        first, last = _range(bands, number)
    occupations = torch.zeros(number, dtype=torch.float64)
    occupations[first : last + 1] = 1.0
    weights = torch.from_numpy(system.data.k_weights)
    if float(weights.sum()) <= 0:
        raise InputError(f"{system.data.name}: the weights of the k-points are all zero")
    shape = None if grid is None else (int(grid[0]), int(grid[1]), int(grid[2]))
    total: Tensor | None = None
    for k, weight in zip(system.k, weights / weights.sum(), strict=True):
        states = solve(system.hamiltonian, potential, k[None], number)
        try:
            part = weight * charge_density(states, occupations, shape=shape)
        except ValueError as error:
            raise InputError(str(error)) from error
        total = part if total is None else total + part
    assert total is not None
    return Density(total, float(total.mean()) * system.hamiltonian.crystal.volume, first, last)


def _range(text: str, number: int) -> tuple[int, int]:
    words = text.split(":")
    try:
        first, last = (int(word) for word in (words if len(words) == 2 else words * 2))
    except ValueError:
        raise InputError(f"bands '{text}': expected FIRST:LAST, two numbers, or one") from None
    if not 0 <= first <= last < number:
        raise InputError(f"bands '{text}': expected numbers from 0 to {number - 1}, the first not above the last")
    return first, last
