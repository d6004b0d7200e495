"""Structures of a cloning and their labels from the known model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.io import read, write

from ..graph import graph_from_atoms
from ..periodicity import field_origin
from ..reference import ChargeEquilibration, ReferenceOptions, exact_solution
from .options import FERMI_LEVEL, SIGMA, CloningOptions

#: elements of the built-in structures, with their share
COMPOSITION = {"H": 0.35, "O": 0.25, "Na": 0.2, "Cl": 0.2}
#: sites per axis, distance between them and displacement of the atoms, Å
SITES, SPACING, DISPLACEMENT = (2, 2, 3), 3.0, 0.2


def random_structures(number: int, seed: int) -> list[Atoms]:
    """Atoms of `COMPOSITION` near the sites of a sheared grid, neutral; every other one open and in a field.

    They are no molecules or crystals: what is cloned are constants of the elements, and every structure has others
    at other distances.
    """
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, SITES), indexing="ij"), -1).reshape(-1, 3)
    structures = []
    for index in range(number):
        cell = SPACING * (np.eye(3) + rng.normal(0, 0.06, (3, 3)))
        kept = grid[np.sort(rng.permutation(len(grid))[: rng.integers(len(grid) - 3, len(grid) + 1)])]
        positions = kept @ cell + np.clip(rng.normal(0, DISPLACEMENT, kept.shape), -0.45, 0.45)
        symbols = rng.choice(list(COMPOSITION), size=len(kept), p=list(COMPOSITION.values()))
        atoms = Atoms(symbols, positions=positions, info={"total_charge": 0.0})
        if index % 2:
            atoms.info["external_field"] = rng.normal(0, 0.1, 3)
        else:
            atoms.set_cell(np.array(SITES)[:, None] * cell)
            atoms.pbc = True
        structures.append(atoms)
    return structures


def read_structures(files: Sequence[str], number: int) -> list[Atoms]:
    """The first ``number`` structures of ``files``, dealt in a fixed random order, without their labels.

    Raises:
        ValueError: there are not so many.
    """
    found: list[Atoms] = []
    for name in files:
        content = read(name, ":")
        found += content if isinstance(content, list) else [content]
    if len(found) < number:
        raise ValueError(f"{', '.join(files)}: {len(found)} structures, {number} are needed; use fewer frames")
    structures = []
    for index in np.random.default_rng(0).permutation(len(found))[:number]:
        atoms = found[index]
        plain = Atoms(atoms.symbols, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        plain.info["total_charge"] = float(atoms.info.get("total_charge", 0.0))
        if "external_field" in atoms.info:
            plain.info["external_field"] = np.asarray(atoms.info["external_field"], dtype=float)
        structures.append(plain)
    return structures


def labelled(model: ChargeEquilibration, atoms: Atoms) -> Atoms:
    """``atoms`` with the exact solution of ``model`` as labels."""
    charge, field = atoms.info["total_charge"], atoms.info.get("external_field", np.zeros(3))
    graph = graph_from_atoms(
        atoms,
        model.elements,
        model.cutoff,
        torch.float64,
        total_charge=charge,
        external_field=field,
        field_origin=field_origin(atoms.cell.array, atoms.pbc),
    )
    exact = exact_solution(model, graph)
    atoms.info |= {"REF_energy": exact.energy.item(), FERMI_LEVEL: exact.fermi_level.item()}
    atoms.arrays["REF_forces"] = exact.forces.numpy()
    atoms.arrays["REF_atomic_multipoles"] = exact.density.numpy()
    return atoms


def write_structures(options: CloningOptions, path: Path) -> ChargeEquilibration:
    """Label the structures, write them with their set, and return the known model."""
    number = options.train_frames + options.test_frames
    given = bool(options.structures)
    structures = read_structures(options.structures, number) if given else random_structures(number, 0)
    symbols = sorted({symbol for atoms in structures for symbol in atoms.symbols})
    known = ReferenceOptions.built_in(
        *symbols,
        polarizable=options.teacher == "both",
        atomic_multipoles_smearing_width=SIGMA,
        repulsion_energy=0.0,
    )
    model = ChargeEquilibration(known.without_self_interaction())
    for index, atoms in enumerate(structures):
        labelled(model, atoms).info["split"] = "train" if index < options.train_frames else "test"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, structures, format="extxyz")
    return model
