"""Frames as tensors: samples with their neighbour lists and labels, and batches of them.

A label that a frame does not have is zero (the Fermi level NaN) and has weight zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple, overload

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ...conduction.fragments import fragments_of
from ...graph import Graph, collate, graph_from_atoms
from ...periodicity import field_origin, open_axes
from ..data.frame import GROUPS, LABELS, Frame
from ..data.frame_sequence import FrameSequence
from ..data.neighbours import frame_neighbours, neighbour_lists
from ..data.prepared_set import PreparedSet
from ..errors import InputError
from ..progress import track
from ..trainer.batching import plan
from .batch import Batch, Labels, to_device

#: samples read from the disk that are kept, for those that ask for the structures of a batch again
KEPT = 64


class Sample(NamedTuple):
    """One structure ready for batching."""

    graph: Graph
    labels: Labels
    kind: str


class Sizes(NamedTuple):
    """Size of every sample of a set."""

    atoms: np.ndarray  #: (n,) number of atoms
    edges: np.ndarray  #: (n,) pairs within the cutoff
    longest: np.ndarray  #: (n,) longest neighbour list of an atom


def sizes(samples: Sequence[Sample]) -> Sizes:
    """Sizes of the samples; known without reading them where they come from prepared sets."""
    if isinstance(samples, SampleSequence):
        return samples.sizes
    rows = [_size(sample) for sample in samples]
    return Sizes(*np.array(rows, np.int64).reshape(-1, 3).T)


def make_samples(
    frames: Sequence[Frame], elements: Sequence[int], cutoff: float, dtype: torch.dtype
) -> Sequence[Sample]:
    """Graphs and label tensors of ``frames``: made once, or, of prepared sets, each time they are asked for."""
    if isinstance(frames, FrameSequence):
        return SampleSequence(frames, elements, cutoff, dtype)
    return [make_sample(frame, elements, cutoff, dtype) for frame in track(frames, "neighbour lists")]


def rebuilt_lists(sets: Iterable[Sequence[Sample]]) -> list[str]:
    """A line for each prepared set whose neighbour lists are for another cutoff than the model's."""
    lines = [line for samples in sets if isinstance(samples, SampleSequence) for line in samples.rebuilt()]
    return list(dict.fromkeys(lines))


def make_sample(
    frame: Frame,
    elements: Sequence[int],
    cutoff: float,
    dtype: torch.dtype,
    neighbours: tuple[np.ndarray, np.ndarray] | None = None,
) -> Sample:
    """Graph and labels of one frame.

    Args:
        frame: the frame.
        elements: atomic numbers, the model's list.
        cutoff: of the neighbour list, Å.
        dtype: of positions and labels; energies are in double precision in any case.
        neighbours: its neighbour list (`data.neighbours.frame_neighbours`), if that is known already.

    Raises:
        InputError: naming the frame: an unknown element, two atoms in the same place, and errors of the graph.
    """
    level = frame.labels.get("fermi_level")
    neighbours = neighbours or frame_neighbours(frame, cutoff)
    try:
        graph = graph_from_atoms(
            frame.atoms,
            elements,
            cutoff,
            dtype,
            total_charge=frame.total_charge,
            fermi_level=0.0 if level is None else float(level),
            external_field=frame.external_field.tolist(),
            neighbours=neighbours,
            field_origin=field_origin(frame.atoms.cell.array, frame.atoms.pbc),
        )
    except ValueError as error:
        raise InputError(f"{frame.source}: {error}") from error
    return Sample(graph, _labels(frame, dtype), frame.kind)


class SampleSequence(Sequence[Sample]):
    """Samples of frames that are read when they are asked for.

    Args:
        frames: frames of prepared sets, and of lists.
        elements, cutoff, dtype: as for `make_sample`.
    """

    def __init__(self, frames: FrameSequence, elements: Sequence[int], cutoff: float, dtype: torch.dtype) -> None:
        self.frames = frames
        self._settings: tuple[list[int], float, torch.dtype] = (list(elements), cutoff, dtype)
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> SampleSequence: ...
    def __getitem__(self, index: int | slice) -> Sample | SampleSequence:
        if isinstance(index, slice):
            return SampleSequence(self.frames[index], *self._settings)
        if index not in self._kept:
            if len(self._kept) >= KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[index] = self._made(index)
        return self._kept[index]

    def rebuilt(self) -> list[str]:
        """Prepared sets whose neighbour lists are for another cutoff and are made anew for every batch."""
        cutoff = self._settings[1]
        prepared = [source for source in self.frames.sources if isinstance(source, PreparedSet)]
        return [
            f"{source.folder}: prepared with neighbour lists for {source.cutoff:g} Å, model.r_max is {cutoff:g} Å: "
            "they are made anew for every batch; fixedpoint prepare with this training file and --overwrite stores them"
            for source in prepared
            if source.cutoff != cutoff
        ]

    @cached_property
    def sizes(self) -> Sizes:
        """Sizes of all samples."""
        if self.rebuilt():
            rows = np.array([_size(sample) for sample in self], np.int64).reshape(-1, 3)
        else:
            rows = self.frames.gather(
                lambda source: np.stack([source.column(name) for name in Sizes._fields], axis=1),
                lambda frame: _size(make_sample(frame, *self._settings)),
                np.int64,
            )
        return Sizes(*rows.T)

    def _made(self, index: int) -> Sample:
        elements, cutoff, dtype = self._settings
        frame = self.frames[index]
        return make_sample(frame, elements, cutoff, dtype, neighbour_lists(self.frames, index, frame, cutoff))


def _size(sample: Sample) -> tuple[int, int, int]:
    receivers = sample.graph.edge_index[0]
    return sample.graph.batch.shape[0], receivers.shape[0], int(torch.bincount(receivers, minlength=1).max())


def batch_samples(samples: Sequence[Sample], indices: Sequence[int], device: torch.device | None = None) -> Batch:
    """The samples ``indices`` as one batch on ``device``."""
    chosen = [samples[index] for index in indices]
    graph = collate([sample.graph for sample in chosen])
    labels = Labels(*(torch.cat(parts) for parts in zip(*(sample.labels for sample in chosen), strict=True)))
    atoms = torch.tensor([sample.graph.batch.shape[0] for sample in chosen], dtype=graph.positions.dtype)
    batch = Batch(graph, labels, atoms, list(indices))
    return batch if device is None or device.type == "cpu" else to_device(batch, device)


def planned(
    extent: Sizes,
    size: int,
    seed: int | None = None,
    max_atoms: int | None = None,
    group_by_size: bool = False,
) -> list[list[int]]:
    """Places of the structures of each batch (`trainer.batching.plan`).

    Args:
        extent: sizes of the structures.
        size: structures per batch.
        seed: of their order; none: as they are.
        max_atoms: largest number of atoms of a batch, in place of ``size``.
        group_by_size: put similar ones into the same batch, where there is a ``seed``.
    """
    neighbours = extent.longest.tolist() if group_by_size and seed is not None else None
    return plan(extent.atoms.tolist(), size, seed, max_atoms, neighbours)


def batches(
    samples: Sequence[Sample],
    size: int,
    seed: int | None = None,
    device: torch.device | None = None,
    group_by_size: bool = False,
) -> Iterator[Batch]:
    """Batches of ``size`` structures: as they are, or in an order fixed by ``seed``."""
    for chunk in planned(sizes(samples), size, seed, group_by_size=group_by_size):
        yield batch_samples(samples, chunk, device)


def _labels(frame: Frame, dtype: torch.dtype) -> Labels:
    atoms = len(frame.atoms)
    values: dict[str, Tensor] = {}
    weights: dict[str, Any] = {}
    for name, (shape, per_atom) in LABELS.items():
        full = (atoms, *shape) if per_atom else (1, *shape)
        value = frame.labels[name]
        missing = float("nan") if name == "fermi_level" else 0.0
        kind = torch.int64 if name in GROUPS else torch.float64 if name == "energy" else dtype
        values[name] = (
            torch.full(full, missing, dtype=kind) if value is None else torch.tensor(value, dtype=kind).reshape(full)
        )
        weights[name] = 0.0 if value is None else frame.weights[name]
    if frame.labels["forces"] is None:
        weights["molecules"] = 0.0
    cell, pbc = frame.atoms.cell.array, frame.atoms.pbc
    axes = open_axes(cell, pbc)
    # dipoles of models are about the origin of the field, those of files about that of the coordinates
    values["dipole"] = values["dipole"] - frame.total_charge * torch.tensor(field_origin(cell, pbc), dtype=dtype)

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
        fragments=_fragments(frame, values),
        energy_weight=each("energy", 1),
        forces_weight=each("forces", atoms, 1),
        stress_weight=each("stress", 1, 1, 1),
        multipoles_weight=torch.tensor(weights["atomic_multipoles"], dtype=dtype).expand(atoms, 4).contiguous(),
        dipole_weight=torch.tensor(weights["dipole"], dtype=dtype).expand(1, 3).contiguous(),
        fermi_level_weight=each("fermi_level", 1),
        potentials_weight=each("electrostatic_potentials", atoms),
        polarizability_weight=torch.tensor(np.outer(axes, axes) * weights["polarizability"], dtype=dtype)[None],
        born_charges_weight=torch.tensor(axes * weights["born_charges"], dtype=dtype).repeat(atoms, 1, 1),
        molecules_weight=each("molecules", 1),
        fragments_weight=torch.full(
            (1,), np.ravel(weights["atomic_multipoles"])[0] * _fragments_factor(frame), dtype=dtype
        ),
        flow_weight=torch.tensor(axes * frame.weights["structure"] * _fragments_factor(frame), dtype=dtype)[None],
        weight=torch.full((1,), frame.weights["structure"], dtype=dtype),
    )


def _fragments(frame: Frame, values: dict[str, Tensor]) -> Tensor:
    """Number of the fragment of each atom ``(n,)``, or of its molecule, as given, else by bonds."""
    for name in ("fragments", "molecules"):
        if frame.labels[name] is not None:
            return values[name]
    # bonds alone: prepared sets do not hold the arrays of the files
    atoms = Atoms(frame.atoms.numbers, frame.atoms.positions, cell=frame.atoms.cell, pbc=frame.atoms.pbc)
    return torch.from_numpy(fragments_of(atoms).of_atom)


def _fragments_factor(frame: Frame) -> float:
    """What the weight of the structure is multiplied with for its fragments, where these are given."""
    overall = frame.weights["structure"]
    return frame.weights["fragments"] / overall if frame.labels["fragments"] is not None and overall > 0 else 1.0
