"""From a structure of a file to a `Frame`: keys, units, weights, checks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from ase import Atoms

from ...periodicity import letters, open_axes
from ..errors import InputError
from .doubts import Doubts
from .frame import COMPONENT_WEIGHTS, GROUPS, LABELS, Frame, digests_of
from .frame_checks import Consistency, check_elements, check_field, check_periodicity, has_stress
from .options import DataOptions, Keys, Units
from .plausibility import Plausibility

#: keys of what labels follow from in frames that do not have them
INSTEAD = ("charges", "virial")
#: share by which a stress and that of a virial may differ: files round
STRESS_TOLERANCE = 1e-2
#: labels with an axis of the dipole (the last index; in polarizabilities both)
ALONG_OPEN_AXES = ("dipole", "polarizability", "born_charges")


class FrameReader:
    """Makes frames of structures, as a training file says, and looks for contradictions between their labels.

    Args:
        keys: where the labels are.
        kind_key: info key of the kind.
        units: of the labels, positions and cells.
        checks: options of the checks that only training data have to pass; None: without them.
    """

    def __init__(
        self, keys: Keys, kind_key: str = "kind", units: Units | None = None, checks: DataOptions | None = None
    ) -> None:
        self.keys, self.kind_key, self.checks = keys, kind_key, checks
        self.units = (units or Units()).conversion()
        self.doubts = Doubts()
        self.consistency = Consistency()
        self.plausibility = Plausibility(self.doubts)
        self.field_key = keys.external_field or keys.electric_field

    def frame(self, atoms: Atoms, source: str, kind: str) -> Frame:
        """The frame of ``atoms``, which are converted to Å in place.

        Args:
            source: what to call it.
            kind: its kind where the info has none.

        Raises:
            InputError: naming the frame, the key and what is wrong.
        """
        if len(atoms) == 0:
            raise InputError(f"{source}: has no atoms")
        check_elements(atoms, source)
        if not np.isfinite(atoms.positions).all():
            raise InputError(f"{source}: non-finite position; repair or remove the frame")
        if self.units.length != 1.0:
            atoms.positions *= self.units.length
            atoms.set_cell(atoms.cell.array * self.units.length)
        check_periodicity(atoms, source, self.checks)
        charge = self._value(atoms, "total_charge", (), source)
        frame = Frame(
            atoms,
            source,
            str(atoms.info.get(self.kind_key, kind)),
            0.0 if charge is None else float(charge),
            self._field(atoms, source),
        )
        given = {name for name, key in self.keys.model_dump().items() if _find(atoms, key) is not None}
        overall = _overall_weight(atoms, source)
        for name, (shape, per_atom) in LABELS.items():
            full = (len(atoms), *shape) if per_atom else shape
            frame.labels[name] = self._value(atoms, name, full, source)
            frame.weights[name] = overall * _weight(atoms, name, source)
        if np.ndim(frame.weights["dipole"]) == 0:  # a weight for each axis is taken at its word
            frame.weights["dipole"] = open_axes(atoms.cell.array, atoms.pbc) * frame.weights["dipole"]
        if not has_stress(atoms):
            frame.weights["stress"] = 0.0
        self._take_virial(frame)
        frame.weights["structure"] = overall
        if frame.labels["atomic_multipoles"] is None and "charges" in given:
            charges = self._value(atoms, "charges", (len(atoms),), source)
            if charges is not None:
                frame.labels["atomic_multipoles"] = np.stack([charges, *[np.zeros_like(charges)] * 3], axis=1)
                frame.weights["atomic_multipoles"] = frame.weights["atomic_multipoles"] * np.array([1.0, 0.0, 0.0, 0.0])
        frame.given = frozenset(given)
        frame.digest = digests_of(frame)
        self.consistency.add(frame)
        self.plausibility.add(frame)
        return frame

    def _take_virial(self, frame: Frame) -> None:
        """The stress −W/V of a frame that has a virial, or a doubt where its stress is another."""
        virial = self._value(frame.atoms, "virial", (3, 3), frame.source)
        if virial is None:
            return
        if not has_stress(frame.atoms):
            kind = "have a virial and no periodic axis, or a cell without a volume: it is not used"
            self.doubts.add(kind, frame.source, f"pbc {letters(frame.atoms.pbc)}")
            return
        stress = -virial / abs(np.linalg.det(frame.atoms.cell.array))
        held = frame.labels["stress"]
        if held is None:
            frame.labels["stress"] = stress
            return
        difference = float(np.abs(held - stress).max())
        if difference > STRESS_TOLERANCE * max(float(np.abs(stress).max()), 1e-6):
            kind = "have a stress that is not -virial/V; the stress is used"
            details = f"xx {held[0, 0]:.4g} and {stress[0, 0]:.4g} eV/Å³"
            self.doubts.add(kind, frame.source, details, difference)

    def notes(self) -> list[str]:
        """Units and sign of the field for the introduction of a run, and warnings about contradictions."""
        notes = [self.units.describe()]
        if self.keys.external_field:
            notes.append(f"field: '{self.keys.external_field}' is read as the gradient of the potential, F = -E")
        if self.keys.electric_field:
            notes.append(f"field: '{self.keys.electric_field}' is read as the physical field E = -F")
        return notes + self.warnings()

    def warnings(self) -> list[str]:
        """Contradictions between labels, and values that no calculation gives."""
        return self.consistency.warnings(self.field_key) + self.plausibility.warnings()

    def _value(self, atoms: Atoms, name: str, shape: tuple[int, ...], source: str) -> np.ndarray | None:
        """Value of the key mapped to ``name``, converted; None if there is none, or nothing but NaN."""
        key = getattr(self.keys, name)
        value = _find(atoms, key)
        if value is None:
            return None
        array = np.asarray(value)
        if (LABELS.get(name) == ((3, 3), False) or name == "virial") and array.size == 6:
            xx, yy, zz, yz, xz, xy = array.reshape(-1)
            array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        elif name == "atomic_multipoles" and array.ndim == 2:
            array = array[:, :4]
        if array.ndim != len(shape) and array.size == math.prod(shape):
            array = array.reshape(shape)  # files hold tensors as rows of numbers
        if (name in LABELS or name in INSTEAD) and array.dtype.kind == "f" and array.size and np.isnan(array).all():
            return None
        if name in ALONG_OPEN_AXES and array.dtype.kind == "f" and array.shape == shape:
            array = _without_periodic_axes(atoms, name, array)
        array = _checked(array, shape, source, str(key))
        if name in GROUPS and (array != np.round(array)).any():
            raise InputError(f"{source}: '{key}' (data.keys.{name}) must hold whole numbers, one per atom")
        return array * self.units.factor(name)

    def _field(self, atoms: Atoms, source: str) -> np.ndarray:
        """F, whichever of F and E = −F the file has; zero where it has none."""
        gradient = self._value(atoms, "external_field", (3,), source)
        physical = self._value(atoms, "electric_field", (3,), source)
        if physical is not None:
            gradient = -physical
        if gradient is None:
            return np.zeros(3)
        check_field(atoms, gradient, source, str(self.field_key))
        return gradient


def _find(atoms: Atoms, key: str | None) -> Any:
    """Value of ``key`` in info, arrays or, where ASE puts its own names, the calculator's results."""
    if key is None:
        return None
    for place in (atoms.info, atoms.arrays, atoms.calc.results if atoms.calc is not None else {}):
        if key in place:
            return place[key]
    return None


def _without_periodic_axes(atoms: Atoms, name: str, array: np.ndarray) -> np.ndarray:
    """``array`` with zeros where it is NaN along periodic axes: dipoles, which nobody knows there."""
    if name == "dipole" and np.size(atoms.info.get("config_dipole_weight", 1.0)) == 3:
        return array  # a weight for each axis is taken at its word
    axes = open_axes(atoms.cell.array, atoms.pbc)
    known = axes[:, None] & axes if name == "polarizability" else axes
    return np.where(np.isnan(array) & ~known, 0.0, array)


def _checked(value: Any, shape: tuple[int, ...], source: str, key: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{source}: '{key}' is not a number: {np.asarray(value).tolist()!r}") from None
    if array.shape != shape:
        raise InputError(f"{source}: '{key}' has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{source}: '{key}' is not finite; repair or remove the frame")
    return array


def _overall_weight(atoms: Atoms, source: str) -> float:
    """``config_weight``."""
    weight = float(_checked(atoms.info.get("config_weight", 1.0), (), source, "config_weight"))
    if weight < 0:
        raise InputError(f"{source}: negative weight: config_weight {weight:g}")
    return weight


def _weight(atoms: Atoms, name: str, source: str) -> Any:
    """``config_<name>_weight``: a number, or one for each component."""
    key = f"config_{name}_weight"
    own = np.asarray(atoms.info.get(key, 1.0))
    components = COMPONENT_WEIGHTS.get(name, 1)
    several = components > 1 and own.size == components
    factors = _checked(own, (components,) if several else (), source, key)
    if np.any(factors < 0):
        raise InputError(f"{source}: negative weight: {key} {factors.tolist()}")
    return factors if several else float(factors)
