"""Writers of the files of a published bundle, of the newer generation: what `files` reads, to the last digit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..config.systems import CellOptions
from ..data import Array, BandSystem, Coupling, EffectiveMasses, Transition


def _text(rows: Iterable[Sequence[Any]], heading: str = "") -> str:
    lines = [" ".join(repr(float(v)) if isinstance(v, float) else str(v) for v in row) for row in rows]
    return "\n".join([*([f"# {heading}"] if heading else []), *lines]) + "\n"


def write_cell(path: Path, cell: CellOptions) -> None:
    """``system_X.par``."""
    parts = [f"scale = {cell.scale!r}\n", "cell", _text(cell.vectors), "atoms", _text(cell.atoms)]
    path.write_text("\n".join(parts), encoding="utf-8")


def write_settings(path: Path, values: Mapping[str, Any]) -> None:
    """``KEY = VALUE`` lines; truth as 0 and 1, lists with spaces."""
    path.write_text("".join(f"{key} = {_value(value)}\n" for key, value in values.items()), encoding="utf-8")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (list, tuple)):
        return " ".join(map(_value, value))
    return repr(value) if isinstance(value, float) else str(value)


def write_points(path: Path, points: Array, weights: Array) -> None:
    """``kpoints_X.par`` and ``qpoints_X.par``, with weights."""
    path.write_text(_text(np.column_stack([points, weights]).tolist()), encoding="utf-8")


def write_bands(path: Path, lengths: Array, energies: Array) -> None:
    """``expBandStruct_X.par``: length along the path and energies in eV; nan where one is missing."""
    path.write_text(_text(np.column_stack([lengths, energies]).tolist()), encoding="utf-8")


def write_band_weights(path: Path, weights: Array) -> None:
    """``bandWeights_X.par``: (nb,) in a column, or (nk, nb)."""
    path.write_text(_text(weights.reshape(len(weights), -1).tolist()), encoding="utf-8")


def write_order(path: Path, order: NDArray[np.int64]) -> None:
    """``kpoints_X_orderMatrix.par``."""
    path.write_text(_text(order.tolist()), encoding="utf-8")


def write_deformation(path: Path, transitions: Sequence[Transition]) -> None:
    """``expDefPot_X.par``: five columns for single states, seven for transitions.

    Raises:
        InputError: both kinds, which one published table cannot hold.
    """
    single = [row.k_from is None for row in transitions]
    if any(single) and not all(single):
        raise InputError(
            f"{path}: {sum(single)} single states and {len(single) - sum(single)} transitions; a published table holds "
            "one kind: convert them in two systems"
        )
    heading = "k b ratio target/eV weight" if all(single) else "k_VB b_VB k_CB b_CB ratio target/eV weight"
    rows = [
        (
            *(() if row.k_from is None else (row.k_from, row.b_from)),
            row.k_to,
            row.b_to,
            row.ratio,
            row.target,
            row.weight,
        )
        for row in transitions
    ]
    path.write_text(_text(rows, heading), encoding="utf-8")


def write_masses(path: Path, masses: EffectiveMasses) -> None:
    """``expEffMasses_X.par``."""
    path.write_text(_text([[masses.electron], [masses.hole], [masses.weight]]), encoding="utf-8")


def write_couplings(path: Path, couplings: Sequence[Coupling], species: Sequence[str], n_q: int) -> None:
    """``expCoupling_X.par``, with ``Not-fit`` where there is none."""
    found: dict[tuple[int, str, int, int], float] = {(c.atom, c.edge, c.axis, c.q): c.target for c in couplings}
    lines = []
    for atom, name in enumerate(species):
        lines.append(f"Atom idx = {atom}   atom = {name}   position = XXX")
        for edge, label in (("valence", "vb-vb"), ("conduction", "cb-cb")):
            for axis in range(3):
                start = f"{label} coupling elements. " if axis == 0 else ""
                lines.append(f"{start}polarization of derivative = {'xyz'[axis]}")
                values = [found.get((atom, edge, axis, q)) for q in range(n_q)]
                lines.append(" ".join("Not-fit" if value is None else repr(value) for value in values))
            lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_vector(path: Path, values: Sequence[float]) -> None:
    """``init_<atom>Params.par`` and ``<atom>ParamSteps.par``: nine numbers, one in each line."""
    path.write_text(_text([[float(value)] for value in values]), encoding="utf-8")


def write_potential_table(path: Path, q: Array, v: Array) -> None:
    """``init_qSpace_pot.par``: q in 1/Bohr and v(q) of each species in Ha Bohr³."""
    path.write_text(_text(np.column_stack([q, v]).tolist()), encoding="utf-8")


def write_beta_schedule(path: Path, schedule: Sequence[tuple[int, float]]) -> None:
    """``mc_beta_schedule``."""
    path.write_text(_text([(int(move), float(beta)) for move, beta in schedule]), encoding="utf-8")


def write_system(folder: Path, number: int, system: BandSystem, cell: CellOptions, settings: Mapping[str, Any]) -> None:
    """All files of one system.

    Args:
        settings: keys of ``input_X.par`` besides nBands and maxKE.
    """
    write_cell(folder / f"system_{number}.par", cell)
    write_settings(
        folder / f"input_{number}.par", {"nBands": system.n_bands, "maxKE": float(system.max_ke)} | dict(settings)
    )
    write_points(folder / f"kpoints_{number}.par", system.kpoints, system.k_weights)
    if system.reference is not None:
        write_bands(folder / f"expBandStruct_{number}.par", system.path, system.reference)
    weights = system.band_weights
    same = (weights == weights[:1]).all()
    write_band_weights(folder / f"bandWeights_{number}.par", weights[0] if same else weights)
    if system.band_order is not None:
        write_order(folder / f"kpoints_{number}_orderMatrix.par", system.band_order)
    if system.transitions:
        write_deformation(folder / f"expDefPot_{number}.par", system.transitions)
    if len(system.qpoints) > 0:
        write_points(folder / f"qpoints_{number}.par", system.qpoints, system.q_weights)
    if system.couplings:
        path = folder / f"expCoupling_{number}.par"
        write_couplings(path, system.couplings, system.species, len(system.qpoints))
    if system.masses is not None:
        write_masses(folder / f"expEffMasses_{number}.par", system.masses)
