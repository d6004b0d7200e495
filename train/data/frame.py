"""One frame: a structure with its labels and their weights, checked, in eV, Å, e, V.

Everything a user can get wrong in a frame is found here, once, and named with its file and number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from ase import Atoms

#: labels kept per frame: name -> (shape per frame or per atom, True if per atom)
LABELS: dict[str, tuple[tuple[int, ...], bool]] = {
    "energy": ((), False),
    "forces": ((3,), True),
    "stress": ((3, 3), False),
    "atomic_multipoles": ((4,), True),
    "dipole": ((3,), False),
    "fermi_level": ((), False),
    "electrostatic_potentials": ((), True),
    "polarizability": ((3, 3), False),
    "born_charges": ((3, 3), True),
    "molecules": ((), True),
    "fragments": ((), True),
}

#: numbers that name groups of atoms, no quantities
GROUPS = ("molecules", "fragments")

#: labels whose components may have weights of their own -> number of components; the others have one weight
COMPONENT_WEIGHTS = {"dipole": 3, "atomic_multipoles": 4}


@dataclass
class Frame:
    """One structure of a data file with its labels (``None`` where the file has none) and their weights.

    Labels have the shapes of ``LABELS``, those of atoms with one row per atom, in eV, Å, e and V.
    """

    atoms: Atoms  #: Å
    source: str  #: its file and number, for messages
    kind: str  #: names a row of the tables of errors
    total_charge: float  #: e
    external_field: np.ndarray  #: (3,) V/Å, gradient F of the potential (physical field E = -F)
    labels: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)  #: of labels, and of the ``structure``
    given: frozenset[str] = frozenset()  #: names in ``data.keys`` that the file has for this frame
    digest: tuple[int, int] = (0, 0)  #: hashes of the structure, and of structure, labels and weights


def is_isolated_atom(frame: Frame) -> bool:
    """Whether the energy of a frame is that of a free atom: one atom, neutral, without periodic axes and field.

    An atom that is alone in a periodic cell has its own images as neighbours: it is a crystal.
    """
    neutral = frame.total_charge == 0.0 and not frame.external_field.any()
    return len(frame.atoms) == 1 and not frame.atoms.pbc.any() and neutral


def digests_of(frame: Frame) -> tuple[int, int]:
    """Hashes of what makes a structure (positions to 1e-6 Å), and of all there is."""
    atoms = frame.atoms
    structure = (
        atoms.numbers,
        np.rint(atoms.positions * 1e6),
        np.rint(atoms.cell.array * 1e6),
        atoms.pbc,
        frame.total_charge,
        frame.external_field,
    )
    everything = [atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, frame.total_charge, frame.external_field]
    for name in sorted(frame.labels):
        if frame.labels[name] is not None:
            everything += [np.frombuffer(name.encode(), np.uint8), frame.labels[name], frame.weights[name]]
    return _hash(structure), _hash([*everything, frame.weights["structure"]])


def _hash(parts: Any) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        # adding zero makes -0 and 0 the same
        digest.update((np.ascontiguousarray(part, dtype=np.float64) + 0.0).tobytes())
    return int.from_bytes(digest.digest(), "little")
