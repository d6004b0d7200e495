"""What a training set spans, which an archive remembers (`fp_potential.training_ranges`)."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase.data import chemical_symbols

from ..data.frame import Frame

#: name -> range, as JSON holds it; names of elements are their symbols
Ranges = dict[str, Any]

_NUMBERS = len(chemical_symbols)


class RangesCollector:
    """Looks at frames one by one; `finish` gives what they span."""

    def __init__(self) -> None:
        self._charges: list[float] = []
        self._levels: list[float] = []
        self._field = 0.0
        self._largest = np.full((_NUMBERS, 2), -np.inf)

    def add(self, frame: Frame) -> None:
        """Count a frame; labels without a weight do not."""
        self._charges = _widened(self._charges, frame.total_charge / len(frame.atoms))
        self._field = max(self._field, float(np.linalg.norm(frame.external_field)))
        level, multipoles = frame.labels.get("fermi_level"), frame.labels.get("atomic_multipoles")
        if level is not None and frame.weights["fermi_level"] > 0:
            self._levels = _widened(self._levels, float(level))
        if multipoles is not None and np.any(np.asarray(frame.weights["atomic_multipoles"]) > 0):
            norms = np.stack([np.abs(multipoles[:, 0]), np.linalg.norm(multipoles[:, 1:4], axis=1)], axis=1)
            np.maximum.at(self._largest, frame.atoms.numbers, norms)

    def finish(self) -> Ranges:
        """The ranges over all frames added; without distances, which `SetStatistics.nearest` has.

        - ``charge_per_atom``: [smallest, largest] Q/N, e;
        - ``fermi_level``: [smallest, largest], eV; absent without labels;
        - ``field``: largest, V/Å;
        - ``density``: symbol -> [largest |q|, largest |d|], e and e·Å.
        """
        known = np.flatnonzero(np.isfinite(self._largest[:, 0]))
        density = {chemical_symbols[z]: self._largest[z].tolist() for z in known}
        ranges: Ranges = {"field": self._field, "density": density}
        for name, values in (("charge_per_atom", self._charges), ("fermi_level", self._levels)):
            if values:
                ranges[name] = values
        return ranges


def _widened(limits: list[float], value: float) -> list[float]:
    return [min([*limits, value]), max([*limits, value])]
