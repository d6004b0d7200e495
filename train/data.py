"""Frames as tensors: samples with their neighbour lists and labels, and batches of them.

A label that a frame does not have is zero (the Fermi level NaN) and has weight zero.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..graph import Graph, collate, graph_from_atoms
from ..graph import to_device as graph_to_device
from .errors import InputError
from .frames import LABELS, Frame

#: batches per window of ``group_by_size``
WINDOW = 16


class Labels(NamedTuple):
    """Reference values of a batch of B structures with N atoms and their weights (0 where the label is missing)."""

    energy: Tensor  #: [B] eV, float64
    forces: Tensor  #: [N, 3] eV/Å
    stress: Tensor  #: [B, 3, 3] eV/Å³
    multipoles: Tensor  #: [N, 4] e, e·Å; q d_y d_z d_x
    dipole: Tensor  #: [B, 3] e·Å
    fermi_level: Tensor  #: [B] eV, NaN where missing
    potentials: Tensor  #: [N] V, at the nuclei
    polarizability: Tensor  #: [B, 3, 3] e·Å²/V
    born_charges: Tensor  #: [N, 3, 3] e; position, dipole
    molecules: Tensor  #: [N] int64, number of the molecule within its structure
    energy_weight: Tensor  #: [B]
    forces_weight: Tensor  #: [N, 1]
    stress_weight: Tensor  #: [B, 1, 1]
    multipoles_weight: Tensor  #: [N, 1]
    dipole_weight: Tensor  #: [B, 3], 0 along periodic axes unless given for each axis
    fermi_level_weight: Tensor  #: [B]
    potentials_weight: Tensor  #: [N]
    polarizability_weight: Tensor  #: [B, 3, 3], 0 where an axis is periodic
    born_charges_weight: Tensor  #: [N, 1, 3], 0 for the dipole along periodic axes
    molecules_weight: Tensor  #: [B], 0 without forces, too
    weight: Tensor  #: [B] of the structure, for terms without a label


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


def make_samples(frames: Sequence[Frame], elements: Sequence[int], cutoff: float, dtype: torch.dtype) -> list[Sample]:
    """Graphs (neighbour lists made once) and label tensors of ``frames``."""
    return [make_sample(frame, elements, cutoff, dtype) for frame in frames]


def make_sample(frame: Frame, elements: Sequence[int], cutoff: float, dtype: torch.dtype) -> Sample:
    """Graph and labels of one frame; errors of the graph are named with the frame's source."""
    level = frame.labels.get("fermi_level")
    try:
        graph = graph_from_atoms(
            frame.atoms,
            elements,
            cutoff,
            dtype,
            total_charge=frame.total_charge,
            fermi_level=0.0 if level is None else float(level),
            external_field=frame.external_field.tolist(),
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
    labels = Labels(*(part.to(device) for part in batch.labels))
    return Batch(graph_to_device(batch.graph, device), labels, batch.num_atoms.to(device), batch.indices)


def batches(
    samples: Sequence[Sample],
    size: int,
    seed: int | None = None,
    device: torch.device | None = None,
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
        order = [
            index
            for begin in range(0, len(order), window)
            for index in sorted(order[begin : begin + window], key=lengths.__getitem__)
        ]
        chunks = [order[begin : begin + size] for begin in range(0, len(order), size)]
        chunks = [chunks[place] for place in torch.randperm(len(chunks), generator=generator).tolist()]
    for chunk in chunks:
        yield batch_samples(samples, chunk, device)


def _labels(frame: Frame, dtype: torch.dtype) -> Labels:
    atoms = len(frame.atoms)
    values: dict[str, Tensor] = {}
    weights: dict[str, Any] = {}
    for name, (shape, per_atom) in LABELS.items():
        full = (atoms, *shape) if per_atom else (1, *shape)
        value = frame.labels[name]
        missing = float("nan") if name == "fermi_level" else 0.0
        kind = {"energy": torch.float64, "molecules": torch.int64}.get(name, dtype)
        values[name] = (
            torch.full(full, missing, dtype=kind) if value is None else torch.tensor(value, dtype=kind).reshape(full)
        )
        weights[name] = 0.0 if value is None else frame.weights[name]
    if frame.labels["forces"] is None:
        weights["molecules"] = 0.0
    axes = _open_axes(frame)
    # a weight for each axis is taken at its word
    dipole_weight = weights["dipole"] if np.ndim(weights["dipole"]) else axes * weights["dipole"]

    def each(name: str, *shape: int) -> Tensor:
        return torch.full(shape, weights[name], dtype=dtype)

    return Labels(
        energy=values["energy"],
        forces=values["forces"],
        stress=values["stress"],
        multipoles=values["atomic_multipoles"],
        dipole=values["dipole"],
        fermi_level=values["fermi_level"],
        potentials=values["electrostatic_potentials"],
        polarizability=values["polarizability"],
        born_charges=values["born_charges"],
        molecules=values["molecules"],
        energy_weight=each("energy", 1),
        forces_weight=each("forces", atoms, 1),
        stress_weight=each("stress", 1, 1, 1),
        multipoles_weight=each("atomic_multipoles", atoms, 1),
        dipole_weight=torch.tensor(dipole_weight, dtype=dtype).reshape(1, 3),
        fermi_level_weight=each("fermi_level", 1),
        potentials_weight=each("electrostatic_potentials", atoms),
        polarizability_weight=torch.tensor(np.outer(axes, axes) * weights["polarizability"], dtype=dtype)[None],
        born_charges_weight=torch.tensor(axes * weights["born_charges"], dtype=dtype).repeat(atoms, 1, 1),
        molecules_weight=each("molecules", 1),
        weight=torch.full((1,), float(frame.atoms.info.get("config_weight", 1.0)), dtype=dtype),
    )


def _open_axes(frame: Frame) -> np.ndarray:
    """Cartesian axes without a component of a periodic cell vector (3,): those along which a dipole is defined."""
    periodic = frame.atoms.cell.array[frame.atoms.pbc]
    return ~(np.abs(periodic) > 1e-8).any(axis=0) if len(periodic) else np.ones(3, dtype=bool)
