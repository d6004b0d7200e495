"""Distances between atoms: which are too short for a structure that anybody wants to calculate."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols, covalent_radii

#: atoms nearer than this are in the same place, Å
SAME_PLACE = 0.01
#: atoms nearer than this times the sum of their covalent radii are no bond of any molecule (H2: 1.2, F2: 1.24)
TOO_CLOSE = 0.5


def pair_lengths(positions: np.ndarray, cell: np.ndarray, pairs: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Distances ``(m,)`` of the pairs of a neighbour list, |x_j + S h - x_i| with cells S and vectors h, Å.

    Args:
        positions: ``(n, 3)``.
        cell: ``(3, 3)``, rows are vectors.
        pairs, cells: ``(2, m)`` and ``(m, 3)``, of `graph.neighbour_list`.
    """
    return np.linalg.norm(positions[pairs[1]] + cells @ cell - positions[pairs[0]], axis=1)


def check_distinct(pairs: np.ndarray, lengths: np.ndarray) -> None:
    """Refuse atoms in the same place.

    Raises:
        ValueError: naming two.
    """
    if len(lengths) and lengths.min() < SAME_PLACE:
        one, other = sorted(pairs[:, lengths.argmin()].tolist())
        second = f"atom {other}" if other != one else "its own image"
        raise ValueError(
            f"atom {one} and {second} are in the same place ({lengths.min():.1e} Å apart); check the structure"
        )


def closest(numbers: np.ndarray, pairs: np.ndarray, lengths: np.ndarray) -> str:
    """A sentence on the two atoms that are closest, measured in bonds, if they are closer than any; else empty."""
    if not len(lengths):
        return ""
    bonds = covalent_radii[numbers[pairs[0]]] + covalent_radii[numbers[pairs[1]]]
    worst = int(np.argmin(lengths / bonds))
    if lengths[worst] >= TOO_CLOSE * bonds[worst]:
        return ""
    one, other = sorted(pairs[:, worst].tolist())
    names = [f"{index} ({chemical_symbols[numbers[index]]})" for index in (one, other)]
    return f"atoms {names[0]} and {names[1]} are {lengths[worst]:.2f} Å apart: the structure is wrong or unstable"


def shortest_by_elements(numbers: np.ndarray, pairs: np.ndarray, lengths: np.ndarray) -> Mapping[str, float]:
    """Smallest distance of each pair of elements that are neighbours, Å: ``{"H-O": 0.93}``, symbols in their order."""
    found: dict[str, float] = {}
    if not len(lengths):
        return found
    kinds, first = np.unique(np.sort(numbers[pairs], axis=0), axis=1, return_inverse=True)
    smallest = np.full(kinds.shape[1], np.inf)
    np.minimum.at(smallest, first.reshape(-1), lengths)
    for (one, other), length in zip(kinds.T, smallest, strict=True):
        found["-".join(sorted((chemical_symbols[one], chemical_symbols[other])))] = float(length)
    return found
