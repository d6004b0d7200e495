"""The fixed-point problem of the density, its map, its transposed Jacobian and the charge constraint.

Unknowns are the densities p ``(n, 4)``; with the raw field u = A p + u_ext + (mu - mu_0) on the potential components

    g(p) = base + X u(p),      G(p) = g(p) + c mu,     c = dG/dmu.

At constant charge mu is a function of p, chosen in closed form so that the total charge of G(p) is exactly Q*:

    mu(p) = (Q* - Q(g(p))) / R,    R = sum_i c_i^q.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..communication import sum_ranks
from ..electrostatics import ElectrostaticCache, Electrostatics

#: the charge does not respond when |R| is below this times sum |c^q| ...
CANCELLATION = 1e-3
#: ... or sum |c^q| per atom is below this (e/V)
MINIMUM_RESPONSE = 1e-6


class SCFProblem(NamedTuple):
    """A fixed-point problem for all structures of a batch; levels are relative to the offset mu_0."""

    cache: ElectrostaticCache
    base: Tensor  #: (n, 4) density without field, external field included
    matrix: Tensor  #: (n, 4, m, 4) response to the raw field
    fermi: Tensor  #: (n, 4) response c to the Fermi level
    response: Tensor  #: (B,) R = sum of c^q
    target: Tensor  #: (B,) total charge Q*, or the Fermi level mu - mu_0 where that is fixed
    batch: Tensor  #: (n,)
    atoms: Tensor  #: (B,) number of atoms, all ranks
    constant_charge: bool
    distributed: bool


def graph_sum(x: Tensor, batch: Tensor, n_graphs: int, distributed: bool) -> Tensor:
    """Sum of per-atom values ``(n, …)`` over each structure and all ranks: ``(B, …)``."""
    out = torch.zeros([n_graphs] + list(x.shape[1:]), dtype=x.dtype, device=x.device).index_add(0, batch, x)
    if distributed:
        out = sum_ranks(out)
    return out


def detach_problem(problem: SCFProblem, cache: ElectrostaticCache) -> SCFProblem:
    """The same problem without gradients; ``cache`` is its detached cache."""
    return SCFProblem(
        cache,
        problem.base.detach(),
        problem.matrix.detach(),
        problem.fermi.detach(),
        problem.response.detach(),
        problem.target.detach(),
        problem.batch,
        problem.atoms,
        problem.constant_charge,
        problem.distributed,
    )


class DensityMap(nn.Module):
    """The map G and the transposed action of its Jacobian."""

    def __init__(self, electrostatics: Electrostatics) -> None:
        super().__init__()
        self.electrostatics = electrostatics
        self.minimum_response = MINIMUM_RESPONSE
        self.cancellation = CANCELLATION

    def forward(self, problem: SCFProblem, density: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """G(p) ``(n, 4)``, mu - mu_0 ``(B,)`` and the Coulomb field A p ``(n, m, 4)``."""
        field = self.electrostatics.field(problem.cache, density, problem.distributed)
        update, level = self.update(problem, field)
        return update, level, field

    def update(self, problem: SCFProblem, field: Tensor) -> tuple[Tensor, Tensor]:
        """G and mu - mu_0 for a given Coulomb field A p."""
        n = field.shape[0]
        rows = problem.matrix.reshape(n, 4, field.shape[1] * 4)
        update = problem.base + torch.matmul(rows, field.reshape(n, field.shape[1] * 4, 1)).squeeze(2)
        if problem.constant_charge:
            charge = graph_sum(update[:, 0], problem.batch, problem.response.shape[0], problem.distributed)
            level = (problem.target - charge) / problem.response
        else:
            level = problem.target
        return update + problem.fermi * level[problem.batch].unsqueeze(1), level

    def project(self, problem: SCFProblem, density: Tensor) -> Tensor:
        """Onto the charge surface: p + c (Q* - Q(p)) / R; unchanged at constant Fermi level."""
        if not problem.constant_charge:
            return density
        charge = graph_sum(density[:, 0], problem.batch, problem.response.shape[0], problem.distributed)
        step = (problem.target - charge) / problem.response
        return density + problem.fermi * step[problem.batch].unsqueeze(1)

    def transposed(self, problem: SCFProblem, adjoint: Tensor) -> Tensor:
        """(dG/dp)^T λ = A^T X^T (λ - 1_q (c·λ)/R); the last term only at constant charge."""
        if problem.constant_charge:
            n_graphs = problem.response.shape[0]
            local = (problem.fermi * adjoint).sum(1)
            level = graph_sum(local, problem.batch, n_graphs, problem.distributed) / problem.response
            charge = adjoint[:, :1] - level[problem.batch].unsqueeze(1)
            adjoint = torch.cat([charge, adjoint[:, 1:]], dim=1)
        return self.transposed_field(problem, torch.einsum("ncmd,nc->nmd", problem.matrix, adjoint))

    def transposed_field(self, problem: SCFProblem, weights: Tensor) -> Tensor:
        """A^T w for weights ``(n, m, 4)``."""
        return self.electrostatics.apply_transposed(problem.cache, weights, problem.distributed)

    def responds(self, problem: SCFProblem) -> Tensor:
        """Whether the charge of each structure can follow the Fermi level ``(B,)`` bool."""
        n_graphs = problem.response.shape[0]
        total = graph_sum(problem.fermi[:, 0].abs(), problem.batch, n_graphs, problem.distributed)
        enough = total > self.minimum_response * problem.atoms.to(total.dtype)
        return enough & (problem.response.abs() > self.cancellation * total)
