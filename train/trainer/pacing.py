"""What the validation loss decides in a stage: plateaus of the learning rate and the early stop."""

from __future__ import annotations

import math
from typing import Any

from .options import RunningOptions, Stage


class Pacing:
    """Follows the loss of a stage, that of validation or of training (``paced_by``).

    A plateau is ``plateau_patience`` epochs without a new smallest loss since the last one or the last reduction of the
    learning rate; each multiplies ``factor``, by which rates are multiplied, with ``plateau_factor``, down to
    lr_final/lr. The stage should stop after ``patience`` epochs without a new smallest loss.
    """

    def __init__(self, stage: RunningOptions) -> None:
        self.stage = stage
        self.best = math.inf
        self.best_epoch = 0
        self.reduced_epoch = 0
        self.factor = 1.0

    def observe(self, epoch: int, loss: float) -> bool:
        """Take in the loss after ``epoch`` epochs of the stage; returns whether the stage should stop."""
        stage = self.stage
        if loss < self.best:
            self.best, self.best_epoch = loss, epoch
            return False
        waited = epoch - max(self.best_epoch, self.reduced_epoch)
        if stage.lr_decay == "plateau" and waited >= stage.plateau_patience:
            smallest = 0.0 if stage.lr_final is None else stage.lr_final / stage.lr
            self.factor, self.reduced_epoch = max(smallest, self.factor * stage.plateau_factor), epoch
        return stage.patience is not None and epoch - self.best_epoch >= stage.patience

    def reason(self, epoch: int) -> str:
        """Why the stage stops after ``epoch`` epochs of it."""
        first = 0 if not isinstance(self.stage, Stage) else self.stage.first_epoch
        kind = {"valid": "validation", "train": "training"}[self.stage.paced_by]
        return f"after {epoch} epochs: the smallest {kind} loss was that of epoch {first + self.best_epoch - 1}"

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {name: value for name, value in vars(self).items() if name != "stage"}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        vars(self).update(state)
