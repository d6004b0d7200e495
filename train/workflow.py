"""What a stage does with a batch: a step of an optimiser, random moves, or nothing.

A workflow is made when its stage begins or is resumed; ``step`` takes a batch, ``row`` gives its columns of the log for
the epoch so far, ``state_dict`` what a resumed run needs besides the parameters and the optimiser.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from .config.stage import RunningOptions
from .config.training import TrainingOptions
from .ema import WeightAverage, applied, set_values
from .errors import InputError, nearest
from .gradients import BatchGradient, BatchLoss
from .optimizers import Group, WeightDecay, build_optimizer, learning_rate, optimizer_name, warmup, with_rates
from .pacing import Pacing
from .problem import Problem

MC_COLUMNS = ("MC accepted [%]", "MC temperature")


class Workflow(Protocol):
    """One way to run a stage."""

    def begin_epoch(self) -> None:
        """Called before the first batch of an epoch (not when a run is resumed inside of it)."""
        ...

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """Work on a batch of the plan.

        Args:
            epochs: length of the part of the stage before it, in epochs.
            step: its own.

        Raises:
            FloatingPointError: a loss or gradient is not finite; the parameters are those before it.
        """
        ...

    def row(self) -> dict[str, float]:
        """Own columns of the log."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        ...


class Descent:
    """Steps of an optimiser."""

    def __init__(
        self,
        stage: Any,
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
        """One step of the optimiser; of lbfgs up to ``lbfgs_iterations`` iterations on the batch."""
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
        _check("loss", result.total)
        gradients = [p.grad for p in self.batches.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        _check("norm of the gradient", float(norm))
        if self.clip_grad is not None:
            torch.nn.utils.clip_grads_with_norm_(self.batches.parameters, self.clip_grad, norm)
        self.optimizer.step()
        return result

    def _search(self, part: Any) -> BatchLoss:
        first: list[BatchLoss] = []

        def closure() -> float:
            result = self.batches.gradient(part)
            if not first:
                _check("loss", result.total)
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

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the optimiser is kept by the trainer, beyond the stage."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


class MonteCarlo:
    """Gaussian moves θ' = θ + s_g ξ of all parameters at once, accepted with probability min(1, exp(-(L' - L)/T)).

    L is the loss of the batch before and after the move, s_g = move × rms of the parameters of group g at the start of
    the stage, T the temperature of the step. A rejected move restores the parameters bit for bit.
    """

    def __init__(
        self, stage: Any, batches: BatchGradient, groups: Sequence[Group], average: WeightAverage | None, seed: int
    ) -> None:
        self.stage, self.batches, self.average = stage, batches, average
        self.options = stage.monte_carlo
        moves = self.options.move
        self.parameters: list[Tensor] = []
        self.sizes: list[float] = []
        for group in groups:
            move = moves.get(group["name"], 0.0) if isinstance(moves, dict) else moves
            if move:
                squares = sum(float(p.detach().double().square().sum()) for p in group["params"])
                rms = math.sqrt(squares / sum(p.numel() for p in group["params"]))
                self.parameters += group["params"]
                self.sizes += [move * rms] * len(group["params"])
        self.generator = torch.Generator().manual_seed(seed)
        self.accepted = self.tried = 0
        self.temperature = self.options.temperature

    def begin_epoch(self) -> None:
        """The rate of acceptance is one of the epoch."""
        self.accepted = self.tried = 0

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """``moves_per_batch`` moves; gives the loss after them."""
        start, end = self.options.temperature, self.options.temperature_final
        fraction = epochs / self.stage.length
        self.temperature = start if end is None else start * (end / start) ** fraction
        part = self.batches.load(content)
        present = self.batches.value(part)
        _check("loss", present.total)
        for _ in range(self.options.moves_per_batch):
            kept = [parameter.detach().clone() for parameter in self.parameters]
            self._move()
            moved = self.batches.value(part)
            self.tried += 1
            if self._accepts(moved.total - present.total):
                present = moved
                self.accepted += 1
            else:
                set_values(self.parameters, kept)
        if self.average is not None:
            self.average.reset()
        return present

    @torch.no_grad()
    def _move(self) -> None:
        for parameter, size in zip(self.parameters, self.sizes, strict=True):
            step = torch.randn(parameter.shape, generator=self.generator, dtype=parameter.dtype)
            parameter.add_(step.to(parameter.device), alpha=size)

    def _accepts(self, rise: float) -> bool:
        # drawn for every move, so that the sequence of moves does not depend on rounding
        chance = float(torch.rand((), generator=self.generator, dtype=torch.float64))
        if not math.isfinite(rise):
            return False
        if rise <= 0:
            return True
        return self.temperature > 0 and chance < math.exp(-rise / self.temperature)

    def row(self) -> dict[str, float]:
        """Moves accepted in the epoch, and the temperature of its last batch."""
        values = (100 * self.accepted / max(1, self.tried), self.temperature)
        return dict(zip(MC_COLUMNS, values, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Sizes of the moves, the generator, the counts."""
        counts = {"accepted": self.accepted, "tried": self.tried}
        return {"sizes": self.sizes, "generator": self.generator.get_state(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state_dict`."""
        self.sizes, self.accepted, self.tried = state["sizes"], state["accepted"], state["tried"]
        self.generator.set_state(state["generator"])


class Evaluation:
    """Losses of the batches with the values that the parameters have in evaluation; nothing changes."""

    def __init__(self, batches: BatchGradient, values: Sequence[Tensor] | None) -> None:
        self.batches, self.values = batches, values

    def begin_epoch(self) -> None:
        """Nothing."""

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """The loss of the batch."""
        with applied(self.batches.parameters, self.values):
            return self.batches.value(self.batches.load(content))

    def row(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to do."""


def checked_groups(problem: Problem) -> list[Group]:
    """The groups of parameters of ``problem`` that are not empty.

    Raises:
        RuntimeError: a trainable parameter is in none or in several of them.
    """
    groups = [group for group in problem.parameter_groups() if group["params"]]
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    left = [
        name
        for name, parameter in problem.module.named_parameters()
        if parameter.requires_grad and id(parameter) not in grouped
    ]
    if left or len(grouped) != len(set(grouped)):
        raise RuntimeError(
            f"parameter groups of '{problem.name}' must hold every trainable parameter once; left out: {left}"
        )
    return groups


def free_groups(stage: RunningOptions, groups: Sequence[Group]) -> list[Group]:
    """The groups that ``stage`` does not freeze."""
    return [group for group in groups if group["name"] not in stage.freeze]


def check_stage(stage: Any, groups: Sequence[Group], options: TrainingOptions, validated: bool) -> None:
    """What would fail when the stage begins fails before the first one.

    Args:
        validated: whether there is a validation set.

    Raises:
        InputError: a group that does not exist or is frozen, nothing left to change, an optimiser that lacks a package
            or does not have an option, or a decision on the validation loss without a validation set.
    """
    label = f"stage '{stage.name}'"
    names = [group["name"] for group in groups]
    free = [group["name"] for group in free_groups(stage, groups)]
    moved = stage.monte_carlo.move if stage.monte_carlo is not None else None
    for option, given, valid in (
        ("freeze", stage.freeze, names),
        ("monte_carlo.move", moved if isinstance(moved, dict) else [], free),
    ):
        for name in given:
            if name not in valid:
                raise InputError(f"{label}: {option} names '{name}', no group that it may; {nearest(name, valid)}")
    if stage.workflow in ("gradient", "monte_carlo") and not free:
        raise InputError(f"{label}: all groups are frozen, nothing is left to train; use workflow: evaluate")
    if not validated and (stage.patience is not None or stage.lr_decay == "plateau"):
        raise InputError(
            f"{label}: patience and lr_decay: plateau follow the validation loss; name a validation set in data, or "
            "set data.valid_fraction"
        )
    if stage.workflow == "gradient":
        build_optimizer(optimizer_name(stage, options), with_rates(stage, groups), options)


def _check(what: str, value: float) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(f"the {what} is {value}")
