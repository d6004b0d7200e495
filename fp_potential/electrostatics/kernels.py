"""The Coulomb kernel in reciprocal space, truncated along open axes.

With the Coulomb potential cut off beyond a distance R along the open axes only, the sum over k of a padded cell is the
potential of the isolated molecule, wire or slab, without images and without a condition on the total charge:

- three periodic axes: 4 pi / k², k = 0 left out (uniform background);
- two (slab), kappa = |k_parallel|: 4 pi / k² [1 + exp(-kappa R) ((k_z / kappa) sin k_z R - cos k_z R)];
- one (wire), kappa = k_perpendicular, a = kappa R, b = |k_x| R: 4 pi / k² [1 + a J1(a) K0(b) - b J0(a) K1(b)];
- none (sphere): 4 pi (1 - cos k R) / k².

Limits at kappa, k_x or k = 0 have the constant that makes a charged sheet -2 pi |z| and a charged line -2 ln(rho / Å)
per charge, whatever R is:

- slab, kappa = 0: 4 pi / k_z² [1 - cos k_z R - k_z R sin k_z R]; k = 0: -2 pi R²;
- wire, k_x = 0: 4 pi [(1 - J0(a)) / kappa² - R ln R J1(a) / kappa]; k = 0: -pi R² (2 ln R - 1);
- sphere, k = 0: 2 pi R².

Sources: Rozzi et al., Phys. Rev. B 73, 205119 (2006), doi:10.1103/PhysRevB.73.205119 (all three); Sohier, Calandra and
Mauri, Phys. Rev. B 96, 075448 (2017), doi:10.1103/PhysRevB.96.075448 (slabs).
"""

import math

import torch
from torch import Tensor

from .bessel import bessel_j


def coulomb_kernel(periodic: Tensor, open_: Tensor, n_open: int, radius: float) -> Tensor:
    """g(k) in Å² (times 1/V: the potential of a unit charge over k_e), broadcast over its arguments.

    Args:
        periodic: |k|² of the components along the periodic axes, 1/Å², float64; gradients to second order.
        open_: |k|² of the components along the open axes, which are perpendicular to the periodic ones.
        n_open: number of open axes.
        radius: R in Å.
    """
    if n_open == 0:
        k2 = periodic + open_
        nothing = k2 == 0
        return torch.where(nothing, torch.zeros_like(k2), 4.0 * math.pi / torch.where(nothing, torch.ones_like(k2), k2))
    if n_open == 1:
        return _slab(periodic, open_, radius)
    if n_open == 2:
        return _wire(periodic, open_, radius)
    k = torch.sqrt(open_ + periodic)
    # 1 - cos kR without cancellation
    half = torch.sin(0.5 * k * radius)
    safe = torch.where(k == 0, torch.ones_like(k), k)
    return torch.where(k == 0, torch.full_like(k, 2.0 * math.pi * radius * radius), 8.0 * math.pi * (half / safe) ** 2)


def _slab(periodic: Tensor, open_: Tensor, radius: float) -> Tensor:
    kz = torch.sqrt(open_)
    sin, cos = torch.sin(kz * radius), torch.cos(kz * radius)
    # where kappa = 0 it does not depend on the cell: a constant in its place keeps gradients finite
    flat = periodic == 0
    kappa = torch.sqrt(torch.where(flat, torch.ones_like(periodic), periodic))
    general = 1.0 + torch.exp(-kappa * radius) * (kz / kappa * sin - cos)
    k2 = torch.where(flat, torch.ones_like(periodic), periodic) + open_
    safe = torch.where(kz == 0, torch.ones_like(kz), kz)
    uniform = 4.0 * math.pi * (1.0 - cos - kz * radius * sin) / (safe * safe)
    uniform = torch.where(kz == 0, torch.full_like(kz, -2.0 * math.pi * radius * radius), uniform)
    return torch.where(flat, uniform, 4.0 * math.pi * general / k2)


def _wire(periodic: Tensor, open_: Tensor, radius: float) -> Tensor:
    # torch's Bessel functions have no derivative: to second order in s = k_x², which is all the cell can change,
    # by K0' = -K1, K1' = -K0 - K1/b (DLMF 10.29.3 and 10.29.2)
    s = periodic.detach()
    along = s == 0
    s = torch.where(along, torch.ones_like(s), s)
    b = torch.sqrt(s) * radius
    k0, k1 = torch.special.modified_bessel_k0(b), torch.special.modified_bessel_k1(b)
    kappa = torch.sqrt(open_)
    a = kappa * radius
    j0, j1 = bessel_j(0, a), bessel_j(1, a)
    aj1 = a * j1
    h = 1.0 + aj1 * k0 - j0 * (b * k1)
    by_b = j0 * (b * k0) - aj1 * k1
    by_bb = aj1 * (k0 + k1 / b) + j0 * (k0 - b * k1)
    half = radius * radius / (2.0 * b)
    first = by_b * half
    second = by_bb * half * half - by_b * half * half / b
    k2 = s + open_
    change = torch.where(along, torch.zeros_like(periodic), periodic - s)
    value = h / k2
    slope = (first - value) / k2
    curvature = (second - 2.0 * slope) / k2
    general = value + change * (slope + 0.5 * curvature * change)
    safe = torch.where(kappa == 0, torch.ones_like(kappa), kappa)
    uniform = (1.0 - j0) / (safe * safe) - radius * math.log(radius) * j1 / safe
    nothing = torch.full_like(kappa, -0.25 * radius * radius * (2.0 * math.log(radius) - 1.0))
    uniform = torch.where(kappa == 0, nothing, uniform)
    return 4.0 * math.pi * torch.where(along, uniform, general)
