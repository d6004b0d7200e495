"""The self-consistent density of an affine map from one dense linear system per structure."""

from __future__ import annotations

import torch
from torch import Tensor

from ....density.density_model import DensityModel
from ....density.jacobian import bond_matrix
from ....density.problem import SCFProblem
from ....electrostatics.matrix import dense_operators


def dense_solutions(model: DensityModel, problem: SCFProblem) -> list[Tensor]:
    """p ``(n_g, 4)`` of every structure, differentiable; not finite where the system is singular.

    With p = J p + c μ + b for the matrices of atoms and bonds, the system is (1 - J) p - c μ = b with Σ q = Q* below it
    at constant charge. ``problem`` is that of a linear update.
    """
    n_graphs, n_widths = problem.atoms.shape[0], problem.state.matrix.shape[2]
    external = problem.external.unsqueeze(1).repeat(1, n_widths, 1)
    constant = model.solver.density_map.at_level(problem, external, torch.zeros_like(problem.target))
    densities = []
    structure = problem.batch[problem.state.bonds.atom]
    receiver = model.solver.density_map.first_used
    begin = 0
    for g, operator in enumerate(dense_operators(problem.cache, problem.batch, n_graphs, 0, n_widths)):
        n = operator.shape[0]
        rows = slice(begin, begin + n)
        begin += n
        response = problem.state.matrix[rows].reshape(n, 4, n_widths * 4)
        jacobian = torch.bmm(response, operator.reshape(n, n_widths * 4, n * 4)).reshape(n * 4, n * 4)
        through_bonds = bond_matrix(problem.state.bonds, structure == g, rows.start, n)
        jacobian = jacobian - through_bonds @ operator[:, receiver].reshape(n * 4, n * 4)
        system = torch.eye(n * 4, dtype=jacobian.dtype, device=jacobian.device) - jacobian
        fermi = problem.shift[rows].reshape(n * 4)
        right = constant[rows].reshape(n * 4)
        if problem.constant_charge:
            charge = torch.zeros_like(fermi)
            charge[::4] = 1.0
            system = torch.cat([system, -fermi.unsqueeze(1)], dim=1)
            system = torch.cat([system, torch.cat([charge, charge.new_zeros(1)]).unsqueeze(0)])
            right = torch.cat([right, problem.target[g : g + 1]])
        else:
            right = right + fermi * problem.target[g]
        solution, _ = torch.linalg.solve_ex(system, right)
        densities.append(solution[: n * 4].reshape(n, 4))
    return densities
