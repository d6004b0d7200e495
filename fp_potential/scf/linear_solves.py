"""(1 - J)^-1 and (1 - J^T)^-1 at a solution, J = dG/dp, without a matrix: by the mixer of the loop."""

from __future__ import annotations

import torch
from torch import Tensor

from ..density.jacobian import jacobian_product
from ..density.problem import SCFProblem
from ..density.solver import FixedPointSolver
from ..options import SCFOptions
from .status import CONVERGED

#: linear solves take up to this many times the applications of the loop, and go no deeper than this many roundings
PATIENCE, ROUNDINGS = 2, 20.0


class LinearSolves:
    """(1 - J)^-1 and (1 - J^T)^-1 at the solutions of the structures with ``solved`` ``(B,)``; zero for the others.

    ``problem`` is without gradients and linearised at the raw total field ``point``.  ``failures`` counts the solves
    of single structures that miss their tolerance; it goes on counting while a loss is differentiated.
    """

    def __init__(
        self, solver: FixedPointSolver, problem: SCFProblem, point: Tensor, solved: Tensor, scf: SCFOptions
    ) -> None:
        self.solver, self.problem, self.point = solver, problem, point
        self.solved = solved[problem.batch].unsqueeze(1)
        self.steps = PATIENCE * scf.num_scf_steps
        self.tolerance = max(scf.scf_tolerance, ROUNDINGS * torch.finfo(point.dtype).eps)
        self.failures = torch.zeros((), dtype=torch.float64, device=point.device)

    def transposed(self, source: Tensor) -> Tensor:
        """(1 - J^T)^-1 b ``(n, 4)``."""
        source = torch.where(self.solved, source, torch.zeros_like(source))
        found = self.solver.adjoint(self.problem, source, self.steps, self.tolerance, "anderson", 1.0)
        self._count(found.status == CONVERGED)
        return found.x

    def forward(self, source: Tensor) -> Tensor:
        """(1 - J)^-1 b ``(n, 4)``."""
        source = torch.where(self.solved, source, torch.zeros_like(source))
        problem, mixer, tolerance = self.problem, self.solver.mixer, self.tolerance
        batch = problem.batch
        x, state = source, mixer.start(source, problem.response.shape[0])
        scale = torch.ones_like(problem.response, dtype=torch.float64)
        active = torch.ones_like(problem.response, dtype=torch.bool)
        for step in range(self.steps):
            f = source + jacobian_product(self.solver.density_map, problem, self.point, x) - x
            norms = mixer.norms(state, x, f, batch, problem.atoms, False)
            if step == 0:
                scale = torch.clamp(mixer.norms(state, x, source, batch, problem.atoms, False).mean, min=1e-300)
            active = active & torch.logical_not(norms.mean / scale <= tolerance)
            if not bool(active.any()):
                break
            x, state = mixer.step(state, norms, x, f, batch, active, "anderson", 1.0, torch.ones_like(scale))
        self._count(torch.logical_not(active))
        return x

    def _count(self, converged: Tensor) -> None:
        self.failures += (~converged).sum()
