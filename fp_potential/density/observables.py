"""What is observed of a density: energy, charge, dipole, stress; the one place for each.

`evaluate`, the training modes and the trace of a loop find them here, so that they cannot differ.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..graph import Graph
from ..lattice import cell_volume


class Observables(NamedTuple):
    """Energy terms per owned atom ``(n,)``, eV (float64), and the potential at the atoms ``(n,)``, V."""

    local: Tensor
    nonlocal_: Tensor
    coulomb: Tensor
    field: Tensor
    potential: Tensor


def total_energy(terms: Observables, density: Tensor, level: Tensor, batch: Tensor, constant_charge: bool) -> Tensor:
    """Energy per atom ``(n,)`` in eV, float64, whose sum is E at constant charge and Ω = E + μ Q at fixed Fermi level.

    Args:
        density: ``(n, 4)``.
        level: ``(B,)`` absolute Fermi level μ, eV.
    """
    atomic = terms.local + terms.nonlocal_ + terms.coulomb + terms.field
    if not constant_charge:
        atomic = atomic + (level[batch] * density[:, 0]).to(torch.float64)
    return atomic


def charge_and_dipole(density: Tensor, positions: Tensor) -> Tensor:
    """Charge and Cartesian dipole about the origin per atom ``(n, 4)``: [q, q r + d], e and e Å, at ``(n, 3)``."""
    return torch.cat([density[:, :1], density[:, :1] * positions + density[:, [3, 1, 2]]], dim=1)


def dipole_source(positions: Tensor, axis: int) -> Tensor:
    """Derivative ``(n, 4)`` of a component of the dipole Σ q r + d by the density, at ``positions`` ``(n, 3)``."""
    source = torch.zeros_like(positions[:, [0, 0, 0, 0]])
    source[:, 0] = positions[:, axis]
    source[:, 1 + (axis + 2) % 3] = 1.0
    return source


def stress_of(by_strain: Tensor, graph: Graph) -> Tensor:
    """Stress ``(B, 3, 3)``, eV/Å³, of derivatives by the strain: zero for open structures.

    The volume is that of the cell, the vectors of open axes included; where those are missing it is the area or length
    of the periodic vectors.
    """
    volume = cell_volume(graph.cell)[:, None, None]
    return torch.where(graph.pbc.any(1)[:, None, None], by_strain / volume, torch.zeros_like(by_strain))
