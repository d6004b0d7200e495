"""What a training set spans: a model that is used far outside of it extrapolates."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ..data.frame import Frame

#: name -> (smallest, largest) as JSON holds them; names of elements are their symbols
Ranges = dict[str, Any]

_NUMBERS = len(chemical_symbols)


class RangesCollector:
    """Looks at frames one by one; `finish` gives what they span."""

    def __init__(self) -> None:
        self._charge, self._level, self._field = _Span(), _Span(), 0.0
        self._charges = np.array([[np.inf, -np.inf]] * _NUMBERS)
        self._dipoles = np.zeros(_NUMBERS)

    def add(self, frame: Frame) -> None:
        """Count a frame; labels without a weight do not."""
        self._charge.add(frame.total_charge / len(frame.atoms))
        self._field = max(self._field, float(np.linalg.norm(frame.external_field)))
        level, multipoles = frame.labels.get("fermi_level"), frame.labels.get("atomic_multipoles")
        if level is not None and frame.weights["fermi_level"] > 0:
            self._level.add(float(level))
        if multipoles is not None and np.any(np.asarray(frame.weights["atomic_multipoles"]) > 0):
            numbers = frame.atoms.numbers
            np.minimum.at(self._charges[:, 0], numbers, multipoles[:, 0])
            np.maximum.at(self._charges[:, 1], numbers, multipoles[:, 0])
            np.maximum.at(self._dipoles, numbers, np.linalg.norm(multipoles[:, 1:], axis=1))

    def finish(self) -> Ranges:
        """The ranges over all frames added; without distances, which `SetStatistics.nearest` has.

        - ``total_charge_per_atom``: [smallest, largest] Q/N, e;
        - ``fermi_level``: [smallest, largest], eV; None without labels;
        - ``field_magnitude``: largest, V/Å;
        - ``atomic_charges``: symbol -> [smallest, largest], e; ``atomic_dipoles``: symbol -> largest, e·Å.
        """
        known = np.flatnonzero(np.isfinite(self._charges[:, 0]))
        return {
            "total_charge_per_atom": self._charge.limits(),
            "fermi_level": self._level.limits(),
            "field_magnitude": self._field,
            "atomic_charges": {chemical_symbols[z]: self._charges[z].tolist() for z in known},
            "atomic_dipoles": {chemical_symbols[z]: float(self._dipoles[z]) for z in known},
        }


class _Span:
    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf

    def add(self, value: float) -> None:
        self.low, self.high = min(self.low, value), max(self.high, value)

    def limits(self) -> list[float] | None:
        return [float(self.low), float(self.high)] if self.low <= self.high else None
