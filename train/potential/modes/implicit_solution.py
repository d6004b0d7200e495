"""The converged density of a batch and its adjoints, with their derivatives by the parameters (`scf.implicit`).

The energy is L = E(p) + λ·(G(p) - p) and forces are its derivatives by positions at fixed p and λ, as in the loop that
runs afterwards; what the loss then sees of p and λ reaches the parameters through p~ and λ~.  The same holds for any
other function of the density in the place of E, each with a λ of its own (`multiplier`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ....density.density_model import DensityModel, LocalState
from ....density.factorised import Factorised, factorised
from ....density.jacobian import jacobian_product
from ....density.problem import SCFProblem, detach_problem, groups_of
from ....graph import Graph
from ....options import SCFOptions
from ....scf.implicit import ImplicitDerivatives
from ....scf.linear_solves import LinearSolves, Product, Starts
from ....scf.settings import Start, settings_of
from ....scf.status import CONVERGED


class ImplicitSolution:
    """The converged density of a batch, and p~ and λ~ that carry its derivatives."""

    def __init__(
        self,
        model: DensityModel,
        graph: Graph,
        problem: SCFProblem,
        local: LocalState,
        start: Start,
        scf: SCFOptions,
    ) -> None:
        """``start`` with the absolute level, as of `DensityModel.converge`."""
        self.model, settings = model, settings_of(scf)
        factors, start = _near_solution(model, graph, problem, start)
        end = model.converge(problem, local, settings, start)
        self.frozen, self.fixed, self.at_solution, self.result = end.frozen, end.fixed, end.at_solution, end.result
        self.failed = end.result.status != CONVERGED  #: (B,) structures without a self-consistent solution
        density_map = model.solver.density_map
        self.solves = LinearSolves(
            model.solver.loop,
            lambda v: jacobian_product(density_map, end.fixed, end.at_solution, v),
            lambda v: density_map.transposed(end.fixed, v),
            groups_of(end.fixed),
            torch.logical_not(self.failed),
            settings,
            None if factors is None else _starts(factors),
        )
        self.derivatives = ImplicitDerivatives(self.solves)

    def density(self, update: Tensor) -> Tensor:
        """p~ ``(n, 4)`` from G(p) at the solution, with gradients."""
        return self.derivatives.solution(self.result.x, update)

    def energy_gradient(self) -> Tensor:
        """∂E/∂p ``(n, 4)`` at the solution, the source of the energy's adjoint."""
        return self.model.density_gradient(self.fixed, self.frozen, self.result.x, self.at_solution, self.result.level)

    def multiplier(self, value: Tensor, source: Tensor, update: Tensor, density: Tensor, training: bool) -> Tensor:
        """λ~ ``(n, 4)`` of a function ``value`` of the density whose derivative by it is ``source`` ``(n, 4)``.

        ``update`` is G(``density``). λ~ is zero where the loop failed; without ``training`` it is λ.
        """
        return self.derivatives.adjoint(value, source, update, density, training)

    def closed(self) -> AbstractContextManager[None]:
        """While this lasts, gradients see p and λ as constants."""
        return self.derivatives.closed()


def _near_solution(
    model: DensityModel, graph: Graph, problem: SCFProblem, start: Start
) -> tuple[Factorised | None, Start]:
    """The factors of structures that conduct, and a start at which the loop has next to nothing left to do."""
    density_map = model.solver.density_map
    with torch.no_grad():
        fixed = detach_problem(problem, model.electrostatics.detached(problem.cache))
        factors = factorised(density_map, fixed, graph)
        if factors is None:
            return None, start
        level = start.level - model.fermi_level_offset
        first = density_map.project(fixed, start.x)
        density = factors.refined(first, lambda x: density_map(fixed, x, level)[0] - x, False)
    return factors, start._replace(x=density)


def _starts(factors: Factorised) -> Starts:
    def start(source: Tensor, product: Product, transposed: bool) -> Tensor:
        return factors.refined(factors.solve(source, transposed), lambda x: source + product(x) - x, transposed)

    return start
