"""The electrostatic potential at the nuclei: the Gaussian multipoles received at points.

    v(r_i) = ∫ rho(r) / (4 pi eps0 |r - r_i|) dr,

the atom's own Gaussian included; isolated structures by the erf kernels with W = sigma, others by the sum over waves,
with kernels truncated along open axes.  With three periodic axes k = 0 is left out: the average potential of the cell
is zero.
"""

import math

import torch
from torch import Tensor

from ..units import COULOMB
from .boundary import padded_box
from .operator import Electrostatics
from .pairs import all_pairs, apply_pairs, pair_tensors, self_kernels
from .reciprocal import PRECISION, open_cutoff, prepare_waves, receive

#: a point sees waves that are √2 shorter than a Gaussian of the width of the density does, to the same accuracy
CUTOFF_FACTOR = math.sqrt(2.0)


def potentials_at_nuclei(
    electrostatics: Electrostatics, positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, density: Tensor
) -> Tensor:
    """Potential ``(n,)`` in V of the densities ``(n, 4)`` at ``positions`` ``(n, 3)``, differentiable by both.

    ``electrostatics`` gives the width of the density and the cutoff; ``cell`` ``(B, 3, 3)``, ``pbc`` ``(B, 3)`` and
    ``batch`` ``(n,)`` as in `graph.Graph`, in one process.
    """
    sigma = electrostatics.combined[-1:].to(positions.dtype) / math.sqrt(2.0)
    isolated = torch.logical_not(pbc.any(dim=1))
    charge, _ = self_kernels(sigma)
    out = torch.where(isolated[batch], COULOMB * charge, 0.0) * density[:, 0]
    i, j = all_pairs(batch, isolated)
    if i.shape[0] > 0:
        tensors = pair_tensors(positions, positions, i, j, sigma)
        out = out + apply_pairs(tensors, i, j, density, out.shape[0])[:, 0, 0]
    for g in torch.nonzero(torch.logical_not(isolated)).squeeze(1).tolist():
        rows = torch.nonzero(batch == g).squeeze(1)
        open_axes = torch.logical_not(pbc[g]).tolist()
        box = padded_box(positions[rows], cell[g], open_axes, float(sigma), PRECISION, False)
        cutoff = open_cutoff(float(sigma)) if any(open_axes) else CUTOFF_FACTOR * electrostatics.kspace_cutoff
        waves = prepare_waves(positions[rows], box, cutoff, sigma.to(torch.float64), 0)
        out = out.index_add(0, rows, receive(waves, density[rows], 0, 1, False)[:, 0, 0])
    return out
