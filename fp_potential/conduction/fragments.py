"""Fragments of a structure: atoms that bonds connect, by covalent radii, or as the structure's own array says.

Alkali metals are ions beside other elements: no bond connects them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import covalent_radii

from ..graph import neighbour_list
from ..periodicity import cell_of_graph
from .settings import BOND_FACTOR

#: integer array of a structure that names the fragment of each atom, in place of its bonds
KEY = "fragment"
ALKALI = (3, 11, 19, 37, 55)


class Fragments(NamedTuple):
    """Which atoms belong together."""

    of_atom: np.ndarray  #: (n,) fragment of each atom, from 0
    whole: np.ndarray  #: (n, 3) positions with each fragment in one piece across periodic boundaries, Å
    formulas: list[str]  #: of each fragment, in Hill's order

    @property
    def number(self) -> int:
        """How many there are."""
        return len(self.formulas)

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sums of ``(n,)`` values of atoms over each fragment."""
        return np.bincount(self.of_atom, weights=values, minlength=self.number)


def fragments_of(atoms: Atoms, factor: float = BOND_FACTOR) -> Fragments:
    """Fragments by the array ``fragment`` of ``atoms``, else by bonds shorter than ``factor`` times the radii's sum.

    Parts of a fragment of the array that no bond connects stay where they are.

    Raises:
        ValueError: the array does not hold integers.
    """
    pairs, shifts = _bonds(atoms, factor)
    given = atoms.arrays.get(KEY)
    if given is not None:
        if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
            raise ValueError(f"the array '{KEY}' of the structure must hold an integer for each atom")
        inside = given[pairs[0]] == given[pairs[1]]
        pairs, shifts = pairs[:, inside], shifts[inside]
    index, cells = _connected(len(atoms), pairs, shifts)
    if given is not None:
        index = np.unique(given, return_inverse=True)[1]
    whole = atoms.positions + cells @ cell_of_graph(atoms.cell.array, atoms.pbc)
    formulas = [atoms.symbols[index == k].get_chemical_formula() for k in range(int(index.max()) + 1)]
    return Fragments(index, whole, formulas)


def _bonds(atoms: Atoms, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Bonded pairs ``(2, m)`` in both directions and the second atom's cell ``(m, 3)``."""
    radii = covalent_radii[atoms.numbers]
    cell, pbc = atoms.cell.array, np.asarray(atoms.pbc)
    pairs, shifts = neighbour_list(atoms.positions, cell, pbc, 2.0 * factor * float(radii.max()))
    i, j = pairs
    vectors = atoms.positions[j] + shifts @ cell_of_graph(cell, pbc) - atoms.positions[i]
    near = np.linalg.norm(vectors, axis=1) <= factor * (radii[i] + radii[j])
    ion = np.isin(atoms.numbers, ALKALI)
    near &= ~((ion[i] | ion[j]) & (atoms.numbers[i] != atoms.numbers[j]))
    return pairs[:, near], shifts[near]


def _connected(n: int, pairs: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Part of each atom ``(n,)``, in the order of their first atoms, and its cell beside that atom ``(n, 3)``.

    A fragment without an end along a periodic axis is cut open somewhere.
    """
    first = np.searchsorted(pairs[0], np.arange(n + 1))
    index, cells = np.full(n, -1), np.zeros((n, 3))
    number = 0
    for seed in range(n):
        if index[seed] >= 0:
            continue
        index[seed] = number
        stack = [seed]
        while stack:
            i = stack.pop()
            for edge in range(first[i], first[i + 1]):
                j = pairs[1, edge]
                if index[j] < 0:
                    index[j], cells[j] = number, cells[i] + shifts[edge]
                    stack.append(int(j))
        number += 1
    return index, cells
