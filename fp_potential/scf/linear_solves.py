"""(1 - J)^-1 and (1 - J^T)^-1 of a linear map J, without a matrix: by the loop for x = b + J x."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .loop import FixedPointLoop, SolverResult
from .settings import Groups, LoopSettings
from .status import CONVERGED

#: linear solves take up to this many times the applications of the loop, and go no deeper than this many roundings
PATIENCE, ROUNDINGS = 2, 20.0
#: smallest mean |b| that residuals are relative to: a source that is zero has the solution zero
SMALLEST_SOURCE = 1e-300

Product = Callable[[Tensor], Tensor]
#: first x of x = b + A x, from b, A, and whether A is J^T
Starts = Callable[[Tensor, Product, bool], Tensor]


def solve_linear(
    loop: FixedPointLoop,
    product: Product,
    source: Tensor,
    groups: Groups,
    settings: LoopSettings,
    start: Tensor | None = None,
) -> SolverResult:
    """x = b + A x for a ``product`` A x, from b or ``start``; residuals relative to the mean |b| of each structure."""
    scale = loop.scale_of(source, groups, SMALLEST_SOURCE)
    level = torch.zeros(groups.number, dtype=source.dtype, device=source.device)
    state = loop.start(source if start is None else start, level, scale, groups, settings)
    while state.going:
        state = loop.step(state, source + product(state.x) - state.x, level)
    return loop.result(state)


class LinearSolves:
    """(1 - J)^-1 and (1 - J^T)^-1 for the structures with ``solved`` ``(B,)``; zero for the others.

    ``failures`` counts the solves of single structures that miss their tolerance; it goes on counting while a loss is
    differentiated.

    Args:
        product: v -> J v ``(n, c)``, without gradients.
        transposed_product: v -> J^T v.
        settings: those of the loop that found the solution; `PATIENCE` and `ROUNDINGS` say what is made of them.
        starts: where solves begin; none: at b.
    """

    def __init__(
        self,
        loop: FixedPointLoop,
        product: Product,
        transposed_product: Product,
        groups: Groups,
        solved: Tensor,
        settings: LoopSettings,
        starts: Starts | None = None,
    ) -> None:
        self.loop, self.groups, self.starts = loop, groups, starts
        self.product, self.transposed_product = product, transposed_product
        self.solved = solved[groups.batch].unsqueeze(1)
        self.steps, self.tolerance = PATIENCE * settings.num_scf_steps, settings.scf_tolerance
        self.failures = torch.zeros((), dtype=torch.float64, device=solved.device)

    def forward(self, source: Tensor) -> Tensor:
        """(1 - J)^-1 b ``(n, c)``."""
        return self._solve(self.product, source, False)

    def transposed(self, source: Tensor) -> Tensor:
        """(1 - J^T)^-1 b ``(n, c)``."""
        return self._solve(self.transposed_product, source, True)

    def _solve(self, product: Product, source: Tensor, transposed: bool) -> Tensor:
        source = torch.where(self.solved, source, torch.zeros_like(source))
        tolerance = max(self.tolerance, ROUNDINGS * torch.finfo(source.dtype).eps)
        settings = LoopSettings(self.steps, tolerance, 1.0, "anderson")
        start = source if self.starts is None else self.starts(source, product, transposed)
        found = solve_linear(self.loop, product, source, self.groups, settings, start)
        self.failures += (found.status != CONVERGED).sum()
        return found.x
