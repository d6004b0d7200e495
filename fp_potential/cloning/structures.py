"""Structures of a cloning and their labels from the known model."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import fcc111, molecule
from ase.io import read, write

from ..graph import graph_from_atoms
from ..periodicity import field_origin
from ..reference import ChargeEquilibration, ReferenceModel, ReferenceOptions, SplitCharges, exact_solution
from .options import FERMI_LEVEL, SIGMA, CloningOptions

#: elements of the built-in structures, with their share
COMPOSITION = {"H": 0.35, "O": 0.25, "Na": 0.2, "Cl": 0.2}
#: sites per axis, distance between them and displacement of the atoms, Å
SITES, SPACING, DISPLACEMENT = (2, 2, 3), 3.0, 0.2
#: the same of waters
WATER_SITES, WATER_SPACING = (2, 2, 2), 3.2


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
        _in_field_or_cell(atoms, index, np.array(SITES)[:, None] * cell, rng)
        structures.append(atoms)
    return structures


def waters(number: int, seed: int) -> list[Atoms]:
    """Two to four waters near the sites of a grid, neutral; every other structure open and in a field."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*map(np.arange, WATER_SITES), indexing="ij"), -1).reshape(-1, 3)
    structures = []
    for index in range(number):
        cell = WATER_SPACING * (np.eye(3) + rng.normal(0, 0.03, (3, 3)))
        atoms = Atoms(info={"total_charge": 0.0})
        for site in grid[rng.permutation(len(grid))[: rng.integers(2, 5)]]:
            atoms += _water(rng, site @ cell)
        _in_field_or_cell(atoms, index, np.array(WATER_SITES)[:, None] * cell, rng)
        structures.append(atoms)
    return structures


def _in_field_or_cell(atoms: Atoms, index: int, cell: np.ndarray, rng: np.random.Generator) -> None:
    """Open and in a random field where the index is odd, else periodic."""
    if index % 2:
        atoms.info["external_field"] = rng.normal(0, 0.1, 3)
    else:
        atoms.set_cell(cell)
        atoms.pbc = True


def wet_copper(number: int, seed: int) -> list[Atoms]:
    """Two waters on two layers of copper, with a charge of 0 or ±0.5 e; every other structure open and in a field."""
    rng = np.random.default_rng(seed)
    structures = []
    for index in range(number):
        atoms = fcc111("Cu", (2, 2, 2), orthogonal=True, vacuum=4.0, periodic=True)
        atoms.rattle(0.08, rng=rng)
        top = atoms.positions[:, 2].max()
        for place in (np.array([0.7, 0.8]), np.array([2.6, 3.2])):
            at = [*(place + rng.normal(0, 0.25, 2)), top + rng.uniform(2.0, 3.2)]
            atoms += _water(rng, np.array(at), upward=True)
        atoms.info = {"total_charge": float(rng.choice([-0.5, 0.0, 0.5]))}
        if index % 2:
            atoms.pbc, atoms.cell = False, None
            atoms.info["external_field"] = rng.normal(0, 0.1, 3)
        structures.append(atoms)
    return structures


def _water(rng: np.random.Generator, place: np.ndarray, upward: bool = False) -> Atoms:
    """A water at ``place``, turned at random or with its hydrogens upward, and its atoms moved a little."""
    water = molecule("H2O")
    water.positions -= water.positions[0]
    if upward:
        water.rotate(180, "x")
        water.rotate(rng.normal(0, 20), "y")
    else:
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
    water.rotate(rng.uniform(0, 360), "z")
    water.positions += place + np.clip(rng.normal(0, 0.04, (3, 3)), -0.1, 0.1)
    return water


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


def labelled(model: ReferenceModel, atoms: Atoms) -> Atoms:
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
    atoms.info["REF_energy"] = exact.energy.item()
    if has_levels(model):
        atoms.info[FERMI_LEVEL] = exact.fermi_level.item()
    atoms.arrays["REF_forces"] = exact.forces.numpy()
    atoms.arrays["REF_atomic_multipoles"] = exact.density.numpy()
    return atoms


def has_levels(model: ReferenceModel) -> bool:
    """Whether charges of any element answer to a Fermi level: whether one has an atomic softness 1/η."""
    return bool((model.stiffness[:, 0] > 0).any())


def known_model(teacher: str, symbols: Sequence[str]) -> ReferenceModel:
    """The known model called ``teacher`` of some elements, without repulsion."""
    known = ReferenceOptions.built_in(
        *symbols,
        polarizable=teacher != "charges",
        metallic=["Cu"] if teacher == "mixture" and "Cu" in symbols else [],
        atomic_multipoles_smearing_width=SIGMA,
        repulsion_energy=0.0,
    )
    if teacher in ("charges", "both"):
        return ChargeEquilibration(known.without_self_interaction())
    return SplitCharges(known)


def write_structures(options: CloningOptions, path: Path) -> ReferenceModel:
    """Label the structures, write them with their set, and return the known model."""
    number = options.train_frames + options.test_frames
    own = {"split_charges": waters, "mixture": wet_copper}.get(options.teacher, random_structures)
    structures = read_structures(options.structures, number) if options.structures else own(number, 0)
    model = known_model(options.teacher, sorted({symbol for atoms in structures for symbol in atoms.symbols}))
    for index, atoms in enumerate(structures):
        labelled(model, atoms).info["split"] = "train" if index < options.train_frames else "test"
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, structures, format="extxyz")
    return model
