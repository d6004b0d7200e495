"""Workflow ``gradient``: steps of an optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.optim import Optimizer

from .gradients import BatchGradient, BatchLoss, check_finite
from .optimizers import Group, WeightDecay, learning_rate, warmup, with_rates
from .options import Stage
from .pacing import Pacing
from .weight_average import WeightAverage, set_values


class Descent:
    """Steps of an optimiser, whose learning rates are functions of the step and of the validation losses.

    In the step that ends e epochs into the stage and begins at the fraction f of it, group g has the rate

        lr_g = s(f) · p · w(e) · (lr_g of the options) / lr,

    with s between ``lr`` and ``lr_final`` (`learning_rate`), p the factor of the plateaus so far (`Pacing`) and w that
    of the warm-up (`warmup`). A gradient with a norm above ``clip_grad`` is scaled to it.

    Args:
        stage: options of the stage (`options.Stage`).
        batches: losses and gradients.
        optimizer: of all groups, the frozen ones among them.
        groups: those of the optimiser, in its order.
        pacing: of the stage.
        average: the running average of the weights, which follows every step; none: there is none.
        clip_grad: largest norm of the gradient; none: no limit.
    """

    def __init__(
        self,
        stage: Stage,
        batches: BatchGradient,
        optimizer: Optimizer,
        groups: Sequence[Group],
        pacing: Pacing,
        average: WeightAverage | None,
        clip_grad: float | None,
    ) -> None:
        self.stage, self.batches, self.optimizer, self.pacing = stage, batches, optimizer, pacing
        self.average, self.clip_grad = average, clip_grad
        self.shares = [group["lr"] / stage.lr for group in with_rates(stage, groups)]
        self.searches = isinstance(optimizer, torch.optim.LBFGS)
        self.decay = WeightDecay(groups)
        self.rate = stage.lr

    def begin_epoch(self) -> None:
        """Nothing: the learning rate is a function of the step."""

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """One step of the optimiser; of lbfgs up to ``lbfgs_iterations`` iterations on the batch.

        Raises:
            FloatingPointError: the loss, its gradient or a parameter is not finite; nothing has changed.
        """
        scheduled = learning_rate(self.stage, epochs / self.stage.length)
        self.rate = scheduled * self.pacing.factor * warmup(self.stage, epochs + step)
        for group, share in zip(self.optimizer.param_groups, self.shares, strict=False):
            group["lr"] = self.rate * share
        part = self.batches.load(content)
        result = self._search(part) if self.searches else self._plain(part)
        if self.average is not None:
            self.average.update()
        return result

    def _plain(self, part: Any) -> BatchLoss:
        result = self.batches.gradient(part)
        check_finite("loss", result.total)
        gradients = [p.grad for p in self.batches.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        check_finite("norm of the gradient", float(norm))
        if self.clip_grad is not None:
            torch.nn.utils.clip_grads_with_norm_(self.batches.parameters, self.clip_grad, norm)
        self.optimizer.step()
        return result

    def _search(self, part: Any) -> BatchLoss:
        first: list[BatchLoss] = []

        def closure() -> float:
            result = self.batches.gradient(part)
            if not first:
                check_finite("loss", result.total)
                first.append(result)
            return result.total + self.decay.add()

        before = [parameter.detach().clone() for parameter in self.batches.parameters]
        self.optimizer.step(closure)  # type: ignore[arg-type]
        if not all(bool(parameter.isfinite().all()) for parameter in self.batches.parameters):
            set_values(self.batches.parameters, before)
            raise FloatingPointError("a parameter after the line search is not finite")
        return first[0]

    def row(self) -> dict[str, float]:
        """The learning rate of the last step."""
        return {"lr": self.rate}

    def finish(self) -> None:
        """Nothing: the parameters are those of the last step."""

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the optimiser is kept by the trainer, beyond the stage."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""
