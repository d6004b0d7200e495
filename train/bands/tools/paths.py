"""k-points of other tables: paths by letters, files, refined tables, meshes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.dft.kpoints import monkhorst_pack
from numpy.typing import NDArray

from ...errors import InputError
from ..bundle.files import read_kpoints
from ..data import Array, BandSystem, Geometry
from ..structures import BOHR
from ..systems import path_lengths
from .source import without_reference

#: word for the path that ASE takes for the lattice
AUTO = "auto"
#: steps of a path longer than so many times the median are jumps
JUMP = 3.0


def along_letters(geometry: Geometry, letters: str, points: int) -> Array:
    """k-points ``(points, 3)`` along special points such as ``GXWKGL`` (``,`` for a jump), by ASE's ``bandpath``.

    ``auto`` is the path of the lattice. The points are fractions of the reciprocal vectors of this cell.

    Raises:
        InputError: a letter that the lattice does not have; names those that there are.
    """
    cell = ase.Atoms(cell=geometry.cell * BOHR, pbc=True).cell
    known = cell.bandpath(npoints=0).special_points
    try:
        path = cell.bandpath(None if letters == AUTO else letters, npoints=points)
    except (ValueError, KeyError) as error:
        raise InputError(
            f"path '{letters}': {str(error) or type(error).__name__}; special points of this lattice: "
            f"{', '.join(sorted(known))}, as in {cell.bandpath(npoints=0).path}"
        ) from error
    return np.array(path.kpts)


def with_points(system: BandSystem, kpoints: Array, weights: Array | None = None) -> BandSystem:
    """The crystal of ``system`` at other k-points, without a reference."""
    plain = without_reference(system)
    return replace(
        plain,
        kpoints=kpoints,
        k_weights=np.ones(len(kpoints)) if weights is None else weights,
        path=path_lengths(kpoints, system.geometry),
        band_weights=np.zeros((len(kpoints), system.n_bands)),
    )


def jumps(steps: Array) -> NDArray[np.bool_]:
    """Which ``steps`` of a path are jumps to another part of it: longer than three times the median."""
    found: NDArray[np.bool_] = steps > JUMP * np.median(steps) if len(steps) else np.zeros(0, dtype=bool)
    return found


def refined(system: BandSystem, between: int) -> BandSystem:
    """The same path with ``between`` k-points more between neighbours; they have no reference, the old ones keep it.

    Nothing is put into a jump from one part of the path to another.
    """
    if between < 0:
        raise InputError(f"{between} k-points between neighbours: expected zero or more")
    whole = np.diff(path_lengths(system.kpoints, system.geometry))
    inserted = np.where(jumps(whole), 0, between)
    old = np.concatenate([[0], np.cumsum(inserted + 1)])
    kpoints = np.stack([np.interp(np.arange(old[-1] + 1), old, column) for column in system.kpoints.T], 1)

    def spread(values: Any, filling: Any) -> Any:
        result = filling.astype(values.dtype)
        result[old] = values
        return result

    number = (len(kpoints), system.n_bands)
    order = system.band_order
    return replace(
        system,
        kpoints=kpoints,
        k_weights=spread(system.k_weights, np.zeros(len(kpoints))),
        path=path_lengths(kpoints, system.geometry),
        reference=None if system.reference is None else spread(system.reference, np.zeros(number)),
        band_weights=spread(system.band_weights, np.zeros(number)),
        band_order=None if order is None else spread(order, np.tile(np.arange(system.n_bands), (len(kpoints), 1))),
        gap_kpoint=None if system.gap_kpoint is None else int(old[system.gap_kpoint]),
        transitions=tuple(
            replace(row, k_to=int(old[row.k_to]), k_from=None if row.k_from is None else int(old[row.k_from]))
            for row in system.transitions
        ),
    )


def mesh(sizes: Sequence[int]) -> Array:
    """The Γ-centred mesh ``(n1 n2 n3, 3)`` of k-points.

    Raises:
        InputError: not three positive numbers.
    """
    if len(sizes) != 3 or min(sizes) < 1:
        raise InputError(f"mesh {' '.join(map(str, sizes))}: expected three numbers of at least 1")
    shift = np.array([(n + 1) % 2 / (2 * n) for n in sizes])
    return np.array(monkhorst_pack(sizes)) + shift


def chosen_points(
    system: BandSystem, letters: str | None, points: int, file: str | None, between: int | None
) -> BandSystem:
    """The system at the k-points that were asked for: a path, a file, its own ones refined, or its own."""
    if letters is not None:
        return with_points(system, along_letters(system.geometry, letters, points))
    if file is not None:
        return with_points(system, *read_kpoints(Path(file)))
    return system if between is None else refined(system, between)
