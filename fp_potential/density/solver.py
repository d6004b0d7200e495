"""The self-consistent loop and the adjoint loop, both driven by `Mixer`.

Converged means: mean |G(p) - p| per component <= tolerance and the largest atom <= 5 times that, for each structure on
its own.  What is returned is the density the residual was measured at, with the Fermi level of that density.

A guard keeps the best density of each structure. Where a residual grows to `GROWTH` times the best one, or is not
finite, the structure goes back to its best density, forgets its history and takes shorter steps; after `RESTARTS` of
these it counts as diverged.  Early growth alone is harmless: the negative end of the map's spectrum makes the first
residuals grow before the history spans it.  A structure that does not converge is left at its best density.
"""

import torch
from torch import Tensor, nn

from ..scf.anderson import Mixer
from ..scf.loop import GROWTH, RESTARTS, SHORTER, WORST_ATOM, SolverResult
from ..scf.status import CONVERGED, DIVERGED, MAX_STEPS
from .density_map import DensityMap
from .problem import SCFProblem


class FixedPointSolver(nn.Module):
    """Solves p = G(p) and λ = b + (dG/dp)^T λ for all structures of a batch at once."""

    def __init__(self, density_map: DensityMap, history: int) -> None:
        super().__init__()
        self.density_map = density_map
        self.mixer = Mixer(history)
        self.worst_atom = WORST_ATOM
        self.growth, self.restarts, self.shorter = GROWTH, RESTARTS, SHORTER
        self.converged, self.max_steps, self.diverged = CONVERGED, MAX_STEPS, DIVERGED

    def scf(
        self,
        problem: SCFProblem,
        start: Tensor,
        max_steps: int,
        tolerance: float,
        solver: str,
        mixing: float,
        guess: Tensor,
    ) -> SolverResult:
        """Self-consistent density from ``start`` ``(n, 4)``; residuals in e (and e Å).

        ``guess`` ``(B,)`` of mu - mu_0 decides between several levels of the same charge, where a non-affine update has
        them; the problem has no gradients.
        """
        return self.trace(problem, start, max_steps, tolerance, solver, mixing, guess, False)[0]

    def trace(
        self,
        problem: SCFProblem,
        start: Tensor,
        max_steps: int,
        tolerance: float,
        solver: str,
        mixing: float,
        guess: Tensor,
        keep: bool,
    ) -> tuple[SolverResult, Tensor, Tensor]:
        """`scf`, and density ``(applications, n, 4)`` and level ``(applications, B)`` of every residual if ``keep``."""
        scale = torch.ones_like(problem.response, dtype=torch.float64)
        nothing = torch.zeros_like(start)
        problem = self.density_map.started(problem, start, guess)
        first = self.density_map.project(problem, start)
        return self._solve(problem, first, nothing, scale, guess, False, max_steps, tolerance, solver, mixing, keep)

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
        level = torch.zeros_like(problem.response)
        return self._solve(problem, source, source, scale, level, True, max_steps, tolerance, solver, mixing, False)[0]

    def _solve(
        self,
        problem: SCFProblem,
        x: Tensor,
        source: Tensor,
        scale: Tensor,
        level: Tensor,
        transposed: bool,
        max_steps: int,
        tolerance: float,
        solver: str,
        mixing: float,
        keep: bool,
    ) -> tuple[SolverResult, Tensor, Tensor]:
        n_graphs, batch = problem.response.shape[0], problem.batch
        state = self.mixer.start(x, n_graphs)
        steps = torch.zeros([n_graphs], dtype=torch.int64, device=x.device)
        status = torch.full([n_graphs], self.max_steps, dtype=torch.int64, device=x.device)
        active = torch.ones([n_graphs], dtype=torch.bool, device=x.device)
        best = torch.full([n_graphs], float("inf"), dtype=torch.float64, device=x.device)
        best_x, best_f, best_level = x, torch.zeros_like(x), level
        damping = torch.ones([n_graphs], dtype=torch.float64, device=x.device)
        restarts = torch.zeros([n_graphs], dtype=torch.int64, device=x.device)
        history: list[Tensor] = []
        iterates: list[Tensor] = []
        levels: list[Tensor] = []
        iteration = 0
        going = True
        while going:
            if transposed:
                f = source + self.density_map.transposed(problem, x) - x
            else:
                update, found, _ = self.density_map(problem, x, level)
                f = (update - x).detach()
                level = torch.where(active, found.detach(), level)
            if keep:
                iterates.append(x)
                levels.append(level)
            norms = self.mixer.norms(state, x, f, batch, problem.atoms, problem.distributed)
            iteration += 1
            mean = norms.mean / scale
            last = mean if iteration == 1 else history[len(history) - 1]
            history.append(torch.where(active, mean, last))
            steps = torch.where(active, torch.full_like(steps, iteration), steps)
            better = active & (mean < best)
            best = torch.where(better, mean, best)
            best_x = torch.where(better[batch].unsqueeze(1), x, best_x)
            best_f = torch.where(better[batch].unsqueeze(1), f, best_f)
            best_level = torch.where(better, level, best_level)
            done = (mean <= tolerance) & (norms.largest / scale <= self.worst_atom * tolerance)
            status = torch.where(active & done, torch.full_like(status, self.converged), status)
            # a mean within the tolerance with one atom above it can be better than a later, converged state
            best_x = torch.where((active & done)[batch].unsqueeze(1), x, best_x)
            best_level = torch.where(active & done, level, best_level)
            best = torch.where(active & done, mean, best)
            bad = active & (torch.logical_not(torch.isfinite(mean)) | (mean > self.growth * best))
            restarts = restarts + bad.to(torch.int64)
            lost = bad & ((restarts > self.restarts) | torch.logical_not(torch.isfinite(best)))
            status = torch.where(lost, torch.full_like(status, self.diverged), status)
            active = active & torch.logical_not(done | lost)
            going = iteration < max_steps and bool(active.any())
            if going:
                if bool(bad.any()):
                    rows = bad[batch].unsqueeze(1)
                    x, f = torch.where(rows, best_x, x), torch.where(rows, best_f, f)
                    level = torch.where(bad, best_level, level)
                    damping = torch.where(bad, self.shorter * damping, damping)
                    state = self.mixer.restarted(state, bad, x, f)
                x, state = self.mixer.step(state, norms, x, f, batch, active, solver, mixing, damping)
        # never better than the start: nothing finite was found
        best = torch.where(torch.isfinite(best), best, history[len(history) - 1])
        kept = torch.stack(iterates) if keep else x.new_zeros([0, 1, 4])
        kept_levels = torch.stack(levels) if keep else level.new_zeros([0, 1])
        return SolverResult(best_x, best_level, steps, best, status, torch.stack(history)), kept, kept_levels
