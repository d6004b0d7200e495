"""Electrostatics of Gaussian charges and dipoles by sums over pairs, with other formulas than the package's.

The potential that a unit charge gives when source and receiver have the combined width W (W² = sigma² + sigma_n²), as
a function of the displacement x, in units of k_e; the convolution of a Gaussian of width W with

- FFF: 1/r, in closed form;
- TFF: the images of 1/r along a line, summed up to 400, beyond by Euler and Maclaurin; a charged line gives -2 ln rho
  per charge and length far away (rho in Å), and no other constant;
- TTF: the images of 1/r in a plane by the sum over its reciprocal vectors, integrated over the normal in closed form;
  a charged plane gives -2 pi |z| per charge and area far away, and no other constant;
- TTT: 1/r without its average over the cell: the sum over all reciprocal vectors but 0.

Dipoles, gradients, forces and stress are derivatives of these functions by autograd.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fp_potential.units import COULOMB

Kernel = Callable[[Tensor], Tensor]

IMAGES = 400
#: reciprocal vectors are summed to exp(-k²W²/2) = exp(-REACH²/2) = 1e-17
REACH = 8.9


def smeared_inverse(r2: Tensor, width: float) -> Tensor:
    """erf(r / sqrt 2 W) / r of r², smooth at 0."""
    t = r2 / (2.0 * width**2)
    near = t < 0.05
    small, large = torch.where(near, t, 0.0), torch.where(near, 1.0, t)
    series = sum((-1.0) ** n / (math.factorial(n) * (2 * n + 1)) * small**n for n in range(9))
    return torch.where(near, 2.0 / math.sqrt(math.pi) * series, torch.erf(large.sqrt()) / large.sqrt()) / (
        math.sqrt(2.0) * width
    )


def line(x: Tensor, vector: Tensor, width: float) -> Tensor:
    """TFF, displacement ``(3,)``, period ``(3,)``."""
    length = vector.norm()
    along = torch.dot(x, vector) / length
    rho2 = torch.dot(x, x) - along**2
    n = torch.arange(-IMAGES, IMAGES + 1, dtype=x.dtype)
    total = smeared_inverse(rho2 + (along + n * length) ** 2, width).sum()
    for sign in (1.0, -1.0):
        u = (IMAGES + 0.5) * length + sign * along
        r = (u**2 + rho2).sqrt()
        total = total - torch.log(u + r) / length - length * u / (24.0 * r**3)
    return total


def plane(x: Tensor, vectors: Tensor, width: float) -> Tensor:
    """TTF, displacement ``(3,)``, periods ``(2, 3)``."""
    normal = torch.linalg.cross(vectors[0], vectors[1])
    area = normal.norm()
    z = torch.dot(x, normal) / area
    limits = [math.ceil(REACH / width * v.norm().item() / (2.0 * math.pi)) for v in vectors.detach()]
    n = torch.cartesian_prod(*[torch.arange(-m, m + 1, dtype=x.dtype) for m in limits])
    n = n[(n != 0).any(1)]
    k = 2.0 * math.pi * n @ torch.linalg.pinv(vectors).transpose(0, 1)
    size = k.norm(dim=1)
    a, b = size * width / math.sqrt(2.0), z / (math.sqrt(2.0) * width)
    decay = torch.exp(size * z) * torch.erfc(a + b) + torch.exp(-size * z) * torch.erfc(a - b)
    waves = (decay / (2.0 * size) * torch.cos(k @ x)).sum()
    flat = z * torch.erf(b) + width * math.sqrt(2.0 / math.pi) * torch.exp(-b * b)
    return 2.0 * math.pi / area * (waves - flat)


def bulk(x: Tensor, cell: Tensor, width: float) -> Tensor:
    """TTT, displacement ``(3,)``, cell ``(3, 3)``."""
    limits = [math.ceil(REACH / width * v.norm().item() / (2.0 * math.pi)) for v in cell.detach()]
    n = torch.cartesian_prod(*[torch.arange(-m, m + 1, dtype=x.dtype) for m in limits])
    n = n[(n != 0).any(1)]
    k = 2.0 * math.pi * n @ torch.linalg.inv(cell).transpose(0, 1)
    k2 = (k * k).sum(1)
    waves = (torch.exp(-0.5 * k2 * width**2) / k2 * torch.cos(k @ x)).sum()
    return 4.0 * math.pi / torch.linalg.det(cell).abs() * waves


def kernel(cell: Tensor, pbc: list[bool], width: float) -> Kernel:
    """The function of the displacement for a cell ``(3, 3)`` and its periodic axes."""
    vectors = cell[[axis for axis in range(3) if pbc[axis]]]
    if len(vectors) == 3:
        return lambda x: bulk(x, cell, width)
    if len(vectors) == 2:
        return lambda x: plane(x, vectors, width)
    if len(vectors) == 1:
        return lambda x: line(x, vectors[0], width)
    return lambda x: smeared_inverse(torch.dot(x, x), width)


def received(
    positions: Tensor, cell: Tensor, pbc: list[bool], density: Tensor, width: float, own: bool, chunk: int = 64
) -> Tensor:
    """(<v>, <grad v>) ``(n, 4)`` in V and V/Å, order (0, y, z, x), of densities ``(n, 4)``; W = ``width``.

    ``own``: with what an atom's own Gaussian adds in free space.
    """
    n = len(positions)
    of = kernel(cell, pbc, width)
    gradient, second = torch.func.grad(of), torch.func.hessian(of)
    x = (positions.unsqueeze(1) - positions).reshape(-1, 3)
    order = [1, 2, 0]
    q, d = density[:, 0], density[:, 1:]
    value = torch.vmap(of, chunk_size=chunk)(x).reshape(n, n)
    slope = torch.vmap(gradient, chunk_size=chunk)(x).reshape(n, n, 3)[..., order]
    curvature = torch.vmap(second, chunk_size=chunk)(x).reshape(n, n, 3, 3)[..., order, :][..., order]
    v = value @ q - torch.einsum("ija,ja->i", slope, d)
    grad = torch.einsum("ija,j->ia", slope, q) - torch.einsum("ijab,jb->ia", curvature, d)
    out = COULOMB * torch.cat([v.unsqueeze(1), grad], dim=1)
    return out if own else out - own_part(width) * density


def own_part(width: float) -> Tensor:
    """What a Gaussian gives itself in free space, per unit of its charge and dipole ``(4,)``."""
    b0 = math.sqrt(2.0 / math.pi) / width
    b1 = b0 / (3.0 * width**2)
    return COULOMB * torch.tensor([b0, b1, b1, b1], dtype=torch.float64)


def energy(positions: Tensor, cell: Tensor, pbc: list[bool], density: Tensor, sigma: float, own: bool) -> Tensor:
    """E_C = 1/2 ∫ rho v in eV, of Gaussians of width sigma."""
    return 0.5 * (density * received(positions, cell, pbc, density, math.sqrt(2.0) * sigma, own)).sum()
