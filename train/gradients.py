"""Loss and gradient of a batch, in one piece or in parts that are computed at the same time.

With W workers a batch is split into up to W parts; the loss of the batch is Σ n_k L_k / Σ n_k over its parts with n_k
structures. Small structures keep one core busy, not two: threads with a part each use a machine better than threads
inside of every operation. The result does not depend on which part is finished first.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor

from .problem import LossResult, Problem


class BatchGradient:
    """Fills ``.grad`` of ``parameters`` with the derivative of the loss of a batch."""

    def __init__(self, problem: Problem, parameters: Sequence[Tensor], workers: int) -> None:
        self.problem, self.parameters, self.workers = problem, list(parameters), workers
        threads = torch.get_num_threads()
        self.pool = ThreadPoolExecutor(workers, "part", lambda: torch.set_num_threads(threads)) if workers > 1 else None

    def __call__(self, batch: Any, stage: Any) -> LossResult:
        """Loss and terms of the batch, detached; gradients are replaced."""
        if self.pool is None:
            for parameter in self.parameters:
                parameter.grad = None
            result = self.problem.loss(batch, stage)
            result.total.backward()
            return result._replace(total=result.total.detach())
        parts = self.problem.parts(batch, self.workers)
        results = list(self.pool.map(lambda part: self._part(part, stage), parts))
        structures = sum(result.structures for result, _ in results)
        shares = [result.structures / structures for result, _ in results]
        for number, parameter in enumerate(self.parameters):
            pieces = [(share, grads[number]) for share, (_, grads) in zip(shares, results, strict=True)]
            known = [share * piece for share, piece in pieces if piece is not None]
            parameter.grad = torch.stack(known).sum(0) if known else None
        total = torch.stack([share * result.total for share, (result, _) in zip(shares, results, strict=True)]).sum()
        terms = {
            name: torch.stack(
                [share * result.terms[name] for share, (result, _) in zip(shares, results, strict=True)]
            ).sum()
            for name in results[0][0].terms
        }
        return LossResult(total, terms, structures)

    def close(self) -> None:
        """End the threads."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def _part(self, part: Any, stage: Any) -> tuple[LossResult, tuple[Tensor | None, ...]]:
        result = self.problem.loss(part, stage)
        gradients = torch.autograd.grad(result.total, self.parameters, allow_unused=True)
        return result._replace(total=result.total.detach()), gradients
