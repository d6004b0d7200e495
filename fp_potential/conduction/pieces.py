"""Structures made of a structure: chains of copies, and its fragments far apart."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import numpy as np
from ase import Atoms

from ..periodicity import completed_cell
from .fragments import Fragments


class Pieces(NamedTuple):
    """Atoms in several pieces along a line."""

    atoms: Atoms
    piece: np.ndarray  #: (n,) piece of each atom, from 0
    direction: np.ndarray  #: (3,) unit vector of the line


def open_directions(atoms: Atoms) -> np.ndarray:
    """Unit vectors ``(m, 3)`` perpendicular to the periodic vectors and to one another."""
    pbc = np.asarray(atoms.pbc)
    return completed_cell(atoms.cell.array, pbc)[~pbc]


def chain(atoms: Atoms, copies: int, gap: float) -> Pieces:
    """Copies of an open structure side by side along the Cartesian axis of its smallest extent, ``gap`` Å between."""
    axis = int(np.ptp(atoms.positions, axis=0).argmin())
    return _in_line([atoms.positions] * copies, [atoms.numbers] * copies, np.eye(3)[axis], gap)


def apart(atoms: Atoms, fragments: Fragments, kinds: list[str], gap: float) -> Pieces:
    """Two fragments of each of ``kinds`` (formulas), first one of all and then again, with ``gap`` Å between them.

    They are in line along an open direction, periodic along the axes along which the structure is if that has one;
    else they are finite pieces. Pieces are the first of each kind; the line is a Cartesian axis in open structures.
    """
    pbc = np.asarray(atoms.pbc)
    directions = open_directions(atoms)
    finite = len(directions) == 0
    direction = np.eye(3)[2] if finite or not pbc.any() else directions[0]
    members = [fragments.of_atom == fragments.formulas.index(kind) for kind in kinds]
    bodies = [fragments.whole[member] for member in members] * 2
    if finite or not pbc.any():
        bodies = [body - body.mean(axis=0) for body in bodies]
    pieces = _in_line(bodies, [atoms.numbers[member] for member in members] * 2, direction, gap)
    if not finite and pbc.any():
        pieces.atoms.set_cell(np.where(pbc[:, None], atoms.cell.array, 0.0))
        pieces.atoms.pbc = pbc
    return pieces


def largest_kinds(fragments: Fragments, number: int) -> list[str]:
    """Formulas of at most ``number`` kinds of fragments, those with most atoms in all."""
    fragment_atoms = np.bincount(fragments.of_atom, minlength=fragments.number)
    atoms: Counter[str] = Counter()
    for formula, size in zip(fragments.formulas, fragment_atoms, strict=True):
        atoms[formula] += int(size)
    return [formula for formula, _ in atoms.most_common(number)]


def _in_line(bodies: list[np.ndarray], numbers: list[np.ndarray], direction: np.ndarray, gap: float) -> Pieces:
    placed, end = [], 0.0
    for body in bodies:
        along = body @ direction
        placed.append(body + (end - along.min()) * direction)
        end += float(np.ptp(along)) + gap
    piece = np.repeat(np.arange(len(bodies)), [len(body) for body in bodies])
    return Pieces(Atoms(np.concatenate(numbers), np.concatenate(placed)), piece, direction)
