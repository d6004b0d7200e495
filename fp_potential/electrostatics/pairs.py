"""Gaussian charges and dipoles in open boundaries: analytic erf kernels (`open`).

With R = r_i - r_j and W² = sigma² + sigma_n²,

    B_0 = erf(R / (sqrt 2 W)) / R,   B_{n+1} = [(2n+1) B_n - sqrt(2/pi) W^{-(2n+1)} exp(-R²/2W²)] / R²,

a charge q and a dipole d at j give at i the averaged potential and gradient

    <v> = k_e [q B_0 + d·R B_1],    <grad v> = k_e [-q R B_1 + d B_1 - (d·R) R B_2].

Source: the recursion is B_{n+1} = -(1/R) dB_n/dR, as for the screened multipoles of Toukmaji et al., J. Chem. Phys.
113, 10913 (2000), doi:10.1063/1.1324708, eq. 2.8, with erf in the place of erfc and 1/(√2 W) in that of their alpha.
"""

import math

import torch
from torch import Tensor

from ..units import COULOMB


def smeared_kernels(distance: Tensor, width: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """B_0, B_1, B_2 (Å^-1, Å^-3, Å^-5) for distances ``(n, 1)`` > 0 and combined widths W ``(m,)`` in Å."""
    gauss = math.sqrt(2.0 / math.pi) * torch.exp(-0.5 * (distance / width) ** 2)
    r2 = distance * distance
    b0 = torch.erf(distance / (math.sqrt(2.0) * width)) / distance
    b1 = (b0 - gauss / width) / r2
    b2 = (3.0 * b1 - gauss / width**3) / r2
    return b0, b1, b2


def self_kernels(width: Tensor) -> tuple[Tensor, Tensor]:
    """B_0 and B_1 at R = 0, sqrt(2/pi)/W and sqrt(2/pi)/(3 W³) (Å^-1, Å^-3), of any shape."""
    b0 = math.sqrt(2.0 / math.pi) / width
    return b0, b0 / (3.0 * width * width)


def all_pairs(batch: Tensor, selected: Tensor) -> tuple[Tensor, Tensor]:
    """Ordered pairs i != j ``(P,)`` of atoms in the same structure, for structures with ``selected`` ``(B,)`` true."""
    counts = torch.bincount(batch, minlength=selected.shape[0])
    counts = torch.where(selected, counts, torch.zeros_like(counts))
    first = torch.cumsum(torch.bincount(batch, minlength=selected.shape[0]), 0) - torch.bincount(
        batch, minlength=selected.shape[0]
    )
    receivers = torch.nonzero(selected[batch]).squeeze(1)
    repeats = counts[batch[receivers]]
    i = torch.repeat_interleave(receivers, repeats)
    start = torch.cumsum(repeats, 0) - repeats
    j = (
        torch.arange(i.shape[0], device=batch.device)
        - torch.repeat_interleave(start, repeats)
        + torch.repeat_interleave(first[batch[receivers]], repeats)
    )
    keep = i != j
    return i[keep], j[keep]


def pair_tensors(
    at: Tensor, positions: Tensor, i: Tensor, j: Tensor, widths: Tensor, constant: float = COULOMB
) -> Tensor:
    """Interaction blocks ``(P, m, 4, 4)``: (<v>, <grad v>) at i per (q, d) at j, components (0, y, z, x).

    Receivers are at rows i of ``at``, sources at rows j of ``positions``; ``widths`` ``(m,)`` are combined widths W.
    Evaluated in float64 (B_2 cancels at short distance) and returned in the dtype of ``positions``.
    """
    vector = (at[i] - positions[j]).to(torch.float64)[:, [1, 2, 0]]
    distance = vector.norm(p=2, dim=1, keepdim=True)
    b0, b1, b2 = smeared_kernels(distance, widths.to(torch.float64))
    outer = vector.unsqueeze(2) * vector.unsqueeze(1)
    eye = torch.eye(3, dtype=torch.float64, device=positions.device)
    dipole = b1[:, :, None, None] * eye - b2[:, :, None, None] * outer.unsqueeze(1)
    coupling = b1.unsqueeze(2) * vector.unsqueeze(1)
    top = torch.cat([b0.unsqueeze(2), coupling], dim=2).unsqueeze(2)
    bottom = torch.cat([-coupling.unsqueeze(3), dipole], dim=3)
    return (constant * torch.cat([top, bottom], dim=2)).to(positions.dtype)


def apply_pairs(tensors: Tensor, i: Tensor, j: Tensor, density: Tensor, receivers: int) -> Tensor:
    """Sum of pair contributions: density ``(n, 4)`` -> ``(receivers, m, 4)``."""
    contributions = (tensors * density[j][:, None, None, :]).sum(3)
    out = torch.zeros([receivers, tensors.shape[1], 4], dtype=density.dtype, device=density.device)
    return out.index_add(0, i, contributions)


def apply_pairs_transposed(tensors: Tensor, i: Tensor, j: Tensor, weights: Tensor, sources: int) -> Tensor:
    """Adjoint of `apply_pairs`: weights ``(n, m, 4)`` -> ``(sources, 4)``."""
    contributions = (tensors * weights[i].unsqueeze(3)).sum(dim=[1, 2])
    out = torch.zeros([sources, 4], dtype=weights.dtype, device=weights.device)
    return out.index_add(0, j, contributions)
