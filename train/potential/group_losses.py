"""Terms of the loss on groups of atoms, fragments and molecules (`losses` has their formulas)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .batch import Batch
from .config.loss import Term
from .penalties import Output, mean_penalty


class _Groups(NamedTuple):
    """Groups of atoms of one structure that have the same number."""

    structure: Tensor  #: (M,)
    of_atom: Tensor  #: (N,)

    def total(self, x: Tensor) -> Tensor:
        """Sums ``(M, …)`` of values of atoms ``(N, …)``."""
        return x.new_zeros(len(self.structure), *x.shape[1:]).index_add(0, self.of_atom, x)

    def share(self, structures: int, dtype: torch.dtype) -> Tensor:
        """Weights ``(M,)`` with which a mean over all groups is one over structures of means over their groups."""
        of_structure = torch.bincount(self.structure)[self.structure].to(dtype)
        return len(self.structure) / (structures * of_structure)


def _grouped(numbers: Tensor, batch: Tensor) -> _Groups:
    found, of_atom = torch.unique(torch.stack([batch, numbers], 1), dim=0, return_inverse=True)
    return _Groups(found[:, 0], of_atom)


def fragment_charges(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the charges of fragments, e², a mean for each structure."""
    labels = batch.labels
    groups = _grouped(labels.fragments, batch.graph.batch)
    error = groups.total(output["density"][:, 0] - labels.multipoles[:, 0])
    weight = labels.fragments_weight[groups.structure] * groups.share(len(batch.num_atoms), error.dtype)
    return mean_penalty(error, weight, term)


def fragment_response(output: Output, batch: Batch, term: Term) -> Tensor:
    """Square of dQ_f/dE along open axes, (e·Å/V)², a mean for each structure."""
    groups = _grouped(batch.labels.fragments, batch.graph.batch)
    moved = groups.total(output["charges_by_field"])
    share = groups.share(len(batch.num_atoms), moved.dtype)
    return mean_penalty(moved, batch.labels.flow_weight[groups.structure] * share[:, None], term)


class _Molecules(NamedTuple):
    """The M molecules of a batch: atoms of one structure with the same number."""

    groups: _Groups
    weight: Tensor  #: (M,)
    error: Tensor  #: (M, 3) of the net force
    centre: Tensor  #: (M, 3) mean position


def _molecules(output: Output, batch: Batch) -> _Molecules:
    labels, graph = batch.labels, batch.graph
    groups = _grouped(labels.molecules, graph.batch)
    centre = groups.total(graph.positions) / groups.total(torch.ones_like(graph.positions))
    error = groups.total(output["forces"] - labels.forces)
    return _Molecules(groups, labels.molecules_weight[groups.structure], error, centre)


def molecular_forces(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the net force on each molecule, (eV/Å)², a mean for each structure."""
    molecules = _molecules(output, batch)
    share = molecules.groups.share(len(batch.num_atoms), molecules.error.dtype)
    return mean_penalty(molecules.error, (share * molecules.weight)[:, None], term)


def _virial_error(output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
    """Σ R_m·ΔF_m of each structure and its weight, zero for periodic ones."""
    molecules = _molecules(output, batch)
    work = (molecules.centre * molecules.error).sum(1)
    error = torch.zeros_like(batch.num_atoms).index_add(0, molecules.groups.structure, work)
    return error, torch.where(batch.graph.pbc.any(1), 0.0, batch.labels.molecules_weight)


def cluster_virial(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of the virial of the net forces on the molecules of open structures, eV²."""
    return mean_penalty(*_virial_error(output, batch), term)


def cluster_virial_per_atom(output: Output, batch: Batch, term: Term) -> Tensor:
    """Squared error of that virial per atom, eV²."""
    error, weight = _virial_error(output, batch)
    return mean_penalty(error / batch.num_atoms, weight, term)
