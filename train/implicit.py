"""The converged density and its adjoint as functions of the parameters, differentiated at the solution.

With p = G(p) solved by the model's own loop, without a graph, and J = dG/dp there,

    p~ = p + (1 - J)^-1 (G(p) - p),     λ~ = λ + (1 - J^T)^-1 ∂L/∂p,     L = E(p) + λ·(G(p) - p),     J constant,

have the values of the solution and its exact first derivatives by the parameters (implicit function theorem).  The
energy is L and forces are its derivatives by positions at fixed p and λ, as in the loop that runs afterwards; what the
loss then sees of p and λ reaches the parameters through p~ and λ~.  So two linear solves, by the mixer of the loop,
replace the graph of the iterations, and memory does not depend on their number.  Nothing is dense.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ..density_model import LocalState
from ..model import FixedPointPotential
from ..options import SCFOptions
from ..response.state import matrix_response
from ..scf.problem import SCFProblem, graph_sum, with_level
from ..scf.solve import CONVERGED

#: linear solves take up to this many times the applications of the loop, and go no deeper than this many roundings
PATIENCE, ROUNDINGS = 2, 20.0


class Gate:
    """Whether gradients of p and λ go on to the parameters: not while forces are taken."""

    def __init__(self) -> None:
        self.open = True

    def pass_through(self, x: Tensor) -> Tensor:
        """``x``, with a gradient only while the gate is open."""
        return _Passage.apply(x, self)


class _Passage(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, gate: Gate) -> Tensor:  # type: ignore[override]
        ctx.gate = gate
        return x.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        return (gradient if ctx.gate.open else None), None


class _Inverse(torch.autograd.Function):
    """x -> M^-1 x with a constant M; ``solve`` and ``transposed`` apply M^-1 and its transpose."""

    @staticmethod
    def forward(ctx, x: Tensor, solve: Callable, transposed: Callable) -> Tensor:  # type: ignore[override]
        ctx.transposed = transposed
        with torch.enable_grad():  # the solves differentiate the update
            return solve(x.detach())

    @staticmethod
    def backward(ctx, gradient: Tensor):  # type: ignore[override]
        with torch.enable_grad():
            return ctx.transposed(gradient.detach()), None, None


class LinearSolves:
    """(1 - J)^-1 and (1 - J^T)^-1 at the solutions of the structures with ``solved`` ``(B,)``; zero for the others."""

    def __init__(
        self, model: FixedPointPotential, fixed: SCFProblem, at_solution: Tensor, solved: Tensor, scf: SCFOptions
    ) -> None:
        self.solver, self.problem = model.solver, fixed
        self.density_map = model.solver.density_map
        self.point = at_solution
        self.solved = solved[fixed.batch].unsqueeze(1)
        self.steps = PATIENCE * scf.num_scf_steps
        self.tolerance = max(scf.scf_tolerance, ROUNDINGS * torch.finfo(at_solution.dtype).eps)

    def transposed(self, source: Tensor) -> Tensor:
        """(1 - J^T)^-1 b ``(n, 4)``."""
        source = torch.where(self.solved, source, torch.zeros_like(source))
        found = self.solver.adjoint(self.problem, source, self.steps, self.tolerance, "anderson", 1.0)
        self._check(found.status == CONVERGED, found.residual)
        return found.x

    def forward(self, source: Tensor) -> Tensor:
        """(1 - J)^-1 b ``(n, 4)``, by the mixer of the loop."""
        source = torch.where(self.solved, source, torch.zeros_like(source))
        problem, mixer, tolerance = self.problem, self.solver.mixer, self.tolerance
        batch = problem.batch
        x, state = source, mixer.start(source, problem.response.shape[0])
        scale = torch.ones_like(problem.response, dtype=torch.float64)
        active = torch.ones_like(problem.response, dtype=torch.bool)
        residual = scale
        for step in range(self.steps):
            f = source + self.jacobian(x) - x
            norms = mixer.norms(state, x, f, batch, problem.atoms, False)
            if step == 0:
                scale = torch.clamp(mixer.norms(state, x, source, batch, problem.atoms, False).mean, min=1e-300)
            residual = norms.mean / scale
            active = active & torch.logical_not(residual <= tolerance)
            if not bool(active.any()):
                break
            x, state = mixer.step(state, norms, x, f, batch, active, "anderson", 1.0, torch.ones_like(scale))
        self._check(torch.logical_not(active), residual)
        return x

    def _check(self, converged: Tensor, residual: Tensor) -> None:
        if not bool(converged.all()):
            warnings.warn(
                f"mode 'implicit': a linear solve for gradients has reached a relative residual of "
                f"{float(residual.max()):.1e}, not {self.tolerance:.1e}: raise scf.num_scf_steps",
                stacklevel=2,
            )

    def jacobian(self, change: Tensor) -> Tensor:
        """J v ``(n, 4)``."""
        problem = self.problem
        field = self.density_map.electrostatics.field(problem.cache, change, False)
        if problem.constant_charge:
            charge = (problem.charge_row * field).sum((1, 2))
            charges = graph_sum(charge, problem.batch, problem.response.shape[0], False)
            field = with_level(field, -charges / problem.response, problem.batch)
        if self.density_map.local:
            return matrix_response(problem.state.matrix, field)
        return self._push_forward(field)

    def _push_forward(self, field: Tensor) -> Tensor:
        """(dF/du) v: the derivative of v·(dF/du)^T w by w."""
        u = self.point.detach().requires_grad_(True)
        density = self.density_map.response.density(self.problem.state, u, False)
        w = torch.zeros_like(density).requires_grad_(True)
        (pulled,) = torch.autograd.grad(density, u, w, create_graph=True)
        (pushed,) = torch.autograd.grad(pulled, w, field)
        return pushed.detach()


class ImplicitSolution:
    """The converged density of a batch, and p~ and λ~ that carry its derivatives."""

    def __init__(
        self, model: FixedPointPotential, problem: SCFProblem, local: LocalState, start: Tensor, scf: SCFOptions
    ) -> None:
        self.model, self.gate = model, Gate()
        settings = (scf.num_scf_steps, scf.scf_tolerance, scf.mixing_parameter, scf.solver)
        end = model.converge(problem, local, settings, start, problem.target[:0])
        self.frozen, self.fixed, self.at_solution, self.result = end.frozen, end.fixed, end.at_solution, end.result
        self.failed = end.result.status != CONVERGED  #: (B,) structures without a self-consistent solution
        solved = torch.logical_not(self.failed)
        self.solves = LinearSolves(model, self.fixed, self.at_solution, solved, scf)

    def density(self, update: Tensor) -> Tensor:
        """p~ from G(p) at the solution, with gradients."""
        p = self.result.x
        return self.gate.pass_through(p + _Inverse.apply(update - p, self.solves.forward, self.solves.transposed))

    def corrected(self, atomic: Tensor, update: Tensor, density: Tensor, training: bool) -> Tensor:
        """Energies per atom ``(n,)`` of a density ``(n, 4)`` + λ~·(G - p); nothing is added where the loop failed."""
        gradient = self.model.density_gradient(self.fixed, self.frozen, self.result.x, self.at_solution)
        adjoint = self.solves.transposed(gradient)
        if not training:
            return atomic + (adjoint * (update - density)).sum(1)
        lagrangian = atomic.sum() + (adjoint * (update - density)).sum()
        (by_density,) = torch.autograd.grad(lagrangian, density, create_graph=True)
        correction = _Inverse.apply(by_density, self.solves.transposed, self.solves.forward)
        adjoint = self.gate.pass_through(adjoint + correction)
        return atomic + (adjoint * (update - density)).sum(1)

    @contextmanager
    def closed(self) -> Iterator[None]:
        """While this lasts, gradients see p and λ as constants."""
        self.gate.open = False
        try:
            yield
        finally:
            self.gate.open = True
