"""Random moves of parameters, and the temperatures at which they are accepted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .monte_carlo_options import MonteCarloOptions, TemperingPhase
from .optimizers import Group
from .problem import OwnMoves, Problem


class Moves:
    """Moves θ' = θ + s ξ of the entries of ``parameters``.

    ξ is normal with variance 1, or uniform in (-1, 1); s = move × rms of the group at the start of the stage, or move ×
    |θ| of each entry. With ``fraction`` below one a move changes that part of all entries (at least one), drawn anew
    each time. A problem may have moves of its own in place of these (`OwnMoves`).

    Args:
        options: sizes, distribution and fraction.
        groups: those that may move.
        problem: what is trained.
        stage: passed through to the problem.
    """

    def __init__(self, options: MonteCarloOptions, groups: Sequence[Group], problem: Problem, stage: Any) -> None:
        self.options, self.problem, self.stage = options, problem, stage
        self.parameters: list[Tensor] = []
        self.sizes: list[float] = []  #: of each parameter; with ``move_of: each`` relative ones
        for group in groups:
            move = options.move.get(group["name"], 0.0) if isinstance(options.move, dict) else options.move
            if move:
                # of parameters that are all zero there is no size of which a move could be a part
                size = move if options.move_of == "each" else move * (_rms(group["params"]) or 1.0)
                self.parameters += group["params"]
                self.sizes += [size] * len(group["params"])

    @torch.no_grad()
    def propose(self, generator: torch.Generator, factor: float) -> None:
        """Move the parameters, by sizes multiplied with ``factor``."""
        if isinstance(self.problem, OwnMoves) and self.problem.propose(self.stage, generator, factor):
            return
        chosen = self._chosen(generator)
        for place, (parameter, size) in enumerate(zip(self.parameters, self.sizes, strict=True)):
            shape, kind = parameter.shape, parameter.dtype
            if self.options.distribution == "normal":
                step = torch.randn(shape, generator=generator, dtype=kind)
            else:
                step = 2 * torch.rand(shape, generator=generator, dtype=kind) - 1
            if chosen is not None:
                step = step * chosen[place]
            step = step.to(parameter.device)
            if self.options.move_of == "each":
                step = step * parameter.abs()
            parameter.add_(step, alpha=factor * size)

    def _chosen(self, generator: torch.Generator) -> list[Tensor] | None:
        """A mask of each parameter: which entries move; none: all."""
        if self.options.fraction == 1.0:
            return None
        sizes = [parameter.numel() for parameter in self.parameters]
        mask = torch.zeros(sum(sizes), dtype=torch.bool)
        number = max(1, round(self.options.fraction * len(mask)))
        mask[torch.randperm(len(mask), generator=generator)[:number]] = True
        return [part.view(p.shape) for part, p in zip(mask.split(sizes), self.parameters, strict=True)]


def _rms(parameters: Sequence[Tensor]) -> float:
    squares = sum(float(p.detach().double().square().sum()) for p in parameters)
    return math.sqrt(squares / sum(p.numel() for p in parameters))


class At(NamedTuple):
    """Where a move is tried."""

    temperature: float
    move_factor: float = 1.0


def temperature_at(options: MonteCarloOptions, fraction: float, moves: int) -> At:
    """The temperature of a move after the fraction f of the stage and a number of moves in it.

    T = T_0 (T_1/T_0)^f, constant without a T_1, or that of the phase of ``tempering`` in which the move falls.
    """
    if options.tempering:
        phase = _phase(options.tempering, moves, options.repeat)
        return At(phase.temperature, phase.move_factor)
    start, end = options.temperature, options.temperature_final
    return At(start if end is None else start * (end / start) ** fraction)


def _phase(phases: Sequence[TemperingPhase], moves: int, repeat: bool) -> TemperingPhase:
    if repeat:
        moves %= sum(phase.moves for phase in phases)
    for phase in phases:
        if moves < phase.moves:
            return phase
        moves -= phase.moves
    return phases[-1]
