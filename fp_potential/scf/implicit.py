"""Derivatives of a solution by the implicit function theorem."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


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
