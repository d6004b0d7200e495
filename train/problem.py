"""What the trainer knows of a learned model: a :class:`Problem`.

The trainer runs stages, steps, averages, checkpoints and logs; what is learned, from which data and with which loss
is the problem's business. A stage is passed through to the problem unread, but for its learning rate and length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from torch import Tensor, nn


class LossResult(NamedTuple):
    """Loss of one batch and what the log should know about it."""

    total: Tensor  #: scalar to be differentiated
    terms: dict[str, Tensor]  #: unweighted terms, detached; averaged over the epoch by number of structures
    structures: int  #: number of structures of the batch


class Problem(Protocol):
    """A learned model with its data, losses and evaluation."""

    name: str
    module: nn.Module

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser: ``name``, ``params``, ``weight_decay``; every trainable parameter is in one."""
        ...

    def initialise(self) -> None:
        """Set initial values of the parameters (a resumed run does not call this)."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold besides the parameters to build the same module again."""
        ...

    def number_of_batches(self, split: str) -> int:
        """Number of batches of ``train``, ``valid`` or ``test``; 0 if the set is empty."""
        ...

    def batches(self, split: str, seed: int | None = None) -> Iterator[Any]:
        """Batches of a set; in an order fixed by ``seed`` if it is given."""
        ...

    def parts(self, batch: Any, number: int) -> Sequence[Any]:
        """The batch as at most ``number`` smaller ones of about the same cost."""
        ...

    def loss(self, batch: Any, stage: Any) -> LossResult:
        """Loss of a batch in the mode and with the weights of the stage."""
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
