"""What is observed of a density: energy terms, total energy, charge, dipole and stress."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..graph import Graph
from ..lattice import cell_volume


def stress_of(by_strain: Tensor, graph: Graph) -> Tensor:
    """Stress ``(B, 3, 3)``, eV/Å³, of derivatives by the strain: zero for open structures.

    The volume is that of the cell, the vectors of open axes included; where those are missing it is the area or length
    of the periodic vectors.
    """
    volume = cell_volume(graph.cell)[:, None, None]
    return torch.where(graph.pbc.any(1)[:, None, None], by_strain / volume, torch.zeros_like(by_strain))


def dipole_source(positions: Tensor, axis: int) -> Tensor:
    """Derivative ``(n, 4)`` of a component of the dipole sum q r + d by the density, at ``positions`` ``(n, 3)``."""
    source = torch.zeros_like(positions[:, [0, 0, 0, 0]])
    source[:, 0] = positions[:, axis]
    source[:, 1 + (axis + 2) % 3] = 1.0
    return source


class Observables(NamedTuple):
    """Energy terms per owned atom, eV (float64), and the potential at the atoms, V."""

    local: Tensor
    nonlocal_: Tensor
    coulomb: Tensor
    field: Tensor
    potential: Tensor
