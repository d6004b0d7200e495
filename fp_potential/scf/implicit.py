"""The solution of a fixed-point map, and its adjoints, as functions of the parameters (implicit function theorem).

With x = G(x) solved without a graph, J = dG/dx there, and any function V(x) of the solution whose adjoint is
λ = (1 - J^T)^-1 ∂V/∂x,

    x~ = x + (1 - J)^-1 (G(x) - x),     λ~ = λ + (1 - J^T)^-1 ∂L/∂x,     L = V(x) + λ·(G(x) - x),     J constant,

have the values of the solution and its exact first derivatives by the parameters.  So two linear solves replace the
graph of the iterations, and memory does not depend on their number.  Nothing is dense.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from .linear_solves import LinearSolves


class ImplicitDerivatives:
    """x~ and λ~ of solutions ``(n, c)``; ``solves`` are those at the solution."""

    def __init__(self, solves: LinearSolves) -> None:
        self.solves = solves
        self.open = True  #: whether gradients of x and λ go on to the parameters

    def solution(self, x: Tensor, update: Tensor) -> Tensor:
        """x~, from G(x) with gradients by the parameters."""
        solves = self.solves
        return self._passed(x + _Inverse.apply(update - x, solves.forward, solves.transposed))

    def adjoint(self, value: Tensor, by_x: Tensor, update: Tensor, x: Tensor, training: bool) -> Tensor:
        """λ~ of a scalar ``value`` whose derivative by ``x`` is ``by_x`` ``(n, c)``; zero where nothing was solved.

        Args:
            update: G(x), with a graph.
            x: a variable of that graph.
            training: keep the derivatives; without, it is λ.
        """
        adjoint = self.solves.transposed(by_x)
        if not training:
            return adjoint
        lagrangian = value + (adjoint * (update - x)).sum()
        (left,) = torch.autograd.grad(lagrangian, x, create_graph=True)
        return self._passed(adjoint + _Inverse.apply(left, self.solves.transposed, self.solves.forward))

    @contextmanager
    def closed(self) -> Iterator[None]:
        """While this lasts, gradients see x and λ as constants: derivatives at fixed solution, such as forces."""
        self.open = False
        try:
            yield
        finally:
            self.open = True

    def _passed(self, x: Tensor) -> Tensor:
        return _Passage.apply(x, self)


class _Passage(torch.autograd.Function):
    """The identity, with a gradient only while the derivatives are open."""

    @staticmethod
    def forward(ctx, x: Tensor, gate: ImplicitDerivatives) -> Tensor:  # type: ignore[override]
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
