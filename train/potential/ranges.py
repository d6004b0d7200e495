"""Ranges of a training set, which an archive remembers (`fp_potential.training_ranges`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ..data.frame import Frame


def training_ranges(frames: Iterable[Frame], nearest: Mapping[str, float]) -> dict[str, Any]:
    """Ranges of charge per atom, Fermi level, field, distances, and charges and dipoles of the elements.

    Args:
        frames: of the training set.
        nearest: shortest distance of each ordered pair of elements, Å (`statistics.SetStatistics`).
    """
    charges: list[float] = []
    levels: list[float] = []
    field = 0.0
    density: dict[str, list[float]] = {}
    for frame in frames:
        charges.append(frame.total_charge / len(frame.atoms))
        field = max(field, float(np.linalg.norm(frame.external_field)))
        if frame.labels["fermi_level"] is not None:
            levels.append(float(frame.labels["fermi_level"]))
        multipoles = frame.labels["atomic_multipoles"]
        if multipoles is not None:
            _add(density, frame.atoms.numbers, multipoles)
    distances: dict[str, float] = {}
    for pair, length in nearest.items():
        name = "-".join(sorted(pair.split("-")))
        distances[name] = min(length, distances.get(name, np.inf))
    ranges: dict[str, Any] = {"field": field, "distances": distances, "density": density}
    for name, values in (("charge_per_atom", charges), ("fermi_level", levels)):
        if values:
            ranges[name] = [min(values), max(values)]
    return ranges


def _add(density: dict[str, list[float]], numbers: np.ndarray, multipoles: np.ndarray) -> None:
    """Largest |q| and |d| of each element."""
    norms = np.stack([np.abs(multipoles[:, 0]), np.linalg.norm(multipoles[:, 1:4], axis=1)], axis=1)
    for number in np.unique(numbers):
        own = norms[numbers == number].max(axis=0)
        known = density.get(chemical_symbols[number], [0.0, 0.0])
        density[chemical_symbols[number]] = np.maximum(own, known).tolist()
