"""Loss and gradient of a batch, summed over the processes that share it.

The loss of a part of a batch is its share of the loss of the whole (see `Problem`), so that losses, terms and
gradients of the parts add up to those of the batch whatever the parts are. They are summed by one collective operation
per batch, after the derivatives: losses that hold derivatives themselves need nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..errors import InputError
from . import distributed
from .problem import LossResult, Problem


class BatchLoss(NamedTuple):
    """What the trainer knows of a whole batch."""

    total: float
    terms: dict[str, float]
    structures: int


class EpochSums:
    """Losses and terms of the batches of an epoch, Σ n_b L_b with n_b the number of structures of batch b."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.structures = 0
        self.seconds = 0.0

    def add(self, values: dict[str, float], structures: int) -> None:
        """Take in the values of a batch."""
        self.structures += structures
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * structures

    def means(self) -> dict[str, float]:
        """The means over the structures, Σ n_b L_b / Σ n_b."""
        return {name: value / self.structures for name, value in self.sums.items()}


class BatchGradient:
    """Losses of training batches in ``stage`` and their derivatives with respect to ``parameters``.

    Every process calls the same methods with the same batches in the same order.

    Args:
        problem: what is trained.
        parameters: those that are not frozen.
        stage: passed through to the problem.
        pieces: into which each process divides its part of a batch, to add up their losses and gradients; the memory
            is that of one of them.
    """

    def __init__(self, problem: Problem, parameters: Sequence[Tensor], stage: Any, pieces: int = 1) -> None:
        self.problem, self.parameters, self.stage, self.pieces = problem, list(parameters), stage, pieces
        self._names: tuple[list[str], list[str]] | None = None

    def load(self, content: Any) -> list[Any]:
        """The pieces of this process's part of the batch; none if there is nothing for it to do."""
        first, pieces = distributed.rank() * self.pieces, distributed.ranks() * self.pieces
        found = [self.problem.batch("train", content, first + number, pieces) for number in range(self.pieces)]
        return [piece for piece in found if piece is not None]

    def value(self, part: list[Any]) -> BatchLoss:
        """The loss alone; the gradients stay what they are."""
        return self._summed([self.problem.loss(piece, self.stage, differentiable=False) for piece in part], [])

    def gradient(self, part: list[Any]) -> BatchLoss:
        """The loss; its derivatives are put into ``.grad``, None where it does not depend on a parameter.

        Raises:
            InputError: it depends on none of the parameters.
        """
        for parameter in self.parameters:
            parameter.grad = None
        results, dependent = [], not part
        for piece in part:
            result = self.problem.loss(piece, self.stage)
            if result.total.requires_grad:
                result.total.backward()
                dependent = True
            results.append(result._replace(total=result.total.detach()))
        if not dependent:
            raise InputError(
                f"stage '{self.stage.name}': its loss does not depend on any parameter that is not frozen; "
                "change freeze, or the terms of the loss"
            )
        return self._summed(results, self.parameters)

    def summed(self, results: Sequence[LossResult]) -> BatchLoss:
        """The loss of the batch from those of this process's pieces; the gradients stay what they are."""
        return self._summed(results, [])

    def _summed(self, results: Sequence[LossResult], parameters: list[Tensor]) -> BatchLoss:
        terms, counts = self._known_names(results[0] if results else None)
        names = terms + counts
        numbers = torch.zeros(2 + len(names), dtype=torch.float64)
        for result in results:
            known = result.terms | (result.counts or {})
            values = [result.total, *(known[name] for name in names)]
            numbers[1:] += torch.stack([value.detach().to(torch.float64).reshape(()) for value in values]).cpu()
            numbers[0] += result.structures
        if distributed.ranks() > 1:
            numbers = self._summed_over_ranks(numbers, parameters)
        structures, total, *values = numbers.tolist()
        means = dict(zip(names, values, strict=True))
        means |= {name: means[name] / structures for name in counts}
        return BatchLoss(total, means, round(structures))

    def _summed_over_ranks(self, numbers: Tensor, parameters: list[Tensor]) -> Tensor:
        """Sums ``numbers`` and the gradients in one message, in double precision."""
        device = self.parameters[0].device
        known = torch.tensor([parameter.grad is not None for parameter in parameters], dtype=torch.float64)
        pieces = [numbers, known]
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            pieces.append(gradient.detach().reshape(-1))
        message = torch.cat([piece.to(device=device, dtype=torch.float64) for piece in pieces])
        sizes = [piece.numel() for piece in pieces]
        numbers, known, *gradients = distributed.sum_ranks(message).split(sizes)
        for parameter, present, gradient in zip(parameters, known.tolist(), gradients, strict=True):
            parameter.grad = gradient.to(parameter.dtype).reshape(parameter.shape) if present else None
        return numbers.cpu()

    def _known_names(self, result: LossResult | None) -> tuple[list[str], list[str]]:
        """Names of terms and counts, which a process without a part does not know; process 0 always has one."""
        names = None if result is None else (list(result.terms), list(result.counts or {}))
        if self._names is None:
            self._names = distributed.from_main(names)
        assert self._names is not None
        if names is not None and names != self._names:
            raise RuntimeError(
                f"the loss of '{self.problem.name}' has the terms {names}, expected those of the first batch: "
                f"{self._names}"
            )
        return self._names


def check_finite(what: str, value: float) -> None:
    """Refuse a loss or gradient that is not finite.

    Raises:
        FloatingPointError: names ``what`` and its value.
    """
    if not math.isfinite(value):
        raise FloatingPointError(f"the {what} is {value}")
