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
from .batching import plan
from .errors import InputError
from .frames import LABELS, Frame


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
    whole: tuple[int, int] | None = None  #: structures and atoms of the batch that this is a part of

    def share(self, per_atom: bool) -> float:
        """Factor from a mean over this part's structures (or atoms) to its share of the mean over the whole batch."""
        if self.whole is None:
            return 1.0
        structures, atoms = self.whole
        return self.graph.batch.shape[0] / atoms if per_atom else len(self.indices) / structures


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
    graph = graph_to_device(batch.graph, device)
    return batch._replace(graph=graph, labels=labels, num_atoms=batch.num_atoms.to(device))


def planned(
    samples: Sequence[Sample],
    size: int,
    seed: int | None = None,
    max_atoms: int | None = None,
    group_by_size: bool = False,
) -> list[list[int]]:
    """Places of the structures of each batch (`batching.plan`); grouped by size where there is a ``seed``."""
    atoms = [sample.graph.batch.shape[0] for sample in samples]
    neighbours = None
    if group_by_size and seed is not None:
        neighbours = [int(torch.bincount(sample.graph.edge_index[0], minlength=1).max()) for sample in samples]
    return plan(atoms, size, seed, max_atoms, neighbours)


def batches(
    samples: Sequence[Sample],
    size: int,
    seed: int | None = None,
    device: torch.device | None = None,
    group_by_size: bool = False,
) -> Iterator[Batch]:
    """Batches of ``size`` structures: as they are, or in an order fixed by ``seed``."""
    for chunk in planned(samples, size, seed, group_by_size=group_by_size):
        yield batch_samples(samples, chunk, device)


def _labels(frame: Frame, dtype: torch.dtype) -> Labels:
    atoms = len(frame.atoms)
    values: dict[str, Tensor] = {}
    weights: dict[str, Any] = {}
    for name, (shape, per_atom) in LABELS.items():
        full = (atoms, *shape) if per_atom else (1, *shape)
        value = frame.labels[name]
        missing = float("nan") if name == "fermi_level" else 0.0
        kind = torch.float64 if name == "energy" else dtype
        values[name] = (
            torch.full(full, missing, dtype=kind) if value is None else torch.tensor(value, dtype=kind).reshape(full)
        )
        weights[name] = 0.0 if value is None else frame.weights[name]
    periodic = frame.atoms.cell.array[frame.atoms.pbc]
    open_axes = ~(np.abs(periodic) > 1e-8).any(axis=0) if len(periodic) else np.ones(3, dtype=bool)
    return Labels(
        energy=values["energy"],
        forces=values["forces"],
        stress=values["stress"],
        multipoles=values["atomic_multipoles"],
        dipole=values["dipole"],
        fermi_level=values["fermi_level"],
        energy_weight=torch.full((1,), weights["energy"], dtype=dtype),
        forces_weight=torch.full((atoms, 1), weights["forces"], dtype=dtype),
        stress_weight=torch.full((1, 1, 1), weights["stress"], dtype=dtype),
        multipoles_weight=torch.full((atoms, 1), weights["atomic_multipoles"], dtype=dtype),
        dipole_weight=torch.tensor(open_axes * weights["dipole"], dtype=dtype).reshape(1, 3),
        fermi_level_weight=torch.full((1,), weights["fermi_level"], dtype=dtype),
        total_charge_weight=torch.full((1,), float(frame.atoms.info.get("config_weight", 1.0)), dtype=dtype),
    )
