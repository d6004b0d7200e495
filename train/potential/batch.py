"""Batches of structures with their labels as tensors."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...graph import Graph
from ...graph import to_device as graph_to_device
from ...nets import charges_only


class Labels(NamedTuple):
    """Reference values of a batch of B structures with N atoms and their weights (0 where the label is missing)."""

    energy: Tensor  #: (B,) eV, float64
    forces: Tensor  #: (N, 3) eV/Å
    stress: Tensor  #: (B, 3, 3) eV/Å³
    multipoles: Tensor  #: (N, 4) e, e·Å; q d_y d_z d_x
    dipole: Tensor  #: (B, 3) e·Å, about the origin of the field
    fermi_level: Tensor  #: (B,) eV, NaN where missing
    potentials: Tensor  #: (N,) V, at the nuclei
    polarizability: Tensor  #: (B, 3, 3) e·Å²/V
    born_charges: Tensor  #: (N, 3, 3) e; position, dipole
    molecules: Tensor  #: (N,) int64, number of the molecule within its structure
    fragments: Tensor  #: (N,) int64, as given, else the molecule, else by bonds
    energy_weight: Tensor  #: (B,)
    forces_weight: Tensor  #: (N, 1)
    stress_weight: Tensor  #: (B, 1, 1)
    multipoles_weight: Tensor  #: (N, 4)
    dipole_weight: Tensor  #: (B, 3), 0 along periodic axes unless given for each axis
    fermi_level_weight: Tensor  #: (B,)
    potentials_weight: Tensor  #: (N,)
    polarizability_weight: Tensor  #: (B, 3, 3), 0 where an axis is periodic
    born_charges_weight: Tensor  #: (N, 1, 3), 0 for the dipole along periodic axes
    molecules_weight: Tensor  #: (B,), 0 without forces, too
    fragments_weight: Tensor  #: (B,), that of the charges, and their own
    flow_weight: Tensor  #: (B, 3), of the structure and its fragments, 0 along periodic axes
    weight: Tensor  #: (B,) of the structure, for terms without a label


class Batch(NamedTuple):
    """B structures with their labels."""

    graph: Graph
    labels: Labels
    num_atoms: Tensor  #: (B,) in the precision of the positions
    indices: list[int]  #: (B,) places of the structures in their set
    whole: tuple[int, int] | None = None  #: structures and atoms of the batch that this is a part of

    def share(self, per_atom: bool) -> float:
        """Factor from a mean over this part's structures (or atoms) to its share of the mean over the whole batch.

        n_part / n_batch, n counting atoms if ``per_atom`` and structures if not; 1 for a batch that is no part.
        """
        if self.whole is None:
            return 1.0
        structures, atoms = self.whole
        return self.graph.batch.shape[0] / atoms if per_atom else len(self.indices) / structures


def with_charges_only(batch: Batch) -> Batch:
    """The batch as a model without dipoles sees it: reference dipoles of atoms are zero, and the weight of the charges
    is such that means over the four stored components are means over the charges."""
    labels = batch.labels
    weight = 4.0 * charges_only(labels.multipoles_weight)
    return batch._replace(labels=labels._replace(multipoles=charges_only(labels.multipoles), multipoles_weight=weight))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with all its tensors on ``device``."""
    labels = Labels(*(part.to(device) for part in batch.labels))
    graph = graph_to_device(batch.graph, device)
    return batch._replace(graph=graph, labels=labels, num_atoms=batch.num_atoms.to(device))
