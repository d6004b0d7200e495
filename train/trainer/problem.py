"""What the trainer knows of a learned model: a `Problem`.

The trainer runs stages, steps, averages, checkpoints and logs; what is learned, from which data and with which loss
is the problem's business. A stage is passed through to the problem; of its options the trainer reads only those of
`options.Stage`, and the learning rates ``<group>_lr`` of the groups of parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from .options import InitialiseOptions, RunOptions


class LossResult(NamedTuple):
    """Loss of a batch, or of a part of one, and what the log should know about it."""

    total: Tensor  #: scalar to be differentiated
    terms: dict[str, Tensor]  #: unweighted terms, detached; averaged over the epoch by number of structures
    structures: int  #: number of structures
    #: sums over the structures, read after the loss is differentiated; the log has them per structure
    counts: dict[str, Tensor] | None = None


class Problem(Protocol):
    """A learned model with its data, losses and evaluation.

    Several processes may share the work: each builds its part of a batch, and the losses and terms of the parts must
    add up to those of the batch (a mean over the batch has the denominator of the whole batch in every part).
    ``evaluate`` and ``report`` are called on all of them at once and may share their work by `trainer.distributed`.

    The mean of four numbers, which gradient descent on Σ (v - x_i)²/4 with the rate 1/2 finds in one step:

    >>> import tempfile
    >>> from pathlib import Path
    >>> import torch
    >>> from rich.console import Console
    >>> from fp_potential.train.trainer.options import RunOptions
    >>> from fp_potential.train.trainer.problem import LossResult
    >>> from fp_potential.train.trainer.trainer import Trainer
    >>> class Mean:
    ...     name, config_type, free_options = "mean", RunOptions, ()
    ...     numbers = torch.tensor([1.0, 2.0, 3.0, 4.0])
    ...     def __init__(self):
    ...         self.module = torch.nn.ParameterDict({"v": torch.zeros(())})
    ...     def introduction(self):
    ...         return ["four numbers"]
    ...     def parameter_groups(self):
    ...         return [{"name": "all", "params": [self.module["v"]], "weight_decay": 0.0}]
    ...     def initialise(self, options, seed):
    ...         return ["begins at zero"]
    ...     def state(self):
    ...         return {}
    ...     def plan(self, split, seed=None):
    ...         return [[0, 1, 2, 3]]
    ...     def batch(self, split, content, part=0, parts=1):
    ...         return self.numbers[content]
    ...     def loss(self, batch, stage, differentiable=True):
    ...         error = (self.module["v"] - batch).square().mean()
    ...         return LossResult(error, {"square": error.detach()}, len(batch))
    ...     def columns(self):
    ...         return ["train error", "valid loss"]
    ...     def summarise(self, terms):
    ...         return {"train error": terms["square"] ** 0.5}
    ...     def evaluate(self, split, stage, epoch_of_stage):
    ...         return {"valid loss": self.loss(self.numbers, stage).total.item()}
    ...     def report(self, split):
    ...         return f"mean: {self.module['v'].item()}"
    ...     def export(self, path):
    ...         torch.save(self.module.state_dict(), path)
    >>> options = RunOptions(
    ...     training={"optimizer": "sgd", "ema_decay": None},
    ...     train_schedule=[{"name": "descent", "epochs": 2, "lr": 0.5}],
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Trainer(Mean(), options, Path(folder), Console(quiet=True)).run()
    'mean: 2.5'
    """

    config_type: type[RunOptions]  #: the class of the whole training file
    free_options: Sequence[str]  #: dotted options of it, not the trainer's, that a resumed run may change
    name: str  #: in messages
    module: nn.Module

    def introduction(self) -> list[str]:
        """What a run says of its data and its model before it begins, line by line."""
        ...

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser: ``name``, ``params``, ``weight_decay``; every trainable parameter is in one.

        A stage may freeze a group by its name, and give it a learning rate of its own by an option ``<name>_lr``, which
        the class of stages in ``config_type`` declares.
        """
        ...

    def initialise(self, options: InitialiseOptions, seed: int) -> list[str]:
        """Set the parameters (a resumed run does not call this); says what was done, for the log."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the parameters to build the same module again."""
        ...

    def plan(self, split: str, seed: int | None = None) -> Sequence[Any]:
        """What goes into each batch of ``train``, ``valid`` or ``test``, in an order fixed by ``seed`` if it is given.

        Empty if the set is.
        """
        ...

    def batch(self, split: str, content: Any, part: int = 0, parts: int = 1) -> Any | None:
        """The batch of an item of the plan, or one of ``parts`` parts of about the same cost of it.

        Part 0 always exists; None for another one that has nothing to do.
        """
        ...

    def loss(self, batch: Any, stage: Any, differentiable: bool = True) -> LossResult:
        """Loss of a batch, or its part's share of it, in the mode and with the weights of the stage."""
        ...

    def columns(self) -> Sequence[str]:
        """Headings, units included, of all columns that ``summarise`` and ``evaluate`` fill."""
        ...

    def summarise(self, terms: dict[str, float]) -> dict[str, float]:
        """Columns of the log from the terms of the loss averaged over an epoch."""
        ...

    def evaluate(self, split: str, stage: Any, epoch_of_stage: int) -> dict[str, float]:
        """Columns of the log from a set, evaluated as the stage trains; ``valid loss`` among them."""
        ...

    def report(self, split: str) -> str:
        """Table of the final errors on a set, by the model's own solution; empty if the set is."""
        ...

    def export(self, path: str | Path) -> None:
        """Write the module as it stands for use outside of training."""
        ...


@runtime_checkable
class OwnMoves(Protocol):
    """What a `Problem` may have besides, for the workflow ``monte_carlo``: moves of its own."""

    def propose(self, stage: Any, generator: Generator, factor: float) -> bool:
        """Move the parameters that require gradients, by the sizes of ``stage`` times ``factor``.

        All random numbers are those of ``generator``. False: nothing was done, and the moves are those of the options.
        """
        ...

    def improved(self, loss: float) -> None:
        """Called where the parameters have given the smallest loss of a batch of the stage so far."""
        ...


@runtime_checkable
class Attended(Protocol):
    """What a `Problem` may have besides: work of its own between epochs."""

    def before_epoch(self, stage: Any, epoch_of_stage: int, seed: int) -> list[str]:
        """Called before the first batch of an epoch (counted from 0), by all processes; what it says goes to the log.

        It may change the parameters, as a function of these and the seed alone.
        """
        ...

    def after_epoch(self, stage: Any, row: dict[str, Any], run_dir: Path) -> None:
        """Called by the process that writes, with the row of the log, before the checkpoint of the epoch.

        The parameters have their values in evaluation. It may be called again for an epoch that was done before, when a
        run that was killed is resumed.
        """
        ...

    def optimizer_built(self, optimizer: Optimizer) -> list[str]:
        """Called with each new optimiser; what it says goes to the log. It may give it a state."""
        ...
