"""Bands of a fitted potential on any path, also of a crystal it has not seen: k by k, in several processes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...bands import HARTREE, Crystal, Eigenstates, Hamiltonian, PlaneWaves, Pseudopotential, solve
from ...bands.basis import BasisKind
from ...files import write_whole
from ..errors import InputError
from ..trainer import distributed
from .bundle.files import read_kpoints
from .data import Array, BandSystem, Geometry
from .problem import BandsProblem
from .structures import read_structure
from .systems import geometry_of, path_lengths
from .trained import load_run


def load_problem(folder: Path, which: str = "latest") -> BandsProblem:
    """The problem of a run with the parameters of a checkpoint.

    Raises:
        InputError: no run there.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}': no such folder; expected that of a run (fixedpoint train)")
    return load_run(folder, which)[0]


def crystal_of(path: Path | None, system: BandSystem) -> Crystal:
    """The crystal in a file that ASE reads, or ``system_X.par``; none: that of a run's system."""
    own = system.geometry if path is None else geometry_of(read_structure(path))
    return Crystal(torch.from_numpy(own.cell), own.species, torch.from_numpy(own.positions))


def points_on_path(crystal: Crystal, path: str | None, number: int) -> tuple[Tensor, list[tuple[int, str]]]:
    """k-points (n, 3) of a path such as ``LGX,KG`` (ASE's special points; none: the usual one), and the named ones.

    Raises:
        InputError: a point that the lattice does not have.
    """
    try:
        band_path = crystal.to_ase().cell.bandpath(path, npoints=number)
    except (KeyError, ValueError) as error:
        special = ", ".join(crystal.to_ase().cell.bandpath().special_points)
        raise InputError(f"--path {path}: {error}; special points of this lattice: {special}") from error
    named = [
        (place, name)
        for place, k in enumerate(band_path.kpts)
        for name, at in band_path.special_points.items()
        if np.abs(k - at).max() < 1e-9
    ]
    return torch.from_numpy(np.array(band_path.kpts)), named


def points_of_file(path: Path) -> Tensor:
    """k-points of a file ``kpoints_X.par``."""
    return torch.from_numpy(read_kpoints(path)[0])


def full_bands(
    hamiltonian: Hamiltonian, potential: Pseudopotential, k: Tensor, n_bands: int, workers: int = 1
) -> Tensor:
    """Energies (n, n_bands) eV; each k-point begins with the states of the one before, and nothing else is kept.

    Raises:
        InputError: a species of the crystal that the potential does not have, or more bands than plane waves.
    """
    missing = [name for name in hamiltonian.crystal.kinds if name not in potential.species]
    if missing:
        raise InputError(
            f"the potential has the species {' '.join(potential.species)}, the crystal also {' '.join(missing)}"
        )

    def own() -> Tensor:
        last: Eigenstates | None = None
        found = []
        with torch.no_grad():
            for point in distributed.own(list(k)):
                try:
                    last = solve(hamiltonian, potential, point[None], n_bands, start=last)
                except ValueError as error:
                    raise InputError(str(error)) from error
                found.append(HARTREE * last.bands(potential))
        parts = distributed.gather(torch.cat(found) if found else torch.zeros(0, n_bands, dtype=torch.float64))
        return torch.cat(parts)

    return distributed.run_together(min(workers, len(k)), own)


def hamiltonian_of(crystal: Crystal, potential: Pseudopotential, max_ke: float, basis: BasisKind) -> Hamiltonian:
    """The Hamiltonian of a crystal in its plane waves."""
    return Hamiltonian(crystal, PlaneWaves(crystal, max_ke, basis), potential.terms)


def write_bands(path: Path, crystal: Crystal, k: Tensor, energies: Tensor) -> None:
    """A file ``expBandStruct_X.par``: length along the path, 1/Bohr, and energies, eV."""
    length = path_lengths(k.numpy(), geometry(crystal))
    rows = np.column_stack([length, energies.numpy()])
    write_whole(path, "\n".join(" ".join(f"{x:.8f}" for x in row) for row in rows) + "\n")


def read_band_file(path: Path) -> tuple[Array, Array]:
    """Lengths (nk,) and energies (nk, nb) of a file as `write_bands` writes.

    Raises:
        InputError: no such file, or not a table.
    """
    try:
        table = np.loadtxt(path, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}; expected rows of a length and energies") from error
    return table[:, 0], table[:, 1:]


def geometry(crystal: Crystal) -> Geometry:
    """The arrays of a crystal."""
    return Geometry(crystal.cell.numpy(), crystal.species, crystal.positions.numpy())


def gap_lines(energies: Tensor, k: Tensor, valence: int | None) -> Sequence[str]:
    """The gap above band ``valence``, where its edges are, and whether it is direct."""
    if valence is None or valence + 1 >= energies.shape[1]:
        return []
    top, bottom = int(energies[:, valence].argmax()), int(energies[:, valence + 1].argmin())
    gap = float(energies[bottom, valence + 1] - energies[top, valence])
    at = [" ".join(f"{x:g}" for x in k[place].tolist()) for place in (top, bottom)]
    kind = "direct" if top == bottom else "indirect"
    return [f"gap {gap:.4f} eV, {kind}: valence edge at k = {at[0]}, conduction edge at k = {at[1]}"]
