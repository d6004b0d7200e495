"""Gaussian charges and dipoles by the exact sum over waves (`reciprocal`), for any periodicity.

    S(k) = sum_i (q_i - i k·d_i) exp(-i k·r_i),
    <v>_n(r_i) = (2 k_e / V) sum_{k, half} g(k) exp(-k² W_n²/2) Re[S(k) exp(i k·r_i)],   W_n² = sigma² + sigma_n²,

with the kernel g of `kernels`; k = 0 counts once, where it is not left out (three periodic axes: uniform background).
<grad v> is the same sum with i k.

Source: the part in reciprocal space of Ewald's sum, Ann. Phys. 369, 253 (1921), doi:10.1002/andp.19213690304, which for
Gaussian densities is all of it.  Without k = 0 the surroundings are a conductor: de Leeuw, Perram and Smith,
Proc. R. Soc. A 373, 27 (1980), doi:10.1098/rspa.1980.0135.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..communication import sum_ranks
from ..lattice import cell_volume, half_sphere, reciprocal_cell
from ..units import COULOMB
from .boundary import Box, padded_cell
from .kernels import coulomb_kernel

#: what the sum leaves out where axes are open: exp(-k² W²/2) of the narrowest width at the cutoff
PRECISION = 1e-10


class WaveTables(NamedTuple):
    """What the geometry of a structure decides."""

    begin: int  #: first and last+1 atom
    end: int
    cos: Tensor  #: (n, K)
    sin: Tensor
    k: Tensor  #: (K, 3), order (y, z, x)
    filters: Tensor  #: (K, m)


def detach_waves(tables: WaveTables) -> WaveTables:
    """The same without gradients."""
    t = tables
    return WaveTables(t.begin, t.end, t.cos.detach(), t.sin.detach(), t.k.detach(), t.filters.detach())


def open_cutoff(narrowest: float, precision: float = PRECISION) -> float:
    """Largest k (1/Å) where axes are open, for the narrowest combined width (Å)."""
    return math.sqrt(2.0 * math.log(1.0 / precision)) / narrowest


def prepare_waves(
    positions: Tensor, box: Box, cutoff: float, widths: Tensor, begin: int, constant: float = COULOMB
) -> WaveTables:
    """Tables of the atoms at ``positions`` ``(n, 3)`` for combined widths W ``(m,)``, with gradients.

    The ``filters`` are (2 k_e / V) g(k) exp(-k² W²/2), half of it for k = 0; ``cutoff`` is the largest k, 1/Å, and
    ``begin`` the row of the first of these atoms in the batch.
    """
    dtype = positions.dtype
    cell = padded_cell(box, box.lengths)
    n = half_sphere(cell, cutoff)
    if box.n_open > 0:
        n = torch.cat([torch.zeros_like(n[:1]), n])
    vectors = reciprocal_cell(cell)
    k = torch.matmul(n, vectors)
    periodic = torch.zeros_like(k)
    open_ = torch.zeros_like(k[:, 0])
    for a in range(3):
        if box.open_axes[a]:
            open_ = open_ + (n[:, a] * (2.0 * math.pi / box.lengths[a])) ** 2
        else:
            periodic = periodic + n[:, a : a + 1] * vectors[a]
    kernel = coulomb_kernel((periodic * periodic).sum(1), open_, box.n_open, box.radius)
    weight = 2.0 * constant / cell_volume(cell) * kernel
    if box.n_open > 0:
        weight = torch.cat([0.5 * weight[:1], weight[1:]])
    filters = weight.unsqueeze(1) * torch.exp(-0.5 * (k * k).sum(1, keepdim=True) * (widths * widths))
    phase = torch.matmul(positions, k.to(dtype).t())
    end = begin + positions.shape[0]
    return WaveTables(begin, end, torch.cos(phase), torch.sin(phase), k[:, [1, 2, 0]].to(dtype), filters.to(dtype))


def structure_factors(tables: WaveTables, sources: Tensor, distributed: bool) -> Tensor:
    """Re and Im of S(k) for sources ``(n, m, 4)``: ``(2, K, m)``, summed over ranks where there are any."""
    n, m = sources.shape[0], sources.shape[1]
    flat = sources.reshape(n, m * 4)
    on_cos = torch.matmul(tables.cos.t(), flat).reshape(-1, m, 4)
    on_sin = torch.matmul(tables.sin.t(), flat).reshape(-1, m, 4)
    kk = tables.k.unsqueeze(1)
    real = on_cos[:, :, 0] - (kk * on_sin[:, :, 1:]).sum(2)
    imaginary = -on_sin[:, :, 0] - (kk * on_cos[:, :, 1:]).sum(2)
    factors = torch.stack([real, imaginary])
    if distributed:
        factors = sum_ranks(factors)
    return factors


def from_factors(tables: WaveTables, factors: Tensor) -> Tensor:
    """(<v>, <grad v>) ``(n, m, 4)`` of filtered structure factors ``(2, K, m)``."""
    real, imaginary = factors[0].unsqueeze(2), factors[1].unsqueeze(2)
    kk = tables.k.unsqueeze(1)
    for_cos = torch.cat([real, -kk * imaginary], dim=2)
    for_sin = torch.cat([-imaginary, -kk * real], dim=2)
    m = for_cos.shape[1]
    flat = torch.matmul(tables.cos, for_cos.reshape(-1, m * 4)) + torch.matmul(tables.sin, for_sin.reshape(-1, m * 4))
    return flat.reshape(tables.cos.shape[0], m, 4)


def receive(tables: WaveTables, density: Tensor, lo: int, hi: int, distributed: bool) -> Tensor:
    """Receivers lo … hi-1 ``(n, hi-lo, 4)`` of the field of ``density`` ``(n, 4)``."""
    factors = structure_factors(tables, density.unsqueeze(1), distributed)
    return from_factors(tables, factors * tables.filters[:, lo:hi])


def receive_transposed(tables: WaveTables, weights: Tensor, lo: int, hi: int, distributed: bool) -> Tensor:
    """Adjoint of `receive`: ``(n, hi-lo, 4)`` -> ``(n, 4)``."""
    factors = structure_factors(tables, weights, distributed)
    factors = (factors * tables.filters[:, lo:hi]).sum(2, keepdim=True)
    return from_factors(tables, factors)[:, 0]
