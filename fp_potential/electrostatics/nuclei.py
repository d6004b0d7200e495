"""The electrostatic potential at the nuclei: the Gaussian multipoles received at points.

    v(r_i) = ∫ rho(r) / (4 pi eps0 |r - r_i|) dr,

the atom's own Gaussian included; open structures by the erf kernels with W = sigma, periodic ones by the k-sum without
k = 0, so that the average potential of the cell is zero.
"""

import math

import torch
from torch import Tensor

from ..units import COULOMB
from .open_boundary import all_pairs, apply_pairs, pair_tensors, self_kernels
from .operator import Electrostatics
from .reciprocal import gaussian_filters, potentials_from_factors, prepare_phases, structure_factors

#: a point sees waves that are √2 shorter than a Gaussian of the width of the density does, to the same accuracy
CUTOFF_FACTOR = math.sqrt(2.0)


def potentials_at_nuclei(
    electrostatics: Electrostatics, positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, density: Tensor
) -> Tensor:
    """Potential ``(n,)`` in V of the densities ``(n, 4)`` at ``positions`` ``(n, 3)``, differentiable by both."""
    sigma = electrostatics.combined[-1:].to(positions.dtype) / math.sqrt(2.0)
    periodic = pbc.all(dim=1)
    charge, _ = self_kernels(sigma)
    out = torch.where(periodic[batch], 0.0, COULOMB * charge) * density[:, 0]
    i, j = all_pairs(batch, torch.logical_not(periodic))
    if i.shape[0] > 0:
        out = out + apply_pairs(pair_tensors(positions, i, j, sigma), i, j, density)[:, 0, 0]
    for g in torch.nonzero(periodic).squeeze(1).tolist():
        rows = torch.nonzero(batch == g).squeeze(1)
        cutoff = CUTOFF_FACTOR * electrostatics.kspace_cutoff
        cos, sin, k, weight = prepare_phases(positions[rows], cell[g], cutoff)
        factors = structure_factors(density[rows].unsqueeze(1), cos, sin, k, False) * gaussian_filters(k, weight, sigma)
        out = out.index_add(0, rows, potentials_from_factors(factors, cos, sin, k)[:, 0, 0])
    return out
