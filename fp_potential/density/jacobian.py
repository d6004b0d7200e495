"""Products with the Jacobian J = dG/dp of the density's map, and its spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..communication import graph_sum
from ..response.state import Bonds
from ..scf.arnoldi import arnoldi
from ..scf.spectrum import ACCURACY, LARGEST_BASIS, REDUCTION, Spectrum, spectrum_of
from .density_map import DensityMap
from .fermi_level import with_level
from .problem import SCFProblem, groups_of


def jacobian_product(density_map: DensityMap, problem: SCFProblem, point: Tensor, change: Tensor) -> Tensor:
    """J v ``(n, 4)`` for ``change`` v, of a problem without gradients linearised at the raw total field ``point``."""
    field = density_map.electrostatics.field(problem.cache, change, False)
    level = torch.zeros_like(problem.response)
    if problem.constant_charge:
        charge = (problem.charge_row * field).sum((1, 2))
        level = -graph_sum(charge, problem.batch, problem.response.shape[0], False) / problem.response
    if density_map.linear:
        return density_map.response.slope(problem.state, field, False) + problem.shift * level[problem.batch, None]
    field = with_level(field, level, problem.batch)
    # (dF/du) v is the derivative of v·(dF/du)^T w by w
    u = point.detach().requires_grad_(True)
    density = density_map.response.density(problem.state, u, False)
    w = torch.zeros_like(density).requires_grad_(True)
    (pulled,) = torch.autograd.grad(density, u, w, create_graph=True)
    (pushed,) = torch.autograd.grad(pulled, w, field)
    return pushed.detach()


def jacobian_spectrum(
    density_map: Any,
    problem: SCFProblem,
    accuracy: float = ACCURACY,
    largest_basis: int = LARGEST_BASIS,
    reduction: float = REDUCTION,
    seed: int = 0,
) -> Spectrum:
    """Spectrum of J of one structure by Arnoldi's method on J^T, which is there for every update.

    At constant charge J is that of the map on the charge surface.

    Args:
        density_map: a `DensityMap`, or the scripted one of an archive (``module.model.solver.density_map``).
        problem: without gradients, linearised at the density wanted (`DensityMap.linearised`); J depends on the density
            only where the update is not affine.
        accuracy: error, relative to 1 + |λ|, at which both ends count as found.
        largest_basis: applications of J^T at most; the basis takes as many vectors of the size of the density.
        reduction: Krylov methods are followed until they have reduced a random residual by this factor.
        seed: of the random start.

    Raises:
        ValueError: a batch of several structures, or a charge that does not respond to the Fermi level.
    """
    if problem.atoms.shape[0] != 1:
        raise ValueError(f"the spectrum is that of one structure; got a batch of {problem.atoms.shape[0]}")
    if problem.constant_charge and not bool(density_map.responds(problem).all()):
        raise ValueError("the charge does not respond to the Fermi level: no map at constant charge")
    template = problem.external
    precision = float(torch.finfo(template.dtype).eps)
    accuracy, reduction = max(accuracy, 1e3 * precision), max(reduction, 1e2 * precision)
    size = template.numel() - (1 if problem.constant_charge else 0)
    generator = np.random.default_rng(seed)
    start = torch.tensor(generator.standard_normal(tuple(template.shape)), dtype=template.dtype, device=template.device)

    def product(x: Tensor) -> Tensor:
        new = _on_surface(density_map.transposed(problem, x).detach(), problem)
        if not bool(torch.isfinite(new).all()):
            raise ValueError("the map's derivative is not finite at this density")
        return new

    def found(matrices: Sequence[np.ndarray]) -> bool:
        spectrum = spectrum_of(matrices[0], accuracy)
        return spectrum.converged and bool(spectrum.krylov[-1] <= reduction)

    krylov = arnoldi(product, _on_surface(start, problem), groups_of(problem), min(largest_basis, size), found)
    return spectrum_of(krylov.hessenberg[0], accuracy)


def _on_surface(x: Tensor, problem: SCFProblem) -> Tensor:
    """Without the component along the total charge, which is J^T's left-over zero eigenvalue at constant charge."""
    if not problem.constant_charge:
        return x
    return torch.cat([x[:, :1] - x[:, :1].mean(), x[:, 1:]], dim=1)


def bond_matrix(bonds: Bonds, chosen: Tensor, begin: int, n: int) -> Tensor:
    """Σ b b^T of the bonds ``chosen`` ``(B,)`` bool, between the ``n`` atoms from ``begin`` on: ``(4 n, 4 n)``."""
    atom, partner = bonds.atom[chosen] - begin, bonds.partner[chosen] - begin
    own, other = bonds.own[chosen], bonds.other[chosen]
    blocks = torch.zeros(n * n, 4, 4, dtype=own.dtype, device=own.device)
    blocks = blocks.index_add(0, atom * n + atom, torch.einsum("bka,bkc->bac", own, own))
    blocks = blocks.index_add(0, atom * n + partner, torch.einsum("bka,bkc->bac", own, other))
    return blocks.reshape(n, n, 4, 4).transpose(1, 2).reshape(4 * n, 4 * n)
