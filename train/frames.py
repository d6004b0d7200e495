"""Reference data as files hold them: extended XYZ -> checked frames -> training, validation and test sets.

Everything a user can get wrong in a data file is found here, once, and named with its file and frame.
Units: eV, Å, e, V. Missing labels are allowed in single frames; they are counted.
"""

from __future__ import annotations

import glob
import hashlib
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import iread

from .config import DataOptions, Keys
from .errors import InputError

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
}


@dataclass
class Frame:
    """One structure of a data file with its labels (``None`` where the file has none) and their weights."""

    atoms: Atoms
    source: str
    kind: str
    total_charge: float
    external_field: np.ndarray  #: F, V/Å
    labels: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)


@dataclass
class DataSets:
    """Frames of the three sets and how often each mapped label is missing."""

    train: list[Frame]
    valid: list[Frame]
    test: list[Frame]
    notes: list[str]


def read_frames(
    names: Sequence[str], keys: Keys, kind_key: str = "kind", demanded: Collection[str] | None = None
) -> list[Frame]:
    """All frames of the files or globs ``names``, checked.

    Args:
        demanded: names of the keys that must be in at least one frame; all that are mapped if None.

    Raises:
        InputError: no such file, empty or malformed file, a value of the wrong shape or not finite, a mapped
            key that no frame has, a field along a periodic axis; the message names file, frame and key.
    """
    frames: list[Frame] = []
    for path in _paths(names):
        label = Path(path).name
        stem = label.split(".")[0]
        before = len(frames)
        try:
            for number, atoms in enumerate(iread(path, index=":", format="extxyz")):
                frames.append(_frame(atoms, keys, f"{label}, frame {number}", str(atoms.info.get(kind_key, stem))))
        except InputError:
            raise
        except Exception as error:
            place = f"after {len(frames) - before} good frames" if len(frames) > before else "at its first frame"
            raise InputError(
                f"{path}: not readable as extended XYZ {place}: {type(error).__name__}: {error}; "
                "expected a line with the number of atoms, a line of key=value pairs with "
                "Properties=..., and one line per atom"
            ) from error
        if len(frames) == before:
            raise InputError(f"{path}: holds no frames; expected extended XYZ")
    for name, key in keys.model_dump().items():
        wanted = key is not None and (demanded is None or name in demanded)
        if wanted and all(_missing(frame, name) for frame in frames):
            present = sorted(set(frames[0].atoms.info) | set(frames[0].atoms.arrays) - {"numbers", "positions"})
            files = ", ".join(Path(path).name for path in _paths(names))
            raise InputError(
                f"{files}: no frame has the key '{key}' (data.keys.{name}); "
                f"keys present: {', '.join(present) or 'none'}"
            )
    return frames


def load_data(options: DataOptions) -> DataSets:
    """Training, validation and test frames as the ``data`` section says."""
    frames = read_frames(options.files, options.keys, options.kind_key)
    notes = []
    sets: dict[str, list[Frame]] = {"train": [], "valid": [], "test": []}
    split = options.split
    if split is None:
        sets["train"] = frames
    else:
        wanted = {"train": split.train, "valid": split.valid or [], "test": split.test}
        ignored = 0
        for frame in frames:
            if split.key not in frame.atoms.info:
                raise InputError(
                    f"{frame.source}: no info key '{split.key}' (data.split.key); "
                    f"keys present: {', '.join(sorted(frame.atoms.info)) or 'none'}"
                )
            value = str(frame.atoms.info[split.key])
            places = [name for name, values in wanted.items() if value in values]
            ignored += not places
            for name in places:
                sets[name].append(frame)
        if ignored:
            notes.append(f"{ignored} frames belong to no set (their '{split.key}' is none of those in data.split)")
        if not sets["train"]:
            values = sorted({str(frame.atoms.info[split.key]) for frame in frames})
            raise InputError(f"no frame has {split.key}={'|'.join(split.train)}; values present: {', '.join(values)}")
    for name, further in (("valid", options.valid_files), ("test", options.test_files)):
        if further:
            sets[name] += read_frames(further, options.keys, options.kind_key)
    if not sets["valid"] and options.valid_fraction > 0 and len(sets["train"]) > 1:
        chosen = _chosen(len(sets["train"]), options.valid_fraction, options.valid_seed)
        sets["valid"] = [frame for number, frame in enumerate(sets["train"]) if number in chosen]
        sets["train"] = [frame for number, frame in enumerate(sets["train"]) if number not in chosen]
    _apply_kind_weights([*sets["train"], *sets["valid"]], options.kind_weights)
    for name in LABELS:
        if getattr(options.keys, name) is not None:
            missing = sum(frame.labels[name] is None for frame in sets["train"])
            if missing:
                notes.append(f"{missing} of {len(sets['train'])} training frames have no {name}: weight zero there")
    if options.keys.total_charge is not None:
        missing = sum(options.keys.total_charge not in frame.atoms.info for frame in sets["train"])
        if missing:
            notes.append(f"{missing} of {len(sets['train'])} training frames have no total_charge: taken as 0")
    return DataSets(sets["train"], sets["valid"], sets["test"], notes)


def fingerprint(frames: Sequence[Frame]) -> str:
    """Hash of structures and labels, to see whether a resumed run has the same data."""
    digest = hashlib.sha256()
    for frame in frames:
        for part in (
            frame.atoms.numbers,
            frame.atoms.positions,
            frame.atoms.cell.array,
            frame.atoms.pbc,
            frame.external_field,
            frame.total_charge,
            *frame.labels.values(),
        ):
            if part is not None:
                digest.update(np.ascontiguousarray(part, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]


def _paths(names: Sequence[str]) -> list[str]:
    paths: list[str] = []
    for name in names:
        found = sorted(glob.glob(str(name)))
        if not found:
            raise InputError(f"data file '{name}' does not exist (or no file matches)")
        paths += found
    return list(dict.fromkeys(paths))


def _chosen(count: int, fraction: float, seed: int) -> set[int]:
    number = max(1, round(fraction * count))
    return set(np.random.default_rng(seed).permutation(count)[:number].tolist())


def _value(atoms: Atoms, key: str | None) -> Any:
    """Value of ``key`` in info, arrays or, where ASE puts its own names, the calculator's results."""
    if key is None:
        return None
    for place in (atoms.info, atoms.arrays, atoms.calc.results if atoms.calc is not None else {}):
        if key in place:
            return place[key]
    return None


def _missing(frame: Frame, name: str) -> bool:
    if name in LABELS:
        return frame.labels[name] is None
    return not frame.weights[f"has_{name}"]


def _apply_kind_weights(frames: Sequence[Frame], factors: dict[str, dict[str, float]]) -> None:
    """Multiply the weights of labels by the factors of the frame's kind."""
    kinds = {frame.kind for frame in frames}
    for kind, by_label in factors.items():
        if kind not in kinds:
            raise InputError(
                f"data.kind_weights: no training frame is of kind '{kind}'; kinds: {', '.join(sorted(kinds))}"
            )
        for name, factor in by_label.items():
            if name not in LABELS or not (math.isfinite(factor) and factor >= 0):
                raise InputError(
                    f"data.kind_weights.{kind}: expected label: factor >= 0 with labels of {', '.join(LABELS)}, "
                    f"got {name}: {factor}"
                )
    for frame in frames:
        for name, factor in factors.get(frame.kind, {}).items():
            frame.weights[name] = frame.weights[name] * factor


def _frame(atoms: Atoms, keys: Keys, source: str, kind: str) -> Frame:
    if len(atoms) == 0:
        raise InputError(f"{source}: has no atoms")
    if not np.isfinite(atoms.positions).all():
        raise InputError(f"{source}: non-finite position; repair or remove the frame")
    charge = _value(atoms, keys.total_charge)
    field_key = keys.external_field or keys.electric_field
    field_value = _value(atoms, field_key)
    potential_gradient = np.zeros(3)
    if field_value is not None:
        potential_gradient = _checked(field_value, (3,), source, str(field_key))
        if keys.electric_field is not None:
            potential_gradient = -potential_gradient
        along = atoms.cell.array[atoms.pbc] @ potential_gradient
        if np.any(np.abs(along) > 1e-10):
            raise InputError(
                f"{source}: '{field_key}' has a component along a periodic axis, where the potential of "
                "a uniform field is not periodic; set it to zero or remove the frame"
            )
    number = 0.0 if charge is None else float(_checked(charge, (), source, str(keys.total_charge)))
    frame = Frame(atoms, source, kind, number, potential_gradient)
    for name, (shape, per_atom) in LABELS.items():
        frame.labels[name] = _label(atoms, name, getattr(keys, name), shape, per_atom, source)
        frame.weights[name] = _weight(atoms, name, source)
    frame.weights["has_total_charge"] = charge is not None
    frame.weights["has_external_field"] = frame.weights["has_electric_field"] = field_value is not None
    return frame


def _label(atoms: Atoms, name: str, key: str | None, shape: tuple[int, ...], per_atom: bool, source: str) -> Any:
    value = _value(atoms, key)
    if value is None:
        return None
    array = np.asarray(value)
    if shape == (3, 3) and not per_atom and array.size == 6:
        xx, yy, zz, yz, xz, xy = array.reshape(-1)
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif shape == (3, 3) and array.size == 9 * (len(atoms) if per_atom else 1):
        array = array.reshape(-1, 3, 3) if per_atom else array.reshape(3, 3)
    elif name == "atomic_multipoles" and array.ndim == 2:
        array = array[:, :4]
    if array.dtype.kind == "f" and array.size and np.isnan(array).all():
        return None
    array = _checked(array, (len(atoms), *shape) if per_atom else shape, source, str(key))
    if name == "molecules" and (array != np.round(array)).any():
        raise InputError(f"{source}: '{key}' (data.keys.molecules) must hold whole numbers, one per atom")
    return array


def _checked(value: Any, shape: tuple[int, ...], source: str, key: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{source}: '{key}' is not a number: {value!r}") from None
    if array.shape != shape:
        raise InputError(f"{source}: '{key}' has shape {array.shape}, expected {shape}")
    if not np.isfinite(array).all():
        raise InputError(f"{source}: '{key}' is not finite; repair or remove the frame")
    return array


def _weight(atoms: Atoms, name: str, source: str) -> Any:
    overall = float(_checked(atoms.info.get("config_weight", 1.0), (), source, "config_weight"))
    key = f"config_{name}_weight"
    own = np.asarray(atoms.info.get(key, 1.0))
    if name == "dipole" and own.size == 3:
        return overall * _checked(own, (3,), source, key)
    return overall * float(_checked(own, (), source, key))
