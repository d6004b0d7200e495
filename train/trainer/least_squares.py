"""Workflow ``least_squares``: damped Gauss-Newton steps of a loss that is mostly a sum of squares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from . import distributed
from .gradients import BatchGradient, BatchLoss, check_finite
from .options import Stage
from .problem import LossResult
from .weight_average import WeightAverage, set_values

#: its column of the log
DAMPING = "damping"
#: factors on the damping after a step that lowers the loss, and after one that does not
LESS, MORE = 1 / 3, 4.0
#: smallest and largest damping
SMALLEST, LARGEST = 1e-12, 1e12
#: part of the largest entry of the curvature's diagonal that every entry has at least
FLOOR = 1e-10


class NormalEquations(NamedTuple):
    """A loss near the present parameters: its value, gradient g ``(n,)`` and Gauss-Newton curvature ``(n, n)``.

    Of L = Σ r_i² + (rest): g = 2 Jᵀ r + ∇(rest) and 2 JᵀJ, with J_ij = ∂r_i/∂θ_j and the parameters θ flattened one
    after the other.
    """

    result: LossResult
    gradient: Tensor
    curvature: Tensor


@runtime_checkable
class SumOfSquares(Protocol):
    """What a `Problem` has besides, if its loss can be minimised by ``workflow: least_squares``."""

    def normal_equations(self, batch: Any, stage: Any, parameters: Sequence[Tensor]) -> NormalEquations:
        """Of a batch, or of its part's share of the loss; those of the parts add up."""
        ...


class LeastSquares:
    """Steps θ' = θ - (A + λ D)⁻¹ g, with the gradient g and A = 2 JᵀJ of the batch; D = max(diag A) 1 or diag A.

    The damping λ falls by a third after a step that lowers the loss; one that does not is taken back, bit for bit, and
    tried again with four times the damping, up to ``tries`` times in all. Every trial costs an evaluation of the loss.

    Args:
        stage: options of the stage; ``damping``, ``damping_by`` and ``tries``.
        batches: losses; of their problem the normal equations.
        average: the running average of the weights, which follows every step; none: there is none.

    Sources: Levenberg, Quart. Appl. Math. 2, 164 (1944); Marquardt, J. SIAM 11, 431 (1963), doi:10.1137/0111030.
    """

    def __init__(self, stage: Stage, batches: BatchGradient, average: WeightAverage | None) -> None:
        self.stage, self.batches, self.average = stage, batches, average
        self.damping = stage.damping

    def begin_epoch(self) -> None:
        """Nothing."""

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """One step; gives the loss before it.

        Raises:
            FloatingPointError: the loss or its derivatives are not finite; nothing has changed.
        """
        part = self.batches.load(content)
        before, gradient, curvature = self._equations(part)
        check_finite("loss", before.total)
        check_finite("norm of the gradient", float(gradient.norm()))
        parameters = self.batches.parameters
        kept = [parameter.detach().clone() for parameter in parameters]
        diagonal = curvature.diagonal()
        largest = max(float(diagonal.max()), torch.finfo(diagonal.dtype).tiny)
        floor = largest if self.stage.damping_by == "largest" else FLOOR * largest
        diagonal = diagonal.clamp(min=floor)
        for _ in range(self.stage.tries):
            factor, failed = torch.linalg.cholesky_ex(curvature + self.damping * diagonal.diag())
            if not int(failed):
                change = torch.cholesky_solve(-gradient[:, None], factor).squeeze(1)
                sizes = [parameter.numel() for parameter in parameters]
                moved = [k + c.view(k.shape).to(k) for k, c in zip(kept, change.split(sizes), strict=True)]
                set_values(parameters, moved)
                if self.batches.value(part).total < before.total:
                    self.damping = max(SMALLEST, LESS * self.damping)
                    break
                set_values(parameters, kept)
            self.damping = min(LARGEST, MORE * self.damping)
        if self.average is not None:
            self.average.update()
        return before

    def _equations(self, part: list[Any]) -> tuple[BatchLoss, Tensor, Tensor]:
        """The loss and its normal equations, summed over the pieces and the processes."""
        problem, parameters = self.batches.problem, self.batches.parameters
        assert isinstance(problem, SumOfSquares)
        number = sum(parameter.numel() for parameter in parameters)
        gradient = torch.zeros(number, dtype=torch.float64)
        curvature = torch.zeros(number, number, dtype=torch.float64)
        results = []
        for piece in part:
            found = problem.normal_equations(piece, self.stage, parameters)
            results.append(found.result)
            gradient += found.gradient
            curvature += found.curvature
        loss = self.batches.summed(results)
        return loss, distributed.sum_ranks(gradient), distributed.sum_ranks(curvature)

    def row(self) -> dict[str, float]:
        """The damping of the next step."""
        return {DAMPING: self.damping}

    def finish(self) -> None:
        """Nothing: the parameters are those of the last step."""

    def state_dict(self) -> dict[str, Any]:
        """The damping."""
        return {"damping": self.damping}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.damping = state["damping"]
