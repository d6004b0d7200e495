"""The converged density and its adjoints as functions of the parameters, differentiated at the solution.

With p = G(p) solved by the model's own loop, without a graph, and J = dG/dp there,

    p~ = p + (1 - J)^-1 (G(p) - p),     λ~ = λ + (1 - J^T)^-1 ∂L/∂p,     L = E(p) + λ·(G(p) - p),     J constant,

have the values of the solution and its exact first derivatives by the parameters (implicit function theorem).  The
energy is L and forces are its derivatives by positions at fixed p and λ, as in the loop that runs afterwards; what the
loss then sees of p and λ reaches the parameters through p~ and λ~.  The same holds for any other function of the
density in the place of E, each with a λ of its own (`multiplier`).  So two linear solves, by the mixer of the loop,
replace the graph of the iterations, and memory does not depend on their number.  Nothing is dense.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ....density.density_model import DensityModel, LocalState
from ....density.problem import SCFProblem
from ....options import SCFOptions
from ....scf.implicit import Gate, _Inverse
from ....scf.linear_solves import LinearSolves
from ....scf.status import CONVERGED


class ImplicitSolution:
    """The converged density of a batch, and p~ and λ~ that carry its derivatives."""

    def __init__(
        self,
        model: DensityModel,
        problem: SCFProblem,
        local: LocalState,
        start: Tensor,
        guess: Tensor,
        scf: SCFOptions,
    ) -> None:
        self.model, self.gate = model, Gate()
        settings = (scf.num_scf_steps, scf.scf_tolerance, scf.mixing_parameter, scf.solver)
        end = model.converge(problem, local, settings, start, guess + model.fermi_level_offset)
        self.frozen, self.fixed, self.at_solution, self.result = end.frozen, end.fixed, end.at_solution, end.result
        self.failed = end.result.status != CONVERGED  #: (B,) structures without a self-consistent solution
        self.solves = LinearSolves(model.solver, end.fixed, end.at_solution, torch.logical_not(self.failed), scf)

    def density(self, update: Tensor) -> Tensor:
        """p~ from G(p) at the solution, with gradients."""
        p = self.result.x
        return self.gate.pass_through(p + _Inverse.apply(update - p, self.solves.forward, self.solves.transposed))

    def energy_gradient(self) -> Tensor:
        """∂E/∂p ``(n, 4)`` at the solution, the source of the energy's adjoint."""
        return self.model.density_gradient(self.fixed, self.frozen, self.result.x, self.at_solution)

    def multiplier(self, value: Tensor, source: Tensor, update: Tensor, density: Tensor, training: bool) -> Tensor:
        """λ~ ``(n, 4)`` of a function ``value`` of the density whose derivative by it is ``source`` ``(n, 4)``.

        ``update`` is G(``density``). λ~ is zero where the loop failed; without ``training`` it is λ.
        """
        adjoint = self.solves.transposed(source)
        if not training:
            return adjoint
        lagrangian = value + (adjoint * (update - density)).sum()
        (by_density,) = torch.autograd.grad(lagrangian, density, create_graph=True)
        correction = _Inverse.apply(by_density, self.solves.transposed, self.solves.forward)
        return self.gate.pass_through(adjoint + correction)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """While this lasts, gradients see p and λ as constants."""
        self.gate.open = False
        try:
            yield
        finally:
            self.gate.open = True
