"""Reference data: extended XYZ files -> checked frames -> samples with their neighbour lists -> batches.

Everything a user can get wrong in a data file is found here, once, and named with its file and frame.
Units: eV, Å, e, V. Missing labels are allowed in single frames and get weight zero; they are counted.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.io import iread
from torch import Tensor

from ..graph import Graph, collate, graph_from_atoms
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
}


#: batches per window of ``group_by_size``
WINDOW = 16


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


class Labels(NamedTuple):
    """Reference values of a batch of B structures with N atoms and their weights (0 where the label is missing)."""

    energy: Tensor  #: [B] eV, float64
    forces: Tensor  #: [N, 3] eV/Å
    stress: Tensor  #: [B, 3, 3] eV/Å³
    multipoles: Tensor  #: [N, 4] e, e·Å; q d_y d_z d_x
    dipole: Tensor  #: [B, 3] e·Å
    fermi_level: Tensor  #: [B] eV, NaN where missing
    energy_weight: Tensor  #: [B]
    forces_weight: Tensor  #: [N, 1]
    stress_weight: Tensor  #: [B, 1, 1]
    multipoles_weight: Tensor  #: [N, 1]
    dipole_weight: Tensor  #: [B, 3], 0 along periodic axes
    fermi_level_weight: Tensor  #: [B]
    total_charge_weight: Tensor  #: [B]


class Batch(NamedTuple):
    """Structures with their labels; ``indices`` are their places in the data set."""

    graph: Graph
    labels: Labels
    num_atoms: Tensor  #: [B]
    indices: list[int]


class Sample(NamedTuple):
    """One structure ready for batching."""

    graph: Graph
    labels: Labels
    kind: str


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
            raise InputError(f"{path}: not readable as extended XYZ {place}: {type(error).__name__}: {error}; "
                             "expected a line with the number of atoms, a line of key=value pairs with "
                             "Properties=..., and one line per atom") from error
        if len(frames) == before:
            raise InputError(f"{path}: holds no frames; expected extended XYZ")
    for name, key in keys.model_dump().items():
        wanted = key is not None and (demanded is None or name in demanded)
        if wanted and all(_missing(frame, name) for frame in frames):
            present = sorted(set(frames[0].atoms.info) | set(frames[0].atoms.arrays) - {"numbers", "positions"})
            files = ", ".join(Path(path).name for path in _paths(names))
            raise InputError(f"{files}: no frame has the key '{key}' (data.keys.{name}); "
                             f"keys present: {', '.join(present) or 'none'}")
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
                raise InputError(f"{frame.source}: no info key '{split.key}' (data.split.key); "
                                 f"keys present: {', '.join(sorted(frame.atoms.info)) or 'none'}")
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


def make_samples(frames: Sequence[Frame], elements: Sequence[int], cutoff: float, dtype: torch.dtype) -> list[Sample]:
    """Graphs (neighbour lists made once) and label tensors of ``frames``."""
    return [make_sample(frame, elements, cutoff, dtype) for frame in frames]


def make_sample(frame: Frame, elements: Sequence[int], cutoff: float, dtype: torch.dtype) -> Sample:
    """Graph and labels of one frame; errors of the graph are named with the frame's source."""
    level = frame.labels.get("fermi_level")
    try:
        graph = graph_from_atoms(
            frame.atoms, elements, cutoff, dtype, total_charge=frame.total_charge,
            fermi_level=0.0 if level is None else float(level), external_field=frame.external_field.tolist(),
        )
    except ValueError as error:
        raise InputError(f"{frame.source}: {error}") from error
    return Sample(graph, _labels(frame, dtype), frame.kind)


def batch_samples(samples: Sequence[Sample], indices: Sequence[int], device: torch.device | None = None) -> Batch:
    """The samples ``indices`` as one batch on ``device``."""
    chosen = [samples[index] for index in indices]
    graph = collate([sample.graph for sample in chosen])
    labels = Labels(*(torch.cat(parts) for parts in zip(*(sample.labels for sample in chosen), strict=True)))
    atoms = torch.tensor([sample.graph.batch.shape[0] for sample in chosen], dtype=graph.positions.dtype)
    batch = Batch(graph, labels, atoms, list(indices))
    return batch if device is None or device.type == "cpu" else to_device(batch, device)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with all its tensors on ``device``."""
    graph = Graph(*(part.to(device) if isinstance(part, Tensor) else part for part in batch.graph))
    labels = Labels(*(part.to(device) for part in batch.labels))
    return Batch(graph, labels, batch.num_atoms.to(device), batch.indices)


def batches(
    samples: Sequence[Sample], size: int, seed: int | None = None, device: torch.device | None = None,
    group_by_size: bool = False,
) -> Iterator[Batch]:
    """Batches of ``size`` structures: as they are, or in an order fixed by ``seed``.

    With ``group_by_size`` structures with similar numbers of neighbours share a batch: within shuffled windows of
    ``WINDOW`` batches the structures are sorted by their longest neighbour list, then the batches are shuffled.
    """
    order = list(range(len(samples)))
    if seed is not None:
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(samples), generator=generator).tolist()
    chunks = [order[begin : begin + size] for begin in range(0, len(order), size)]
    if group_by_size and seed is not None:
        lengths = [int(torch.bincount(sample.graph.edge_index[0], minlength=1).max()) for sample in samples]
        window = WINDOW * size
        order = [index for begin in range(0, len(order), window)
                 for index in sorted(order[begin : begin + window], key=lengths.__getitem__)]
        chunks = [order[begin : begin + size] for begin in range(0, len(order), size)]
        chunks = [chunks[place] for place in torch.randperm(len(chunks), generator=generator).tolist()]
    for chunk in chunks:
        yield batch_samples(samples, chunk, device)


def fingerprint(frames: Sequence[Frame]) -> str:
    """Hash of structures and labels, to see whether a resumed run has the same data."""
    digest = hashlib.sha256()
    for frame in frames:
        for part in (frame.atoms.numbers, frame.atoms.positions, frame.atoms.cell.array, frame.atoms.pbc,
                     frame.external_field, frame.total_charge, *frame.labels.values()):
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
            raise InputError(f"{source}: '{field_key}' has a component along a periodic axis, where the potential of "
                             "a uniform field is not periodic; set it to zero or remove the frame")
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
    if name == "stress" and array.size == 6:
        xx, yy, zz, yz, xz, xy = array.reshape(-1)
        array = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    elif name == "stress" and array.size == 9:
        array = array.reshape(3, 3)
    elif name == "atomic_multipoles" and array.ndim == 2:
        array = array[:, :4]
    if array.dtype.kind == "f" and array.size and np.isnan(array).all():
        return None
    return _checked(array, (len(atoms), *shape) if per_atom else shape, source, str(key))


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


def _labels(frame: Frame, dtype: torch.dtype) -> Labels:
    atoms = len(frame.atoms)
    values: dict[str, Tensor] = {}
    weights: dict[str, Any] = {}
    for name, (shape, per_atom) in LABELS.items():
        full = (atoms, *shape) if per_atom else (1, *shape)
        value = frame.labels[name]
        missing = float("nan") if name == "fermi_level" else 0.0
        kind = torch.float64 if name == "energy" else dtype
        values[name] = torch.full(full, missing, dtype=kind) if value is None else \
            torch.tensor(value, dtype=kind).reshape(full)
        weights[name] = 0.0 if value is None else frame.weights[name]
    periodic = frame.atoms.cell.array[frame.atoms.pbc]
    open_axes = ~(np.abs(periodic) > 1e-8).any(axis=0) if len(periodic) else np.ones(3, dtype=bool)
    return Labels(
        energy=values["energy"], forces=values["forces"], stress=values["stress"],
        multipoles=values["atomic_multipoles"], dipole=values["dipole"], fermi_level=values["fermi_level"],
        energy_weight=torch.full((1,), weights["energy"], dtype=dtype),
        forces_weight=torch.full((atoms, 1), weights["forces"], dtype=dtype),
        stress_weight=torch.full((1, 1, 1), weights["stress"], dtype=dtype),
        multipoles_weight=torch.full((atoms, 1), weights["atomic_multipoles"], dtype=dtype),
        dipole_weight=torch.tensor(open_axes * weights["dipole"], dtype=dtype).reshape(1, 3),
        fermi_level_weight=torch.full((1,), weights["fermi_level"], dtype=dtype),
        total_charge_weight=torch.full((1,), float(frame.atoms.info.get("config_weight", 1.0)), dtype=dtype),
    )
