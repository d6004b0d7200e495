"""Volumes, reciprocal vectors and half spheres of waves of cells."""

import math

import torch
from torch import Tensor


def cell_volume(cell: Tensor) -> Tensor:
    """Volume |det| of cells ``(..., 3, 3)`` (rows are vectors, Å), of either handedness, Å³."""
    return torch.linalg.det(cell).abs()


def reciprocal_cell(cell: Tensor) -> Tensor:
    """Reciprocal vectors (rows, 1/Å) of cells ``(..., 3, 3)``: b_i · a_j = 2 pi delta_ij."""
    return 2.0 * math.pi * torch.linalg.inv(cell).transpose(-1, -2)


def half_sphere(cell: Tensor, cutoff: float) -> Tensor:
    """Integer triples n ``(K, 3)`` of one half of the sphere 0 < |n · B| <= cutoff (1/Å).

    Every pair ±n is represented once: n1 > 0, or n1 = 0 and n2 > 0, or n1 = n2 = 0 and n3 > 0.  The result has the
    dtype of ``cell`` ``(3, 3)`` and carries no gradient.  Along each axis |n_i| <= cutoff |a_i| / 2 pi.
    """
    cell64 = cell.detach().to(torch.float64)
    limits = torch.ceil(cutoff * cell64.norm(p=2, dim=1) / (2.0 * math.pi)).to(torch.int64)
    n1 = torch.arange(0, int(limits[0].item()) + 1, device=cell.device)
    n2 = torch.arange(-int(limits[1].item()), int(limits[1].item()) + 1, device=cell.device)
    n3 = torch.arange(-int(limits[2].item()), int(limits[2].item()) + 1, device=cell.device)
    n = torch.cartesian_prod(n1, n2, n3)
    half = (n[:, 0] > 0) | ((n[:, 0] == 0) & ((n[:, 1] > 0) | ((n[:, 1] == 0) & (n[:, 2] > 0))))
    n = n[half].to(torch.float64)
    k = torch.matmul(n, reciprocal_cell(cell64))
    return n[(k * k).sum(1) <= cutoff * cutoff].to(cell.dtype)
