"""The self-consistent loop and the adjoint loop, both driven by `Mixer`.

Converged means: mean |G(p) - p| per component <= tolerance and the largest atom <= 5 times that, for each structure on
its own.  What is returned is the density the residual was measured at, with the field and Fermi level of that density.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .anderson import Mixer
from .problem import DensityMap, SCFProblem

#: values of `SolverResult.status`
CONVERGED, MAX_STEPS, DIVERGED, UNSTABLE, NO_CHARGE_RESPONSE = 0, 1, 2, 3, 4
#: largest per-atom residual allowed at convergence, times the tolerance of the mean
WORST_ATOM = 5.0
#: a mean residual above this (e) is a divergence
DIVERGENCE = 1e3


class SolverResult(NamedTuple):
    """Outcome of a fixed-point solve."""

    x: Tensor  #: (n, 4) density or adjoint
    steps: Tensor  #: (B,) applications of the map
    residual: Tensor  #: (B,) float64, mean residual of ``x``
    status: Tensor  #: (B,) int64
    history: Tensor  #: (applications, B) mean residual of every application


class FixedPointSolver(nn.Module):
    """Solves p = G(p) and λ = b + (dG/dp)^T λ for all structures of a batch at once."""

    def __init__(self, density_map: DensityMap, history: int) -> None:
        super().__init__()
        self.density_map = density_map
        self.mixer = Mixer(history)
        self.worst_atom = WORST_ATOM
        self.divergence = DIVERGENCE
        self.converged, self.max_steps, self.diverged = CONVERGED, MAX_STEPS, DIVERGED

    def scf(
        self, problem: SCFProblem, start: Tensor, max_steps: int, tolerance: float, solver: str, mixing: float
    ) -> SolverResult:
        """Self-consistent density from ``start`` ``(n, 4)``; residuals in e (and e Å)."""
        scale = torch.ones_like(problem.response, dtype=torch.float64)
        nothing = torch.zeros_like(start)
        first = self.density_map.project(problem, start)
        return self._solve(problem, first, nothing, scale, False, max_steps, tolerance, solver, mixing)

    def adjoint(
        self, problem: SCFProblem, source: Tensor, max_steps: int, tolerance: float, solver: str, mixing: float
    ) -> SolverResult:
        """λ = source + (dG/dp)^T λ; residuals relative to the mean |source| of each structure."""
        scale = self.mixer.norms(
            self.mixer.start(source, problem.response.shape[0]),
            source,
            source,
            problem.batch,
            problem.atoms,
            problem.distributed,
        ).mean
        scale = torch.clamp(scale, min=1e-12)
        return self._solve(problem, source, source, scale, True, max_steps, tolerance, solver, mixing)

    def _solve(
        self,
        problem: SCFProblem,
        x: Tensor,
        source: Tensor,
        scale: Tensor,
        transposed: bool,
        max_steps: int,
        tolerance: float,
        solver: str,
        mixing: float,
    ) -> SolverResult:
        n_graphs = problem.response.shape[0]
        state = self.mixer.start(x, n_graphs)
        steps = torch.zeros([n_graphs], dtype=torch.int64, device=x.device)
        status = torch.full([n_graphs], self.max_steps, dtype=torch.int64, device=x.device)
        residual = torch.zeros([n_graphs], dtype=torch.float64, device=x.device)
        active = torch.ones([n_graphs], dtype=torch.bool, device=x.device)
        history: list[Tensor] = []
        iteration = 0
        going = True
        while going:
            if transposed:
                f = source + self.density_map.transposed(problem, x) - x
            else:
                f = self.density_map(problem, x)[0] - x
            norms = self.mixer.norms(state, x, f, problem.batch, problem.atoms, problem.distributed)
            iteration += 1
            mean = norms.mean / scale
            residual = torch.where(active, mean, residual)
            steps = torch.where(active, torch.full_like(steps, iteration), steps)
            history.append(residual)
            done = (mean <= tolerance) & (norms.largest / scale <= self.worst_atom * tolerance)
            bad = torch.logical_not(torch.isfinite(mean)) | (mean > self.divergence)
            status = torch.where(active & done, torch.full_like(status, self.converged), status)
            status = torch.where(active & bad, torch.full_like(status, self.diverged), status)
            active = active & torch.logical_not(done | bad)
            going = iteration < max_steps and bool(active.any())
            if going:
                x, state = self.mixer.step(state, norms, x, f, problem.batch, active, solver, mixing)
        return SolverResult(x, steps, residual, status, torch.stack(history))
