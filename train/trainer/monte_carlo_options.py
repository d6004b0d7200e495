"""Options of random moves of the parameters (workflow ``monte_carlo``)."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field, model_validator

from ..config.schema import Section


class TemperingPhase(Section):
    """Moves at one temperature."""

    temperature: float = Field(ge=0)
    """Temperature of the phase."""
    moves: int = Field(gt=0)
    """Its length in moves."""
    move_factor: float = Field(default=1.0, gt=0)
    """Factor on the sizes of the moves."""


class MonteCarloOptions(Section):
    """Random moves of the parameters, accepted by the rule of Metropolis on the loss of a batch."""

    move: float | dict[str, float] = 0.01
    """Size of a move relative to the root mean square of the group's parameters at the start of the stage, or to 1
    where all are zero: one for all groups, or by group (``{GROUP: 0.02}``; groups that are not named do not move)."""
    move_of: Literal["rms", "each"] = "rms"
    """What ``move`` is relative to: the root mean square of the group (rms), or the present value of each single
    parameter (each), so that one that is zero stays zero."""
    distribution: Literal["normal", "uniform"] = "normal"
    """Of a move: normal with its size as standard deviation, or uniform between minus and plus its size."""
    fraction: float = Field(default=1.0, gt=0, le=1)
    """Part of the parameters that a move changes, drawn anew for each."""
    moves_per_batch: int = Field(default=1, gt=0)
    """Moves tried on each batch; all but the first cost one evaluation of the loss instead of two."""
    acceptance: Literal["loss", "root_loss"] = "loss"
    """What is compared with the temperature: a rise of the loss, or of its square root."""
    temperature: float = Field(default=0.0, ge=0)
    """A move that raises the loss by d is accepted with probability exp(-d/temperature); 0: never."""
    temperature_final: float | None = Field(default=None, gt=0)
    """Temperature at the end of the stage, reached exponentially; none: constant."""
    tempering: list[TemperingPhase] = Field(default=[])
    """Temperatures one after the other, each for a number of moves, in place of ``temperature``."""
    repeat: bool = True
    """Begin ``tempering`` anew after its last phase; false: the last one lasts to the end."""
    replicas: list[float] = Field(default=[])
    """Replica exchange: temperatures, the coldest first, of copies of the parameters that move side by side. The model
    is the coldest; each move costs one evaluation per replica."""
    exchange_every: int = Field(default=5, gt=0)
    """Moves of each replica between attempts to exchange neighbours."""
    finish: Literal["last", "best"] = "last"
    """What the stage ends with: the parameters of the last move, or those with the smallest loss of a batch (useful
    where a batch is the whole set)."""

    @model_validator(mode="after")
    def _positive(self) -> MonteCarloOptions:
        if any(move <= 0 for move in (self.move.values() if isinstance(self.move, dict) else [self.move])):
            raise ValueError(f"move must be above zero, got {self.move}")
        if self.temperature_final is not None and self.temperature == 0:
            raise ValueError("temperature_final needs a temperature above zero to start from")
        return self

    @model_validator(mode="after")
    def _one_kind_of_temperature(self) -> MonteCarloOptions:
        kinds = {
            "temperature_final": self.temperature_final is not None,
            "tempering": bool(self.tempering),
            "replicas": bool(self.replicas),
        }
        given = [name for name, is_given in kinds.items() if is_given]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other: each says what the temperature is")
        if len(self.replicas) == 1 or any(hot <= cold for cold, hot in pairwise(self.replicas)):
            raise ValueError(f"replicas: expected two temperatures or more that rise, got {self.replicas}")
        if self.replicas and self.replicas[0] < 0:
            raise ValueError(f"replicas: a temperature is at least zero, got {self.replicas[0]}")
        return self
