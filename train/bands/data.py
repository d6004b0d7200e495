"""What a pseudopotential is fitted to: crystals with reference bands, deformation potentials and couplings.

Energies are in eV, fractional k-points in units of the reciprocal lattice vectors, cutoffs in Hartree, cells in Bohr.
All indices count from 0. Without spin-orbit coupling each band is listed twice, so that ``n_bands`` counts spin.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """A crystal as files describe it: cell (3, 3), its rows in Bohr; species; positions (n, 3), fractional."""

    cell: Array
    species: tuple[str, ...]
    positions: Array


@dataclass(frozen=True)
class Transition:
    """A deformation potential that is fitted: of a single state, or of the difference of two.

    With a lattice scaled by ``ratio`` = s, D = (E - E_s)/2 (1 + s³)/(1 - s³) ≈ dE/dln V of the state ``to``, minus that
    of the state ``from`` if there is one (``k_from`` is not None). ``target`` in eV.
    """

    k_from: int | None
    b_from: int | None
    k_to: int
    b_to: int
    ratio: float
    target: float
    weight: float


@dataclass(frozen=True)
class Coupling:
    """An electron-phonon matrix element that is fitted, eV/Bohr: of the derivative by the position of an atom.

    ``edge``: of the valence or the conduction band; ``axis``: 0, 1, 2 for x, y, z; ``q``: index of the q-point.
    """

    atom: int
    axis: int
    q: int
    edge: Literal["valence", "conduction"]
    target: float


@dataclass(frozen=True)
class EffectiveMasses:
    """Effective masses that are fitted, in electron masses: of electrons and of holes."""

    electron: float
    hole: float
    weight: float


@dataclass(frozen=True)
class BandSystem:
    """A crystal, its k-points and what its bands should be.

    Attributes:
        reference: (nk, nb) in eV; None: not fitted, its bands are only evaluated.
        band_weights: (nk, nb); 0 where the reference has no value.
        path: (nk,) cumulative length along the k-path, for plots; as given.
        relative_band: band whose energy is subtracted at each k from both sides, or None.
        plot_center, plot_range, plot_range_zoom: middle of pictures (None: of the gap) and half their heights, eV.
        band_order: (nk, nb) numbers of the computed bands that belong to the columns of the reference, or None.
    """

    name: str
    geometry: Geometry
    max_ke: float
    n_bands: int
    kpoints: Array
    k_weights: Array
    path: Array
    reference: Array | None
    band_weights: Array
    relative_band: int | None = None
    valence_band: int | None = None
    conduction_band: int | None = None
    gap_kpoint: int | None = None
    transitions: tuple[Transition, ...] = ()
    qpoints: Array = field(default_factory=lambda: np.zeros((0, 3)))
    q_weights: Array = field(default_factory=lambda: np.zeros(0))
    couplings: tuple[Coupling, ...] = ()
    masses: EffectiveMasses | None = None
    band_order: NDArray[np.int64] | None = None
    plot_center: float | None = None
    plot_range: float | None = None
    plot_range_zoom: float = 5.0

    @property
    def species(self) -> tuple[str, ...]:
        """Species of the atoms, in their order."""
        return self.geometry.species


def species_of(systems: Sequence[BandSystem]) -> tuple[str, ...]:
    """All species, sorted: the order of the outputs of a published network and of its tables."""
    return tuple(sorted({name for system in systems for name in system.species}))


def fingerprint(systems: Sequence[BandSystem]) -> str:
    """A checksum of all numbers, so that a resumed run notices other data."""
    digest = hashlib.sha256()
    for system in systems:
        digest.update(repr((system.name, system.species, system.max_ke, system.n_bands)).encode())
        digest.update(repr((system.relative_band, system.valence_band, system.conduction_band)).encode())
        digest.update(repr((system.gap_kpoint, system.transitions, system.couplings, system.masses)).encode())
        for array in (
            system.geometry.cell,
            system.geometry.positions,
            system.kpoints,
            system.k_weights,
            system.reference,
            system.band_weights,
            system.qpoints,
            system.q_weights,
            system.band_order,
        ):
            digest.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
