"""The terms of the loss.

Each term is a mean over the batch, weighted per structure (``config_weight`` times ``config_<label>_weight``; zero
where the label is missing); the denominators count all structures, atoms or components of the batch. With B
structures of N_g atoms:

    energy_per_atom       mean_g  w ((E − E*)/N_g)²
    forces                mean over atoms and x, y, z of  w (F − F*)²
    stress                mean over structures and components of  w (σ − σ*)²
    atomic_multipoles     mean over atoms and components of  w (p − p*)²
    total_charge          mean_g  w (Q* − Σq)²,            ..._per_atom: divided by N_g inside the square
    dipole                mean over structures and x, y, z of  w (d − d*)², periodic axes skipped, ..._per_atom
    fermi_level           mean_g  w (μ − μ*)², ..._per_atom
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from .data import Batch

Output = dict[str, Tensor]


def energy_per_atom(output: Output, batch: Batch) -> Tensor:
    """Squared error of the energy per atom, eV²."""
    error = (output["energy"] - batch.labels.energy) / batch.num_atoms
    return (batch.labels.energy_weight * error.square()).mean()


def forces(output: Output, batch: Batch) -> Tensor:
    """Squared error of the force components, (eV/Å)²."""
    return (batch.labels.forces_weight * (output["forces"] - batch.labels.forces).square()).mean()


def stress(output: Output, batch: Batch) -> Tensor:
    """Squared error of the stress components, (eV/Å³)²; open structures have no label and no stress."""
    known = batch.labels.stress_weight > 0
    error = torch.where(known, output["stress"] - batch.labels.stress, 0.0)
    return (batch.labels.stress_weight * error.square()).mean()


def atomic_multipoles(output: Output, batch: Batch) -> Tensor:
    """Squared error of charges and dipoles of the atoms, e² and (e·Å)²."""
    return (batch.labels.multipoles_weight * (output["density"] - batch.labels.multipoles).square()).mean()


def _charge_error(output: Output, batch: Batch) -> Tensor:
    charge = torch.zeros_like(batch.graph.total_charge).index_add(0, batch.graph.batch, output["density"][:, 0])
    return batch.graph.total_charge - charge


def total_charge(output: Output, batch: Batch) -> Tensor:
    """Squared error of the total charge, e²."""
    return (batch.labels.total_charge_weight * _charge_error(output, batch).square()).mean()


def total_charge_per_atom(output: Output, batch: Batch) -> Tensor:
    """Squared error of the total charge per atom, e²."""
    error = _charge_error(output, batch) / batch.num_atoms
    return (batch.labels.total_charge_weight * error.square()).mean()


def dipole(output: Output, batch: Batch) -> Tensor:
    """Squared error of the dipole along the open axes, (e·Å)²."""
    return (batch.labels.dipole_weight * (output["dipole"] - batch.labels.dipole).square()).mean()


def dipole_per_atom(output: Output, batch: Batch) -> Tensor:
    """Squared error of the dipole per atom along the open axes, (e·Å)²."""
    error = (output["dipole"] - batch.labels.dipole) / batch.num_atoms[:, None]
    return (batch.labels.dipole_weight * error.square()).mean()


def _level_error(output: Output, batch: Batch) -> Tensor:
    known = batch.labels.fermi_level_weight > 0
    return torch.where(known, output["fermi_level"] - batch.labels.fermi_level.nan_to_num(), 0.0)


def fermi_level(output: Output, batch: Batch) -> Tensor:
    """Squared error of the Fermi level, eV²."""
    return (batch.labels.fermi_level_weight * _level_error(output, batch).square()).mean()


def fermi_level_per_atom(output: Output, batch: Batch) -> Tensor:
    """Squared error of the Fermi level over the number of atoms, eV²."""
    error = _level_error(output, batch) / batch.num_atoms
    return (batch.labels.fermi_level_weight * error.square()).mean()


#: name in the training file -> term
LOSSES: dict[str, Callable[[Output, Batch], Tensor]] = {
    term.__name__: term
    for term in (
        energy_per_atom,
        forces,
        stress,
        atomic_multipoles,
        total_charge,
        total_charge_per_atom,
        dipole,
        dipole_per_atom,
        fermi_level,
        fermi_level_per_atom,
    )
}

#: names of the terms that need derivatives with respect to positions, and to the strain
NEEDS_FORCES = frozenset({"forces"})
NEEDS_STRESS = frozenset({"stress"})

#: names of the terms that are means over atoms; all others are means over structures
PER_ATOM = frozenset({"forces", "atomic_multipoles"})


def weighted_loss(output: Output, batch: Batch, weights: dict[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """Sum of ``weights[name] * LOSSES[name]`` and the terms themselves, without their weights and detached.

    Of a part of a batch they are its shares of those of the batch, so that those of all parts add up to them.
    """
    terms = {name: batch.share(name in PER_ATOM) * LOSSES[name](output, batch) for name in weights}
    total = sum((weights[name] * term.to(torch.float64) for name, term in terms.items()), start=torch.tensor(0.0))
    return total, {name: term.detach() for name, term in terms.items()}


def needs(weights: Iterable[str]) -> tuple[bool, bool]:
    """Whether the terms need forces, and whether they need the stress."""
    names = set(weights)
    return bool(names & NEEDS_FORCES), bool(names & NEEDS_STRESS)
