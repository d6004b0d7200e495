"""How far a calculation is from what its model was trained on.

The archive holds the ranges of its training set, ``training.ranges`` of the metadata (all optional):

    charge_per_atom  [least, largest] Q/N, e
    fermi_level      [least, largest] label, eV
    field            largest |E|, V/Å
    distances        {"H-O": shortest, ...}, Å; symbols of a pair in alphabetical order
    density          {"O": [largest |q|, largest |d|], ...}, e and e Å, of the reference multipoles

Values a little outside are no news; "far" leaves a margin, `WIDER` times the range and at least `FLOORS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols

#: how much of its width, or of its largest value, a range is wider than what was in the training
WIDER = 0.5
#: at least by this: e per atom, eV, V/Å, e and e Å
FLOORS = {"charge_per_atom": 0.02, "fermi_level": 1.0, "field": 0.05, "density": 0.1}
#: distances are short below this times the shortest of the training
NEARER = 0.85

Ranges = Mapping[str, Any]


def ranges_of(metadata: Mapping[str, Any]) -> Ranges:
    """Ranges of an archive's training; empty for archives that do not know them."""
    return (metadata.get("training") or {}).get("ranges") or {}


def far_inputs(
    ranges: Ranges, charge: float | None, level: float | None, field: np.ndarray, atoms: int
) -> dict[str, str]:
    """Kind -> sentence on what is far outside: charge, Fermi level and field that a structure of ``atoms`` is given.

    Args:
        ranges: of the training.
        charge: e, where it is held or known.
        level: eV, likewise.
        field: ``(3,)`` V/Å.
        atoms: their number.
    """
    found = {}
    if charge is not None:
        name = "total charge per atom"
        found["charge_per_atom"] = _outside(ranges, "charge_per_atom", charge / max(atoms, 1), name, "e")
    if level is not None and np.isfinite(level):
        found["fermi_level"] = _outside(ranges, "fermi_level", level, "Fermi level", "eV")
    strength, largest = float(np.linalg.norm(field)), ranges.get("field")
    if largest is not None and strength > (1.0 + WIDER) * largest + FLOORS["field"]:
        found["field"] = f"the electric field is {strength:.3g} V/Å, in the training it was at most {largest:.3g} V/Å"
    return {kind: sentence for kind, sentence in found.items() if sentence}


def far_distances(ranges: Ranges, shortest: Mapping[str, float]) -> dict[str, str]:
    """The same for the shortest distances of pairs of elements (`distances.shortest_by_elements`), Å."""
    known: Mapping[str, float] = ranges.get("distances") or {}
    shares = {pair: length / known[pair] for pair, length in shortest.items() if pair in known}
    pair = min(shares, key=lambda name: shares[name], default="")
    if not pair or shares[pair] >= NEARER:
        return {}
    sentence = f"the shortest distance {pair} is {shortest[pair]:.2f} Å, in the training it was {known[pair]:.2f} Å"
    return {"distances": sentence}


def far_density(ranges: Ranges, numbers: np.ndarray, density: np.ndarray) -> dict[str, str]:
    """The same for charges and dipoles ``(n, 4)`` of a solution."""
    known: Mapping[str, list[float]] = ranges.get("density") or {}
    norms = np.stack([np.abs(density[:, 0]), np.linalg.norm(density[:, 1:], axis=1)], axis=1)
    for number in np.unique(numbers):
        symbol = chemical_symbols[number]
        if symbol not in known:
            continue
        own = norms[numbers == number].max(axis=0)
        for value, largest, name, unit in zip(own, known[symbol], ("charge", "dipole"), ("e", "e Å"), strict=True):
            if value > (1.0 + WIDER) * largest + FLOORS["density"]:
                return {
                    "density": f"the largest {name} of {symbol} is {value:.3g} {unit}, in the training it was "
                    f"{largest:.3g} {unit}"
                }
    return {}


def _outside(ranges: Ranges, kind: str, value: float, name: str, unit: str) -> str:
    if kind not in ranges:
        return ""
    least, largest = ranges[kind]
    margin = max(WIDER * (largest - least), FLOORS[kind])
    if least - margin <= value <= largest + margin:
        return ""
    return f"the {name} is {value:.4g} {unit}, in the training it was {least:.4g} to {largest:.4g} {unit}"
