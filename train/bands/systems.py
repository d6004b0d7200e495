"""From section ``systems`` of a training file to arrays: files are read, numbers checked against each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .bundle import files
from .config import CellOptions, SystemOptions
from .config.systems import Rows
from .data import Array, BandSystem, EffectiveMasses, Geometry, Transition
from .structures import geometry_of, read_structure


def load_systems(options: Sequence[SystemOptions]) -> tuple[BandSystem, ...]:
    """The systems of a training file, with names that differ.

    Raises:
        InputError: a file that is missing or wrong (with line and column), or numbers that do not fit together.
    """
    found = [load_system(system, f"systems.{number}") for number, system in enumerate(options)]
    names = [system.name for system in found]
    unique = [name if names.count(name) == 1 else f"{name}_{number}" for number, name in enumerate(names)]
    return tuple(replace(system, name=name) for system, name in zip(found, unique, strict=True))


def load_system(options: SystemOptions, where: str = "system") -> BandSystem:
    """One system (see `load_systems`); ``where`` is what messages call its options."""
    geometry = _geometry(options, where)
    kpoints, k_weights = _points(options.kpoints, f"{where}.kpoints", "k-points")
    shape = (len(kpoints), options.n_bands)
    path, reference = _reference(options, shape, where, kpoints, geometry)
    weights = _weights(options, shape, where)
    if reference is not None:
        if np.isinf(reference).any():
            raise InputError(f"{where}.bands: an energy is infinite; expected a number, or nan where none is known")
        missing = ~np.isfinite(reference) | ((reference == 0) & options.zeros_not_fitted)
        known = reference
        reference, weights = np.where(missing, 0.0, reference), np.where(missing, 0.0, weights)
        _relative_to_known(options, ~np.isfinite(known), weights, where)
    edges = _edges(options, reference, weights)
    if options.gap_kpoint is not None and options.gap_kpoint >= shape[0]:
        raise InputError(f"{where}.gap_kpoint {options.gap_kpoint} is beyond the {shape[0]} k-points (from 0)")
    qpoints, q_weights = (
        (np.zeros((0, 3)), np.zeros(0))
        if options.qpoints is None
        else _points(options.qpoints, f"{where}.qpoints", "q-points")
    )
    return BandSystem(
        name=options.name or "".join(dict.fromkeys(geometry.species)),
        geometry=geometry,
        max_ke=options.max_ke,
        n_bands=options.n_bands,
        kpoints=kpoints,
        k_weights=k_weights,
        path=path,
        reference=reference,
        band_weights=weights,
        relative_band=options.relative_band,
        valence_band=options.valence_band,
        conduction_band=options.conduction_band,
        gap_kpoint=options.gap_kpoint,
        transitions=_transitions(options, shape, where, edges),
        qpoints=qpoints,
        q_weights=q_weights,
        couplings=()
        if options.couplings is None or not options.fit_couplings
        else files.read_couplings(Path(options.couplings), geometry.species, len(qpoints)),
        masses=_masses(options),
        band_order=_order(options, shape, where),
        plot_center=options.plot_center,
        plot_range=options.plot_range,
        plot_range_zoom=options.plot_range_zoom,
    )


def _geometry(options: SystemOptions, where: str) -> Geometry:
    cell = cell_of(options)
    try:
        return geometry_of(cell)
    except InputError as error:
        raise InputError(f"{options.structure or where}: {error}") from error


def cell_of(options: SystemOptions) -> CellOptions:
    """The crystal of a system, from its file if it has one."""
    if options.cell is not None:
        return options.cell
    assert options.structure is not None
    return read_structure(Path(options.structure))


def path_lengths(kpoints: Array, geometry: Geometry) -> Array:
    """(nk,) cumulative length along the k-points, 1/Bohr."""
    reciprocal = 2 * np.pi * np.linalg.inv(geometry.cell).T
    steps = np.linalg.norm(np.diff(kpoints @ reciprocal, axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _rows(values: Rows, where: str, widths: tuple[int, ...], what: str) -> Array:
    for number, row in enumerate(values):
        if len(row) not in widths or len(row) != len(values[0]):
            expected = " or ".join(map(str, widths))
            raise InputError(f"{where}.{number}: {len(row)} numbers, expected {expected}, as in all rows: {what}")
    if not values:
        raise InputError(f"{where}: no rows; expected {what}")
    return np.array(values, dtype=float)


def _points(values: str | Rows, where: str, what: str) -> tuple[Array, Array]:
    if isinstance(values, str):
        return files.read_kpoints(Path(values), what)
    table = _rows(values, where, (3, 4), f"{what} k1 k2 k3, or k1 k2 k3 weight")
    weights = table[:, 3].copy() if table.shape[1] == 4 else np.ones(len(table))
    if weights.min() < 0:
        raise InputError(f"{where}.{int(weights.argmin())}: weight {weights.min():g}, expected zero or more")
    return table[:, :3].copy(), weights


def _reference(
    options: SystemOptions, shape: tuple[int, int], where: str, kpoints: Array, geometry: Geometry
) -> tuple[Array, Array | None]:
    if options.bands is None:
        return path_lengths(kpoints, geometry), None
    if isinstance(options.bands, str):
        return files.read_bands(Path(options.bands), *shape)
    what = f"the length along the path and {shape[1]} energies (n_bands)"
    table = _rows(options.bands, f"{where}.bands", (shape[1] + 1,), what)
    if len(table) != shape[0]:
        raise InputError(f"{where}.bands: {len(table)} rows, expected {shape[0]}: one for each k-point")
    return table[:, 0].copy(), table[:, 1:].copy()


def _weights(options: SystemOptions, shape: tuple[int, int], where: str) -> Array:
    given = options.band_weights
    if isinstance(given, str):
        weights = files.read_band_weights(Path(given), *shape)
    else:
        weights = np.ones(shape[1]) if given is None else np.array(given, dtype=float)
    if weights.shape not in ((shape[1],), shape):
        raise InputError(
            f"{where}.band_weights: shape {weights.shape}, expected {shape[1]} weights (n_bands), or a row of them for "
            f"each of {shape[0]} k-points"
        )
    if weights.min() < 0:
        raise InputError(f"{where}.band_weights: a weight is {weights.min():g}; expected zero or more")
    return np.broadcast_to(weights, shape).copy()


def _relative_to_known(options: SystemOptions, missing: NDArray[np.bool_], weights: Array, where: str) -> None:
    """Energies relative to a band need that band wherever one of them is fitted."""
    band = options.relative_band
    if band is None:
        return
    lost = np.flatnonzero(missing[:, band] & np.any(weights > 0, axis=1))
    if len(lost) > 0:
        raise InputError(
            f"{where}.relative_band {band}: the reference has no energy of this band at k-point {lost[0]}, expected "
            "one at each k-point that is fitted; give another relative_band (relE_bIdx), or nan for all bands there"
        )


def _edges(options: SystemOptions, reference: Array | None, weights: Array) -> tuple[int, int, int] | None:
    """k-point and bands of the edges, where they are given or follow from the reference."""
    if options.valence_band is None or options.conduction_band is None:
        return None
    if options.gap_kpoint is not None:
        return options.gap_kpoint, options.valence_band, options.conduction_band
    if reference is None:
        return None
    fitted = (weights[:, options.valence_band] > 0) & (weights[:, options.conduction_band] > 0)
    if not fitted.any():
        return None
    gaps = reference[:, options.conduction_band] - reference[:, options.valence_band]
    return int(np.where(fitted, gaps, np.inf).argmin()), options.valence_band, options.conduction_band


def _transitions(
    options: SystemOptions, shape: tuple[int, int], where: str, edges: tuple[int, int, int] | None
) -> tuple[Transition, ...]:
    if options.deformation is None:
        return ()
    found = (
        files.read_deformation(Path(options.deformation), *shape, edges)
        if isinstance(options.deformation, str)
        else files.transitions_of(options.deformation, *shape, f"{where}.deformation")
    )
    return found if options.fit_deformation else tuple(replace(row, weight=0.0) for row in found)


def _masses(options: SystemOptions) -> EffectiveMasses | None:
    if options.masses is None:
        return None
    given = options.masses
    found = files.read_masses(Path(given)) if isinstance(given, str) else EffectiveMasses(*given)
    if found.weight < 0:
        raise InputError(
            f"{given if isinstance(given, str) else 'masses'}: weight {found.weight:g}, expected zero or more"
        )
    return found if options.fit_masses else replace(found, weight=0.0)


def _order(options: SystemOptions, shape: tuple[int, int], where: str) -> Any:
    if options.band_order is None:
        return None
    if isinstance(options.band_order, str):
        return files.read_order(Path(options.band_order), *shape)
    order = np.array(options.band_order, dtype=np.int64)
    if order.shape != shape or (np.sort(order, axis=1) != np.arange(shape[1])).any():
        raise InputError(f"{where}.band_order: expected {shape[0]} rows with 0 … {shape[1] - 1} in some order")
    return order
