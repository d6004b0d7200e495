"""What a stage does with a batch: a step of an optimiser, random moves, or nothing.

A workflow is made when its stage begins or is resumed; ``step`` takes a batch, ``row`` gives its columns of the log for
the epoch so far, ``state_dict`` what a resumed run needs besides the parameters and the optimiser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from ..errors import InputError, nearest
from .gradients import BatchGradient, BatchLoss
from .least_squares import DAMPING
from .monte_carlo import monte_carlo_columns
from .optimizers import Group, build_optimizer, optimizer_name, with_rates
from .options import RunningOptions, Stage, TrainingOptions
from .problem import Problem
from .weight_average import applied

#: workflows that change the parameters step by step
TRAINING = ("gradient", "least_squares", "monte_carlo")


class Workflow(Protocol):
    """One way to run a stage."""

    def begin_epoch(self) -> None:
        """Called before the first batch of an epoch (not when a run is resumed inside of it)."""
        ...

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """Work on a batch of the plan.

        Args:
            content: the item of the plan.
            epochs: length of the part of the stage before it, in epochs.
            step: its own.

        Raises:
            FloatingPointError: a loss or gradient is not finite; the parameters are those before it.
        """
        ...

    def row(self) -> dict[str, float]:
        """Own columns of the log."""
        ...

    def finish(self) -> None:
        """Called after the last epoch of the stage, before its checkpoint."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        ...


class Evaluation:
    """Workflow ``evaluate``: losses of the batches with the values that the parameters have in evaluation.

    Args:
        batches: losses.
        values: those of the parameters, in their order; none: as they are.
    """

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

    def finish(self) -> None:
        """Nothing."""

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


def workflow_columns(stages: Sequence[Stage]) -> list[str]:
    """The columns of the log that the workflows of ``stages`` fill."""
    damped = any(stage.workflow == "least_squares" for stage in stages)
    return [*([DAMPING] if damped else []), *monte_carlo_columns(stages)]


def check_stage(
    stage: Stage, groups: Sequence[Group], options: TrainingOptions, validated: bool, squares: bool
) -> None:
    """What would fail when the stage begins fails before the first one.

    Args:
        stage: the stage (`options.Stage`).
        groups: all groups of parameters.
        options: section ``training``.
        validated: whether there is a validation set.
        squares: whether the problem has what ``workflow: least_squares`` needs.

    Raises:
        InputError: a group that does not exist or is frozen, nothing left to change, an optimiser that lacks a package
            or does not have an option, or a decision on the validation loss without a validation set.
    """
    label = f"stage '{stage.name}'"
    names = [group["name"] for group in groups]
    free = [group["name"] for group in free_groups(stage, groups)]
    moved = stage.random_moves.move if stage.random_moves is not None else None
    for option, given, valid in (
        ("freeze", stage.freeze, names),
        ("monte_carlo.move", moved if isinstance(moved, dict) else [], free),
    ):
        for name in given:
            if name not in valid:
                raise InputError(f"{label}: {option} names '{name}', no group that it may; {nearest(name, valid)}")
    if stage.workflow in TRAINING and not free:
        raise InputError(f"{label}: all groups are frozen, nothing is left to train; use workflow: evaluate")
    if stage.workflow == "least_squares" and not squares:
        raise InputError(
            f"{label}: workflow: least_squares needs a loss that is a sum of squares of few residuals, which this "
            "model does not give; use workflow: gradient"
        )
    follows = stage.patience is not None or stage.lr_decay == "plateau"
    if not validated and follows and stage.paced_by == "valid":
        raise InputError(
            f"{label}: patience and lr_decay: plateau follow the validation loss; name a validation set in data, set "
            "data.valid_fraction, or paced_by: train"
        )
    if stage.workflow == "gradient":
        build_optimizer(optimizer_name(stage, options), with_rates(stage, groups), options)
