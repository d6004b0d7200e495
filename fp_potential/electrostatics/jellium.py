r"""A compensating jellium: a uniform slab that carries minus the total charge of a structure with two periodic axes.

A unit jellium has the charge 1 e spread evenly over the area A of the periodic vectors and the heights z0 … z1 along
their normal, L = z1 - z0, smeared with the density's Gaussian.  In the convention of one charged sheet,
-2π k_e |z| per charge and area, a Gaussian receiver (W² = sigma² + sigma_n²) at the height z finds

    V_n(z) = -2π k_e / (A L) ∫ F(z - z') dz' = -2π k_e / (A L) [G(z - z0) - G(z - z1)],
    F(t) = <|t + W ξ|> = t erf(t/√2W) + W √(2/π) exp(-t²/2W²),    G' = F,

and a jellium that receives itself (W² = 2 sigma²) the average J = -4π k_e / (A L²) H(L), H' = G.  With the slab of
charge -Q, Q = Σ_i q_i, the energy is ½ p·A p - Q V·p + ½ J Q², V received with the density's own width, so that the
operator stays linear, and symmetric for that width:

    A_n -> A_n - V_n e^T - e V^T + J e e^T,   e = 1 for charges, 0 for dipoles.

Its potentials do not depend on where charged sheets have their zero: the average over the slab is the zero of all.

Sources: G, H and J are integrals of F, done here; F is the mean of a folded normal distribution.  For slabs with a net
charge see Ballenegger, Arnold and Cerdà, J. Chem. Phys. 131, 094107 (2009), doi:10.1063/1.3216473.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ..communication import sum_ranks
from ..units import COULOMB


class Jellium(NamedTuple):
    """What a unit jellium does in one geometry, for m receivers."""

    field: Tensor  #: (n, m, 4) (<v>, <grad v>) at the owned atoms, components (0, y, z, x), V and V/Å per e
    potential: Tensor  #: (n, 4) the same, received with the density's own width
    own: Tensor  #: () J, V per e


def smeared_distance(t: Tensor, width: Tensor) -> Tensor:
    """F(t) = <|t + W ξ|> for a normal ξ, Å; ``t`` and ``width`` broadcast, here and below."""
    gauss = width * math.sqrt(2.0 / math.pi) * torch.exp(-0.5 * (t / width) ** 2)
    return t * torch.erf(t / (math.sqrt(2.0) * width)) + gauss


def integrated_distance(t: Tensor, width: Tensor) -> Tensor:
    """G(t) = ½ [(t² + W²) erf(t/√2W) + t W √(2/π) exp(-t²/2W²)], the integral of `smeared_distance` from 0, Å²."""
    gauss = width * math.sqrt(2.0 / math.pi) * torch.exp(-0.5 * (t / width) ** 2)
    return 0.5 * ((t * t + width * width) * torch.erf(t / (math.sqrt(2.0) * width)) + t * gauss)


def twice_integrated_distance(t: Tensor, width: Tensor) -> Tensor:
    """H(t), the integral of `integrated_distance` from 0, Å³.

    H = t (t²/6 + W²/2) erf(t/√2W) - W √(2/π) [W² (1 - e) - t² e / 2] / 3,   e = exp(-t²/2W²).
    """
    w2 = width * width
    exponential = torch.exp(-0.5 * t * t / w2)
    rest = math.sqrt(2.0 / math.pi) * width * (w2 * (1.0 - exponential) - 0.5 * t * t * exponential) / 3.0
    return 0.5 * t * (t * t / 3.0 + w2) * torch.erf(t / (math.sqrt(2.0) * width)) - rest


def slab_normal(cell: Tensor, pbc: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normal ``(3,)`` of the two periodic vectors of a cell ``(3, 3)``, and their area in Å².

    The largest component of the normal is positive: z is the height over a slab in the xy plane.
    """
    periodic = cell[torch.nonzero(pbc).squeeze(1)]
    normal = torch.linalg.cross(periodic[0], periodic[1])
    area = normal.norm(p=2)
    sign = torch.sign(normal.detach()[normal.detach().abs().argmax()])
    return sign * normal / area, area


def prepare_jellium(
    positions: Tensor, cell: Tensor, pbc: Tensor, bounds: list[float], widths: Tensor, constant: float = COULOMB
) -> Jellium:
    """Tables of a unit jellium, with the gradients of ``positions`` and ``cell``.

    Args:
        positions: ``(n, 3)`` of owned atoms of one structure, Å.
        cell: ``(3, 3)``, rows are vectors.
        pbc: ``(3,)`` bool, two of them true.
        bounds: heights z0 < z1 of the faces along `slab_normal`, Å.
        widths: ``(m,)`` combined widths W, Å; the last is that of the density with itself.

    Evaluated in float64, where differences of G are small, and returned in the dtype of ``positions``.
    """
    w = widths.to(torch.float64)
    normal, area = slab_normal(cell.to(torch.float64), pbc)
    height = torch.matmul(positions.to(torch.float64), normal).unsqueeze(1)
    thickness = bounds[1] - bounds[0]
    scale = -2.0 * math.pi * constant / (area * thickness)
    lower, upper = height - bounds[0], height - bounds[1]
    potential = scale * (integrated_distance(lower, w) - integrated_distance(upper, w))
    slope = scale * (smeared_distance(lower, w) - smeared_distance(upper, w))
    field = torch.cat([potential.unsqueeze(2), slope.unsqueeze(2) * normal[[1, 2, 0]]], dim=2)
    own = 2.0 * scale / thickness * twice_integrated_distance(torch.full_like(w[-1], thickness), w[-1])
    field = field.to(positions.dtype)
    return Jellium(field, field[:, -1], own.to(positions.dtype))


def apply_jellium(jellium: Jellium, density: Tensor, distributed: bool) -> Tensor:
    """What the slab of charge -Q adds to A p: density ``(n, 4)`` -> ``(n, m, 4)``."""
    sums = torch.stack([density[:, 0].sum(), (jellium.potential * density).sum()])
    if distributed:
        sums = sum_ranks(sums)
    charge, energy = sums[0], sums[1]
    return _on_charges(jellium.own * charge - energy) - charge * jellium.field


def apply_jellium_transposed(jellium: Jellium, weights: Tensor, distributed: bool) -> Tensor:
    """Adjoint of `apply_jellium`: weights ``(n, m, 4)`` -> ``(n, 4)``."""
    sums = torch.stack([weights[:, :, 0].sum(), (jellium.field * weights).sum()])
    if distributed:
        sums = sum_ranks(sums)
    charge, energy = sums[0], sums[1]
    return _on_charges(jellium.own * charge - energy) - charge * jellium.potential


def _on_charges(potential: Tensor) -> Tensor:
    """A potential that is the same everywhere ``()``, which charges see and dipoles do not: ``(4,)``."""
    return torch.nn.functional.pad(potential.reshape(1), [0, 3])


def receivers(jellium: Jellium, lo: int, hi: int) -> Jellium:
    """The tables of receivers lo … hi-1."""
    return Jellium(jellium.field[:, lo:hi], jellium.potential, jellium.own)


def detached_jellium(jellium: Jellium) -> Jellium:
    """The same tables without their gradient."""
    return Jellium(jellium.field.detach(), jellium.potential.detach(), jellium.own.detach())
