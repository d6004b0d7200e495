"""The self-consistent density and its adjoint: the two maps that `scf.loop` runs for the potential."""

import torch
from torch import Tensor, nn

from ..scf.loop import FixedPointLoop, SolverResult
from ..scf.settings import LoopSettings, Start
from .density_map import DensityMap
from .problem import SCFProblem, groups_of

#: smallest mean |source|, V, that the adjoint's residual is relative to: variational energies have nearly none
SMALLEST_SOURCE = 1e-3


class FixedPointSolver(nn.Module):
    """Solves p = G(p) and λ = b + (dG/dp)^T λ for all structures of a batch at once.

    >>> import torch
    >>> from ase.build import molecule
    >>> from fp_potential import FixedPointPotential, ModelOptions
    >>> from fp_potential.graph import graph_from_atoms
    >>> from fp_potential.options import ModelStatistics
    >>> from fp_potential.scf.settings import LoopSettings, Start
    >>> _ = torch.manual_seed(0)
    >>> options = ModelOptions(num_channels=4, field_feature_widths=[1.5])
    >>> constants = ModelStatistics(
    ...     atomic_energies={1: -13.6, 8: -430.0}, avg_num_neighbors=2.0, field_feature_norms=[10.0, 0.5]
    ... )
    >>> model = FixedPointPotential(options, [1, 8], constants).double()
    >>> water = graph_from_atoms(molecule("H2O"), model.elements, model.cutoff, torch.float64)
    >>> start = Start(torch.zeros(0, 4).double(), torch.zeros(0).double())  # the local guess
    >>> end = model.solve(water, LoopSettings(50, 1e-10, 0.3, "anderson"), start, True, False)
    >>> again = model.solver.density_map(end.fixed, end.result.x, end.result.level)[0]
    >>> end.result.status.tolist(), bool((again - end.result.x).abs().max() < 1e-9)
    ([0], True)
    """

    def __init__(self, density_map: DensityMap, history: int) -> None:
        super().__init__()
        self.density_map = density_map
        self.loop = FixedPointLoop(history)
        self.smallest_source = SMALLEST_SOURCE

    def scf(self, problem: SCFProblem, start: Start, settings: LoopSettings) -> SolverResult:
        """Self-consistent density from ``start.x`` ``(n, 4)``; residuals in e (and e Å).

        ``start.level`` ``(B,)`` of mu - mu_0 decides between several levels of the same charge, where a non-affine
        update has them; the problem has no gradients.
        """
        return self.trace(problem, start, settings, False)[0]

    def trace(
        self, problem: SCFProblem, start: Start, settings: LoopSettings, keep: bool
    ) -> tuple[SolverResult, Tensor, Tensor]:
        """`scf`, and density ``(applications, n, 4)`` and level ``(applications, B)`` of every residual if ``keep``."""
        scale = torch.ones_like(problem.response, dtype=torch.float64)
        problem = self.density_map.started(problem, start.x, start.level)
        first = self.density_map.project(problem, start.x)
        state = self.loop.start(first, start.level, scale, groups_of(problem), settings)
        densities: list[Tensor] = []
        levels: list[Tensor] = []
        while state.going:
            update, level, _ = self.density_map(problem, state.x, state.level)
            level = level.detach()
            if keep:
                densities.append(state.x)
                levels.append(torch.where(state.active, level, state.level))
            state = self.loop.step(state, (update - state.x).detach(), level)
        kept = torch.stack(densities) if keep else first.new_zeros([0, 1, 4])
        kept_levels = torch.stack(levels) if keep else first.new_zeros([0, 1])
        return self.loop.result(state), kept, kept_levels

    def adjoint(self, problem: SCFProblem, source: Tensor, settings: LoopSettings) -> SolverResult:
        """λ = source + (dG/dp)^T λ; residuals relative to the mean |source| of each structure."""
        groups = groups_of(problem)
        scale = self.loop.scale_of(source, groups, self.smallest_source)
        state = self.loop.start(source, torch.zeros_like(problem.response), scale, groups, settings)
        while state.going:
            f = source + self.density_map.transposed(problem, state.x) - state.x
            state = self.loop.step(state, f, state.level)
        return self.loop.result(state)
