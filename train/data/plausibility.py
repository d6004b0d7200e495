"""Values that no calculation gives: of the wrong size, tensors without their symmetry, energies that differ too much.

Nothing is changed: each is a warning that names the frame, and the atom if it is of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from .doubts import Doubts
from .frame import Frame

#: label -> (largest magnitude that is taken without a word, its unit); of forces and dipoles the norm of the vector
LARGEST: dict[str, tuple[float, str]] = {
    "forces": (100.0, "eV/Å"),
    "stress": (10.0, "eV/Å³"),
    "charges": (10.0, "e"),
    "atomic dipoles": (10.0, "e·Å"),
    "fermi_level": (50.0, "eV"),
}
#: V/Å: beyond it atoms are ionised
LARGEST_FIELD = 5.0
#: share of the largest component by which t_ab and t_ba may differ
ASYMMETRY = 1e-3
#: eV/atom by which energies of one composition and charge may differ: more than any cohesive energy
ENERGY_SPREAD = 10.0
#: compositions that are looked at; further ones do not count, so that memory does not grow with the set
COMPOSITIONS = 4096


@dataclass
class _Range:
    low: float
    lowest: str
    high: float
    highest: str


class Plausibility:
    """Looks at frames one by one and tells ``doubts`` what it finds."""

    def __init__(self, doubts: Doubts) -> None:
        self.doubts = doubts
        self._energies: dict[tuple[str, float], _Range] = {}

    def add(self, frame: Frame) -> None:
        """Look at one frame."""
        for name, rows in _vectors(frame).items():
            self._magnitude(frame, name, rows)
        field = float(np.linalg.norm(frame.external_field))
        if field > LARGEST_FIELD:
            kind = f"are in a field of more than {LARGEST_FIELD:g} V/Å; check data.units"
            self.doubts.add(kind, frame.source, f"{field:.3g} V/Å", field)
        for name in ("stress", "polarizability"):
            tensor = frame.labels[name]
            if tensor is not None:
                self._symmetry(frame, name, np.asarray(tensor))
        if frame.labels["energy"] is not None and frame.weights["energy"] > 0:
            self._energy(frame, float(frame.labels["energy"]) / len(frame.atoms))

    def _magnitude(self, frame: Frame, name: str, rows: np.ndarray) -> None:
        limit, unit = LARGEST[name]
        sizes = np.linalg.norm(rows, axis=1)
        atom = int(sizes.argmax())
        if sizes[atom] > limit:
            kind = f"have {name} beyond {limit:g} {unit}; check data.units, or remove the frame"
            place = f"atom {atom}, " if name in ("forces", "charges", "atomic dipoles") else ""
            self.doubts.add(kind, frame.source, f"{place}{sizes[atom]:.3g} {unit}", float(sizes[atom]))

    def _symmetry(self, frame: Frame, name: str, tensor: np.ndarray) -> None:
        difference = np.abs(tensor - tensor.T)
        largest = float(np.abs(tensor).max())
        if largest > 0 and difference.max() > ASYMMETRY * largest:
            a, b = np.unravel_index(difference.argmax(), (3, 3))
            share = float(difference.max()) / largest
            kind = f"have a {name} of nine numbers that is not symmetric, which it is by nature; check the data"
            pair = f"{'xyz'[a]}{'xyz'[b]} {tensor[a, b]:.4g}, {'xyz'[b]}{'xyz'[a]} {tensor[b, a]:.4g}"
            self.doubts.add(kind, frame.source, pair, share)

    def _energy(self, frame: Frame, energy: float) -> None:
        key = (_composition(frame.atoms), round(frame.total_charge, 3))
        known = self._energies.get(key)
        if known is None:
            if len(self._energies) < COMPOSITIONS:
                self._energies[key] = _Range(energy, frame.source, energy, frame.source)
            return
        if energy < known.low:
            known.low, known.lowest = energy, frame.source
        if energy > known.high:
            known.high, known.highest = energy, frame.source

    def warnings(self) -> list[str]:
        """The doubts, and compositions whose energies differ too much: the worst one."""
        lines = self.doubts.warnings()
        wide = {key: known for key, known in self._energies.items() if known.high - known.low > ENERGY_SPREAD}
        if not wide:
            return lines
        (formula, charge), worst = max(wide.items(), key=lambda item: item[1].high - item[1].low)
        of = f"{formula} with the total charge {charge:g}" if charge else formula
        return [
            *lines,
            f"WARNING: energies of one composition differ by more than {ENERGY_SPREAD:g} eV/atom, for {len(wide)} "
            f"compositions: of {of} {worst.low:.3f} eV/atom in {worst.lowest}, {worst.high:.3f} eV/atom in "
            f"{worst.highest}; are they of one method and unit?",
        ]


def _vectors(frame: Frame) -> dict[str, np.ndarray]:
    """Labels with a weight as rows of which the norm is looked at."""
    labels, weights = frame.labels, frame.weights
    found: dict[str, np.ndarray] = {}
    if labels["forces"] is not None and weights["forces"] > 0:
        found["forces"] = labels["forces"]
    if labels["stress"] is not None and weights["stress"] > 0:
        found["stress"] = labels["stress"].reshape(1, 9)
    if labels["atomic_multipoles"] is not None:
        found["charges"] = labels["atomic_multipoles"][:, :1]
        found["atomic dipoles"] = labels["atomic_multipoles"][:, 1:]
    if labels["fermi_level"] is not None:
        found["fermi_level"] = np.full((1, 1), labels["fermi_level"])
    return found


def _composition(atoms: Atoms) -> str:
    """The formula, in its smallest whole numbers; one atom alone is not what many of its kind are."""
    counts = atoms.symbols.formula.count()
    divisor = math.gcd(*counts.values()) if len(atoms) > 1 else 1
    text = "".join(f"{symbol}{number // divisor}" for symbol, number in sorted(counts.items()))
    return text if len(atoms) > 1 or atoms.pbc.any() else f"{text} (one atom)"
