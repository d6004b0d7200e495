"""Products with the Jacobian of the density's map, and its spectrum."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..communication import graph_sum
from ..response.state import matrix_response
from ..scf.spectrum import ACCURACY, LARGEST_BASIS, REDUCTION, Spectrum, _spectrum
from .density_map import DensityMap
from .fermi_level import with_level
from .problem import SCFProblem


def jacobian_product(density_map: DensityMap, problem: SCFProblem, point: Tensor, change: Tensor) -> Tensor:
    """J v ``(n, 4)`` for ``change`` v, of a problem without gradients linearised at the raw total field ``point``."""
    field = density_map.electrostatics.field(problem.cache, change, False)
    if problem.constant_charge:
        charge = (problem.charge_row * field).sum((1, 2))
        charges = graph_sum(charge, problem.batch, problem.response.shape[0], False)
        field = with_level(field, -charges / problem.response, problem.batch)
    if density_map.local:
        return matrix_response(problem.state.matrix, field)
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
    """Spectrum of J of one structure by Arnoldi's method on J^T.

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
    steps = min(largest_basis, size)
    generator = np.random.default_rng(seed)
    start = torch.tensor(generator.standard_normal(tuple(template.shape)), dtype=template.dtype, device=template.device)
    start = _on_surface(start, problem)
    basis = [start / start.norm()]
    hessenberg = np.zeros((steps + 1, steps))
    for k in range(steps):
        new = _on_surface(density_map.transposed(problem, basis[k]).detach(), problem)
        scale = float(new.norm())
        if not math.isfinite(scale):
            raise ValueError("the map's derivative is not finite at this density")
        # Gram–Schmidt twice: once loses orthogonality, and with it the small eigenvalues
        stacked = torch.stack(basis).reshape(k + 1, -1)
        for _ in range(2):
            overlap = stacked @ new.reshape(-1)
            new = new - (overlap @ stacked).reshape(new.shape)
            hessenberg[: k + 1, k] += overlap.cpu().numpy()
        norm = float(new.norm())
        hessenberg[k + 1, k] = norm
        invariant = norm <= 10.0 * precision * max(scale, 1e-300) * math.sqrt(size)
        if invariant or k + 1 == steps or k % 5 == 4:
            result = _spectrum(hessenberg[: k + 2, : k + 1], accuracy)
            if invariant or k + 1 == steps or (result.converged and result.krylov[-1] <= reduction):
                break
        basis.append(new / norm)
    return result


def _on_surface(x: torch.Tensor, problem: SCFProblem) -> torch.Tensor:
    """Without the component along the total charge, which is J^T's left-over zero eigenvalue at constant charge."""
    if not problem.constant_charge:
        return x
    return torch.cat([x[:, :1] - x[:, :1].mean(), x[:, 1:]], dim=1)
