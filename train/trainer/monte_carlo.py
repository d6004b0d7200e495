"""Workflow ``monte_carlo``: random moves of the parameters, accepted by their loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .gradients import BatchGradient, BatchLoss, check_finite
from .optimizers import Group
from .options import Stage
from .weight_average import WeightAverage, set_values

#: its columns of the log
MC_COLUMNS = ("MC accepted [%]", "MC temperature")


class MonteCarlo:
    """Gaussian moves θ' = θ + s_g ξ of all parameters at once, accepted with probability min(1, exp(-(L' - L)/T)).

    L is the loss of the batch before and after the move, s_g = move × rms of the parameters of group g at the start of
    the stage, T = T_0 (T_1/T_0)^f the temperature of a step that begins at the fraction f of the stage. A rejected move
    restores the parameters bit for bit.

    Args:
        stage: options of the stage; ``monte_carlo`` has moves and temperatures.
        batches: losses.
        groups: those that may move.
        average: the running average of the weights, which begins anew after every step; none: there is none.
        seed: of the moves.

    Source: Metropolis et al., J. Chem. Phys. 21, 1087 (1953), doi:10.1063/1.1699114.
    """

    def __init__(
        self, stage: Stage, batches: BatchGradient, groups: Sequence[Group], average: WeightAverage | None, seed: int
    ) -> None:
        assert stage.monte_carlo is not None
        self.stage, self.batches, self.average = stage, batches, average
        self.options = stage.monte_carlo
        moves = self.options.move
        self.parameters: list[Tensor] = []
        self.sizes: list[float] = []
        for group in groups:
            move = moves.get(group["name"], 0.0) if isinstance(moves, dict) else moves
            if move:
                squares = sum(float(p.detach().double().square().sum()) for p in group["params"])
                # of parameters that are all zero there is no size of which a move could be a part
                rms = math.sqrt(squares / sum(p.numel() for p in group["params"])) or 1.0
                self.parameters += group["params"]
                self.sizes += [move * rms] * len(group["params"])
        self.generator = torch.Generator().manual_seed(seed)
        self.accepted = self.tried = 0
        self.temperature = self.options.temperature

    def begin_epoch(self) -> None:
        """The rate of acceptance is one of the epoch."""
        self.accepted = self.tried = 0

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """``moves_per_batch`` moves; gives the loss after them.

        Raises:
            FloatingPointError: the loss before the first is not finite.
        """
        start, end = self.options.temperature, self.options.temperature_final
        fraction = epochs / self.stage.length
        self.temperature = start if end is None else start * (end / start) ** fraction
        part = self.batches.load(content)
        present = self.batches.value(part)
        check_finite("loss", present.total)
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
        """Continue from `state_dict`."""
        self.sizes, self.accepted, self.tried = state["sizes"], state["accepted"], state["tried"]
        self.generator.set_state(state["generator"])
