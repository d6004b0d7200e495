"""Tables of what the data hold: frames and atoms of each set, spread of the labels, reference charges by element."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from ase.data import chemical_symbols

from ..data.frame import GROUPS, LABELS, Frame

#: label -> its name and unit in the table
NAMES = {
    "energy": ("energy above the E0s", "eV/atom"),
    "forces": ("forces", "eV/Å"),
    "stress": ("stress", "eV/Å³"),
    "dipole": ("dipole", "e·Å"),
    "fermi_level": ("Fermi level", "eV"),
    "electrostatic_potentials": ("potentials at the nuclei", "V"),
    "polarizability": ("polarizability", "e·Å²/V"),
    "born_charges": ("Born charges", "e"),
}


def set_rows(sets: Mapping[str, Sequence[Frame]]) -> list[list[str]]:
    """One row per set: frames, atoms, sizes, kinds, composition, periodicity, charges, fields."""
    rows = [["set", "frames", "atoms", "atoms per frame", "periodic", "total charge [e]", "in a field", "atoms of"]]
    for name, frames in sets.items():
        if not frames:
            continue
        sizes = [len(frame.atoms) for frame in frames]
        elements = Counter(int(number) for frame in frames for number in frame.atoms.numbers)
        periodic = sum(bool(frame.atoms.pbc.any()) for frame in frames)
        in_field = sum(bool(np.any(frame.external_field)) for frame in frames)
        rows.append(
            [
                name,
                str(len(frames)),
                str(sum(sizes)),
                _range(sizes, "d"),
                str(periodic),
                _range([frame.total_charge for frame in frames], "+g"),
                str(in_field),
                ", ".join(f"{chemical_symbols[number]} {count}" for number, count in sorted(elements.items())),
            ]
        )
    return rows


def kind_rows(sets: Mapping[str, Sequence[Frame]]) -> list[list[str]]:
    """Frames of each kind in each set."""
    counts = {name: Counter(frame.kind for frame in frames) for name, frames in sets.items() if frames}
    kinds = list(dict.fromkeys(frame.kind for frames in sets.values() for frame in frames))
    return [["kind", *counts], *([kind, *(str(count[kind]) for count in counts.values())] for kind in kinds)]


def label_rows(sets: Mapping[str, Sequence[Frame]], atomic_energies: Mapping[int, float]) -> list[list[str]]:
    """Each label of each set: how many frames have it, and mean, spread and range of its components."""
    rows = [["label", "set", "frames", "mean", "spread", "smallest", "largest", "unit"]]
    for name in LABELS:
        if name in GROUPS:  # their numbers are names
            continue
        for set_name, frames in sets.items():
            known = [frame for frame in frames if frame.labels[name] is not None]
            if known:
                for label, unit, parts in _components(known, name, atomic_energies):
                    values = np.concatenate(parts)
                    figures = (values.mean(), values.std(), values.min(), values.max())
                    cells = [_number(value, values.std()) for value in figures]
                    rows.append([label, set_name, f"{len(known)} of {len(frames)}", *cells, unit])
    labels = list(dict.fromkeys(row[0] for row in rows))
    return sorted(rows, key=lambda row: labels.index(row[0]))


def charge_rows(frames: Sequence[Frame]) -> list[list[str]]:
    """Reference charges and sizes of the atomic dipoles by element; the heading alone without any."""
    rows = [["element", "atoms", "charge [e]", "range [e]", "atomic dipole [e·Å]"]]
    known = [frame for frame in frames if frame.labels["atomic_multipoles"] is not None]
    if not known:
        return rows
    numbers = np.concatenate([frame.atoms.numbers for frame in known])
    multipoles = np.concatenate([frame.labels["atomic_multipoles"] for frame in known])
    for number in np.unique(numbers):
        own = multipoles[numbers == number]
        charges, dipoles = own[:, 0], np.linalg.norm(own[:, 1:], axis=1)
        rows.append(
            [
                chemical_symbols[number],
                str(len(own)),
                f"{charges.mean():+.3f} ± {charges.std():.3f}",
                _range(charges.tolist(), "+.3f"),
                f"{dipoles.mean():.3f} ± {dipoles.std():.3f}",
            ]
        )
    return rows


def _components(
    frames: Sequence[Frame], name: str, atomic_energies: Mapping[int, float]
) -> list[tuple[str, str, list[np.ndarray]]]:
    """(label, unit, components of each frame); charges and atomic dipoles apart, energies per atom above the E0s."""
    values = [np.asarray(frame.labels[name], dtype=float) for frame in frames]
    if name == "atomic_multipoles":
        dipoles = [value[:, 1:].reshape(-1) for value in values]
        return [("charges", "e", [value[:, 0] for value in values]), ("atomic dipoles", "e·Å", dipoles)]
    if name == "energy":
        free = [np.mean([atomic_energies.get(int(z), 0.0) for z in frame.atoms.numbers]) for frame in frames]
        values = [value / len(frame.atoms) - e0 for value, frame, e0 in zip(values, frames, free, strict=True)]
    label, unit = NAMES.get(name, (name.replace("_", " "), ""))
    return [(label, unit, [value.reshape(-1) for value in values])]


def _number(value: float, scale: float) -> str:
    return "0" if abs(value) < 1e-6 * scale else f"{value:.4g}"


def _range(values: Sequence[float], form: str) -> str:
    low, high = min(values), max(values)
    return f"{low:{form}}" if low == high else f"{low:{form}} … {high:{form}}"
