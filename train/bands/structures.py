"""Crystals from files and to files, published or ASE's, and their primitive cells."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError
from .bundle import files, write
from .config import CellOptions
from .data import Geometry

#: Bohr in Å (CODATA 2018)
BOHR = 0.529177210903
#: atoms that are nearer to each other are at the same place, Bohr
SAME_PLACE = 0.01


def read_structure(path: Path) -> CellOptions:
    """The crystal of a published ``system_X.par``, or of a file that ASE reads, its vectors in Bohr.

    Raises:
        InputError: no such file, not one that ASE reads, or no cell.
    """
    if path.suffix == ".par":
        return files.read_cell(path)
    import ase.io

    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a structure that ASE reads, or a published system_X.par")
    try:
        atoms: Any = ase.io.read(path)
    except Exception as error:  # each of ASE's readers has its own
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: ASE cannot read it ({reason}); expected a structure") from error
    if not atoms.pbc.all() or abs(atoms.cell.volume) < files.FLAT:
        raise InputError(f"{path}: no cell with three periodic directions; expected a crystal")
    return cell_from_ase(atoms)


def cell_from_ase(atoms: Any) -> CellOptions:
    """The crystal of ASE's ``Atoms``."""
    positions = atoms.get_scaled_positions(wrap=False)
    return CellOptions(
        scale=1.0,
        vectors=(atoms.cell.array / BOHR).tolist(),
        atoms=[(symbol, *map(float, row)) for symbol, row in zip(atoms.symbols, positions, strict=True)],
    )


def write_structure(path: Path, cell: CellOptions) -> None:
    """Write a crystal as ``system_X.par``, or in the format that ASE takes from the name.

    Raises:
        InputError: ASE has no format of that name.
    """
    if path.suffix == ".par":
        write.write_cell(path, cell)
        return
    import ase.io
    from ase import Atoms

    geometry = geometry_of(cell)
    symbols = list(geometry.species)
    atoms = Atoms(symbols, scaled_positions=geometry.positions, cell=geometry.cell * BOHR, pbc=True)
    try:
        ase.io.write(path, atoms)
    except ase.io.formats.UnknownFileTypeError as error:
        raise InputError(
            f"{path}: ASE has no format of this name; expected system_X.par, or .cif, .vasp, .xyz …"
        ) from error


def geometry_of(cell: CellOptions) -> Geometry:
    """Arrays of a crystal.

    Raises:
        InputError: two atoms at one place.
    """
    vectors = cell.scale * np.array(cell.vectors, dtype=float)
    positions = np.array([atom[1:] for atom in cell.atoms], dtype=float)
    apart = positions[:, None] - positions[None]
    distances = np.linalg.norm((apart - np.round(apart)) @ vectors, axis=2)
    for first, second in np.argwhere(np.triu(distances < SAME_PLACE, 1)):
        raise InputError(
            f"atoms {first} ({cell.atoms[first][0]}) and {second} ({cell.atoms[second][0]}) of the cell are at one "
            "place, or at places that differ by a vector of the lattice; expected each atom once"
        )
    return Geometry(cell=vectors, species=tuple(atom[0] for atom in cell.atoms), positions=positions)


def primitive(cell: CellOptions, tolerance: float = 1e-5) -> tuple[CellOptions, str]:
    """The primitive cell in the orientation of ``cell``, and the space group.

    Args:
        tolerance: of the positions, Å.

    Raises:
        InputError: spglib is not installed, or finds no symmetry within the tolerance.
    """
    try:
        import spglib
    except ImportError as error:
        raise InputError("primitive cells need spglib: pip install 'fp-potential[bands]'") from error
    geometry = geometry_of(cell)
    kinds = sorted(set(geometry.species))
    numbers = [kinds.index(name) + 1 for name in geometry.species]
    given = ((geometry.cell * BOHR).tolist(), geometry.positions.tolist(), numbers)
    with warnings.catch_warnings():  # that errors will be exceptions one day
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            found = spglib.standardize_cell(given, to_primitive=True, no_idealize=True, symprec=tolerance)
            group = spglib.get_spacegroup(given, symprec=tolerance)
        except spglib.SpglibError:
            found = group = None
    if found is None or group is None:
        raise InputError(f"no symmetry of the crystal within {tolerance:g} Å; give a larger tolerance")
    vectors, positions, types = np.array(found[0]), found[1], found[2]
    atoms = [(kinds[kind - 1], *map(float, row)) for kind, row in zip(types, positions, strict=True)]
    small = CellOptions(scale=1.0, vectors=(vectors / BOHR).tolist(), atoms=atoms)
    return small, str(group)
