"""Gaussian charges and dipoles in periodic boundaries: the exact k-sum (`reciprocal`).

    S(k) = sum_i (q_i - i k·d_i) exp(-i k·r_i),
    <v>_n(r_i) = (2 / V eps0) sum_{k, half} exp(-k² W_n²/2) / k² Re[S(k) exp(i k·r_i)],   W_n² = sigma² + sigma_n²,

k = 0 left out (uniform background).  <grad v> is the same sum with i k.
"""

import torch
from torch import Tensor

from ..communication import sum_ranks
from ..lattice import cell_volume, half_sphere, reciprocal_cell
from ..units import INVERSE_EPSILON0


def prepare_phases(
    positions: Tensor, cell: Tensor, cutoff: float, constant: float = INVERSE_EPSILON0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tables of one structure: cos and sin ``(n, K)``, k in the order (y, z, x) ``(K, 3)``, 2/(V eps0 k²) ``(K,)``."""
    n = half_sphere(cell, cutoff)
    k = torch.matmul(n, reciprocal_cell(cell))
    phase = torch.matmul(positions, k.transpose(0, 1))
    weight = 2.0 * constant / (cell_volume(cell) * (k * k).sum(1))
    return torch.cos(phase), torch.sin(phase), k[:, [1, 2, 0]], weight


def structure_factors(sources: Tensor, cos: Tensor, sin: Tensor, k: Tensor, distributed: bool) -> Tensor:
    """Re and Im of S for sources ``(n, m, 4)``: ``(2, K, m)``, summed over ranks where there are any."""
    n, m = sources.shape[0], sources.shape[1]
    flat = sources.reshape(n, m * 4)
    on_cos = torch.matmul(cos.transpose(0, 1), flat).reshape(-1, m, 4)
    on_sin = torch.matmul(sin.transpose(0, 1), flat).reshape(-1, m, 4)
    kk = k.unsqueeze(1)
    real = on_cos[:, :, 0] - (kk * on_sin[:, :, 1:]).sum(2)
    imaginary = -on_sin[:, :, 0] - (kk * on_cos[:, :, 1:]).sum(2)
    factors = torch.stack([real, imaginary])
    if distributed:
        factors = sum_ranks(factors)
    return factors


def potentials_from_factors(factors: Tensor, cos: Tensor, sin: Tensor, k: Tensor) -> Tensor:
    """(<v>, <grad v>) ``(n, m, 4)`` of filtered structure factors ``(2, K, m)``."""
    real, imaginary = factors[0].unsqueeze(2), factors[1].unsqueeze(2)
    kk = k.unsqueeze(1)
    for_cos = torch.cat([real, -kk * imaginary], dim=2)
    for_sin = torch.cat([-imaginary, -kk * real], dim=2)
    m = for_cos.shape[1]
    flat = torch.matmul(cos, for_cos.reshape(-1, m * 4)) + torch.matmul(sin, for_sin.reshape(-1, m * 4))
    return flat.reshape(cos.shape[0], m, 4)


def gaussian_filters(k: Tensor, weight: Tensor, widths: Tensor) -> Tensor:
    """weight(k) exp(-k² W²/2) for combined widths W ``(m,)``: ``(K, m)``."""
    k2 = (k * k).sum(1, keepdim=True)
    return weight.unsqueeze(1) * torch.exp(-0.5 * k2 * (widths * widths))
