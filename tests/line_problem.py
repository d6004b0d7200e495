"""A problem that has nothing to do with potentials, for tests of what all learned models share."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

import torch
from fp_potential.train.config.schema import validate
from fp_potential.train.trainer.gradients import BatchGradient
from fp_potential.train.trainer.monte_carlo import MonteCarlo
from fp_potential.train.trainer.options import RunOptions, Stage
from fp_potential.train.trainer.problem import LossResult
from fp_potential.train.trainer.trainer import Trainer
from pydantic import Field
from rich.console import Console


class LineStage(Stage):
    """One stage of the schedule."""

    slope_lr: float | None = Field(default=None, gt=0)
    """Learning rate of the slope; none: ``lr``."""
    constant_lr: float | None = Field(default=None, gt=0)
    """That of the constant; none: ``lr``."""
    weight: float = 1.0
    """Factor of the squared error in the loss."""


class LineOptions(RunOptions):
    """The training file of a line."""

    degree: int = 1
    """Degree of the polynomial: that of a line."""
    points: str = "points.csv"
    """Where the points are."""
    train_schedule: list[LineStage] = Field(min_length=1)
    """Stages, one after the other."""


class Line:
    """Fits y = a x + b to twelve points, three in a batch."""

    config_type = LineOptions
    free_options = ("points",)
    name = "line"

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1, dtype=torch.float64)
        self.x = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
        self.y = 3 * self.x - 0.5
        self.stop_after = math.inf
        self.spoil = False
        self.valid_losses: list[float] | None = None  #: to be reported in place of the true ones

    def introduction(self):
        return ["twelve points"]

    def parameter_groups(self):
        slope, constant = self.module.weight, self.module.bias
        return [
            {"name": "slope", "params": [slope], "weight_decay": 0.0},
            {"name": "constant", "params": [constant], "weight_decay": 0.0},
        ]

    def initialise(self, options, seed):
        torch.manual_seed(seed)
        torch.nn.init.normal_(self.module.weight)
        torch.nn.init.normal_(self.module.bias)
        return [f"initialised: {options.method}"]

    def state(self):
        return {}

    def plan(self, split, seed=None):
        order = torch.arange(12)
        if seed is not None:
            order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        return order.split(3 if split == "train" else 12)

    def batch(self, split, content, part=0, parts=1):
        pieces = content.tensor_split(parts)  # of different lengths, the last ones empty if there are many
        return (pieces[part], len(content)) if part == 0 or len(pieces[part]) else None

    def loss(self, batch, stage, differentiable=True):
        self.stop_after -= 1
        if self.stop_after < 0:
            raise KeyboardInterrupt
        indices, whole = batch
        error = (self.module(self.x[indices]) - self.y[indices]).square().sum() / whole
        if self.spoil:
            error = error * math.nan
        return LossResult(stage.weight * error, {"square": error.detach()}, len(indices))

    def columns(self):
        return ["train error [mm]", "valid loss"]

    def summarise(self, terms):
        return {"train error [mm]": 1000 * terms["square"] ** 0.5}

    def evaluate(self, split, stage, epoch_of_stage):
        if self.valid_losses is not None:
            return {"valid loss": self.valid_losses.pop(0)}
        return {"valid loss": (self.module(self.x) - self.y).square().mean().item()}

    def report(self, split):
        return f"{self.evaluate(split, None, 0)['valid loss']:.3e}"

    def export(self, path):
        raise NotImplementedError


def line_config(*stages: dict[str, Any], **training: Any) -> LineOptions:
    """A training file for `Line`: ``stages`` (default: two) and options of the section ``training``."""
    default = (
        {"name": "first", "epochs": 4, "lr": 0.5, "lr_final": 0.05},
        {"name": "second", "epochs": 3, "lr": 0.01},
    )
    content = {
        "training": {"seed": 4, "ema_decay": 0.9} | training,
        "train_schedule": [{"name": f"stage{number}"} | stage for number, stage in enumerate(stages or default)],
    }
    return validate(content, LineOptions, "test")


def line_trainer(problem: Line, config: LineOptions, folder: Path, resumed: dict[str, Any] | None = None) -> Trainer:
    """A trainer that shows nothing."""
    return Trainer(problem, config, folder, Console(file=io.StringIO(), width=200), "data", resumed)


def log_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of ``log.csv`` without the times."""
    with open(folder / "log.csv", newline="", encoding="utf-8") as file:
        return [{name: text for name, text in row.items() if name != "time [s]"} for row in csv.DictReader(file)]


def shown(trainer: Trainer) -> str:
    """What the trainer has said."""
    assert trainer.log is not None
    return trainer.log.console.file.getvalue()  # type: ignore[attr-defined]


def same_state(a: Any, b: Any) -> bool:
    """Whether two checkpoints, or parts of them, hold the same, tensors bit for bit (times left out)."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        names = [name for name in a if name != "seconds"]
        return isinstance(b, dict) and a.keys() == b.keys() and all(same_state(a[name], b[name]) for name in names)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same_state(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def monte_carlo(problem, seed=1, groups=None, **options):
    """The workflow with ``options`` on ``problem``."""
    stage = line_config({"workflow": "monte_carlo", "epochs": 10, "monte_carlo": options}).train_schedule[0]
    groups = problem.parameter_groups() if groups is None else groups
    batches = BatchGradient(problem, [p for group in groups for p in group["params"]], stage)
    return MonteCarlo(stage, batches, groups, None, seed)


def values(problem):
    """Copies of the parameters."""
    return [parameter.detach().clone() for parameter in problem.module.parameters()]
