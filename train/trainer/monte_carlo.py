"""Workflow ``monte_carlo``: random moves of the parameters, accepted by their loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from .gradients import BatchGradient, BatchLoss, check_finite
from .moves import At, Moves, temperature_at
from .optimizers import Group
from .options import Stage
from .problem import OwnMoves
from .weight_average import WeightAverage, set_values

#: its columns of the log, and the one that replicas add
MC_COLUMNS = ("MC accepted [%]", "MC temperature")
MC_EXCHANGED = "MC exchanged [%]"


def monte_carlo_columns(stages: Iterable[Stage]) -> list[str]:
    """The columns of the log that ``stages`` fill."""
    options = [stage.random_moves for stage in stages if stage.random_moves is not None]
    exchanged = [MC_EXCHANGED] if any(option.replicas for option in options) else []
    return [*MC_COLUMNS, *exchanged] if options else []


class MonteCarlo:
    """Moves (`Moves`) of all parameters at once, accepted with probability min(1, exp(-(E' - E)/T)).

    E is the loss L of the batch, or sqrt(L) (``acceptance: root_loss``), before and after the move; T that of the move
    (`temperature_at`). A rejected move restores the parameters bit for bit. With ``replicas`` there are copies of the
    parameters at the temperatures T_0 < T_1 < …, all of which move; every ``exchange_every`` moves neighbours i and
    j = i + 1 (i even and odd in turn) are exchanged with probability min(1, exp((1/T_i - 1/T_j) (E_i - E_j))), which
    leaves the product of their distributions exp(-E/T) as it is. The module holds the coldest.

    Args:
        stage: options of the stage; ``monte_carlo`` has moves and temperatures.
        batches: losses.
        groups: those that may move.
        average: the running average of the weights, which begins anew after every step; none: there is none.
        seed: of the moves.

    Sources: Metropolis et al., J. Chem. Phys. 21, 1087 (1953), doi:10.1063/1.1699114; Hukushima and Nemoto, J. Phys.
    Soc. Jpn. 65, 1604 (1996), doi:10.1143/JPSJ.65.1604 (replica exchange).
    """

    def __init__(
        self, stage: Stage, batches: BatchGradient, groups: Sequence[Group], average: WeightAverage | None, seed: int
    ) -> None:
        options = stage.random_moves
        assert options is not None
        self.stage, self.batches, self.average, self.options = stage, batches, average, options
        self.moves = Moves(self.options, groups, batches.problem, stage)
        self.parameters = self.moves.parameters
        self.generator = torch.Generator().manual_seed(seed)
        self.accepted = self.tried = self.exchanged = self.attempts = 0
        self.done = 0  #: moves in the stage; of each replica
        self.at = temperature_at(self.options, 0.0, 0)
        self.best_loss = math.inf
        self.best_values: list[Tensor] = []
        self.replicas: list[list[Tensor]] = [self._values() for _ in self.options.replicas]

    def begin_epoch(self) -> None:
        """The rates of acceptance and exchange are those of the epoch."""
        self.accepted = self.tried = self.exchanged = self.attempts = 0

    def step(self, content: Any, epochs: float, step: float) -> BatchLoss:
        """``moves_per_batch`` moves; gives the loss after them.

        Raises:
            FloatingPointError: the loss before the first is not finite.
        """
        part = self.batches.load(content)
        fraction = epochs / self.stage.length
        present = self._replica_moves(part) if self.replicas else self._moves(part, fraction)
        if self.average is not None:
            self.average.reset()
        return present

    def _moves(self, part: list[Any], fraction: float) -> BatchLoss:
        present = self._first(part)
        for _ in range(self.options.moves_per_batch):
            self.at = temperature_at(self.options, fraction, self.done)
            present = self._try(part, present, self.at)
            self.done += 1
        return present

    def _first(self, part: list[Any]) -> BatchLoss:
        present = self.batches.value(part)
        check_finite("loss", present.total)
        self._keep_best(present)
        return present

    def _try(self, part: list[Any], present: BatchLoss, at: At) -> BatchLoss:
        """One move; the loss after it."""
        kept = self._values()
        self.moves.propose(self.generator, at.move_factor)
        moved = self.batches.value(part)
        self.tried += 1
        if self._accepts(self._height(moved) - self._height(present), at.temperature):
            self.accepted += 1
            self._keep_best(moved)
            return moved
        set_values(self.parameters, kept)
        return present

    def _height(self, loss: BatchLoss) -> float:
        if self.options.acceptance == "loss":
            return loss.total
        return math.sqrt(loss.total) if loss.total >= 0 else math.nan

    def _accepts(self, rise: float, temperature: float) -> bool:
        # drawn for every move, so that the sequence of moves does not depend on rounding
        chance = float(torch.rand((), generator=self.generator, dtype=torch.float64))
        if not math.isfinite(rise):
            return False
        if rise <= 0:
            return True
        return temperature > 0 and chance < math.exp(-rise / temperature)

    # ---- replicas -----------------------------------------------------------------------------------------------

    def _replica_moves(self, part: list[Any]) -> BatchLoss:
        temperatures = self.options.replicas
        losses = []
        for values in self.replicas:
            set_values(self.parameters, values)
            losses.append(self._first(part))
        for _ in range(self.options.moves_per_batch):
            for place, temperature in enumerate(temperatures):
                set_values(self.parameters, self.replicas[place])
                self.at = At(temperature)
                losses[place] = self._try(part, losses[place], self.at)
                self.replicas[place] = self._values()
            self.done += 1
            if self.done % self.options.exchange_every == 0:
                self._exchange(losses)
        self.at = At(temperatures[0])
        set_values(self.parameters, self.replicas[0])
        return losses[0]

    def _exchange(self, losses: list[BatchLoss]) -> None:
        """Exchange neighbours, from the first or from the second in turn."""
        inverse = [1 / temperature if temperature > 0 else math.inf for temperature in self.options.replicas]
        first = self.done // self.options.exchange_every % 2 if len(losses) > 2 else 0
        for i in range(first, len(losses) - 1, 2):
            chance = float(torch.rand((), generator=self.generator, dtype=torch.float64))
            rise = self._height(losses[i]) - self._height(losses[i + 1])
            self.attempts += 1
            if rise >= 0 or chance < math.exp((inverse[i] - inverse[i + 1]) * rise):
                self.exchanged += 1
                self.replicas[i], self.replicas[i + 1] = self.replicas[i + 1], self.replicas[i]
                losses[i], losses[i + 1] = losses[i + 1], losses[i]

    # ---- what is kept -------------------------------------------------------------------------------------------

    def _values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.parameters]

    def _keep_best(self, loss: BatchLoss) -> None:
        if loss.total < self.best_loss:
            self.best_loss, self.best_values = loss.total, self._values()
            if isinstance(self.batches.problem, OwnMoves):
                self.batches.problem.improved(loss.total)

    def finish(self) -> None:
        """Go back to the best parameters if the stage ends with them."""
        if self.options.finish == "best" and self.best_values:
            set_values(self.parameters, self.best_values)
            if self.average is not None:
                self.average.reset()

    def row(self) -> dict[str, float]:
        """Moves accepted in the epoch, and the temperature of its last batch; of replicas exchanges, too."""
        values = (100 * self.accepted / max(1, self.tried), self.at.temperature)
        exchanged = {MC_EXCHANGED: 100 * self.exchanged / max(1, self.attempts)} if self.replicas else {}
        return dict(zip(MC_COLUMNS, values, strict=True)) | exchanged

    def state_dict(self) -> dict[str, Any]:
        """Sizes of the moves, the generator, counts, the best parameters, and those of the replicas."""
        counts = ("accepted", "tried", "exchanged", "attempts", "done", "best_loss", "best_values", "replicas")
        kept = {name: getattr(self, name) for name in counts}
        return {"sizes": self.moves.sizes, "generator": self.generator.get_state()} | kept

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.moves.sizes = state["sizes"]
        self.generator.set_state(state["generator"])
        # checkpoints of earlier versions hold the first two counts only
        vars(self).update({name: value for name, value in state.items() if name not in ("sizes", "generator")})
