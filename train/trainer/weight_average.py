"""Running average of the weights: θ̄ ← d θ̄ + (1 − d) θ after every step, with d = min(decay, (1 + n)/(10 + n)).

n is the number of steps before, so that the average forgets where it began. Source: Polyak and Juditsky, SIAM J.
Control Optim. 30, 838 (1992), doi:10.1137/0330046, for averages; the decay is that of TensorFlow's
``ExponentialMovingAverage``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def applied(parameters: Sequence[Tensor], values: Sequence[Tensor] | None) -> Iterator[None]:
    """Within the block the parameters hold ``values`` (None: their own); afterwards what they held, bit for bit."""
    if values is None:
        yield
        return
    kept = [parameter.detach().clone() for parameter in parameters]
    set_values(parameters, values)
    try:
        yield
    finally:
        set_values(parameters, kept)


@torch.no_grad()
def set_values(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy ``values`` into ``parameters``."""
    if len(parameters):
        torch._foreach_copy_(list(parameters), list(values))


class WeightAverage:
    """The average of ``parameters``; one fused operation per step.

    Args:
        parameters: what is averaged, in the order of ``values``.
        decay: the largest d, reached after many steps.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters = list(parameters)
        self.decay = decay
        self.steps = 0
        self.values = [parameter.detach().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present parameters into the average."""
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        torch._foreach_lerp_(self.values, self.parameters, 1 - decay)

    def reset(self) -> None:
        """Begin again at the present parameters."""
        self.steps = 0
        set_values(self.values, self.parameters)

    def load_state(self, steps: int, values: Sequence[Tensor]) -> None:
        """Continue from the number of steps and the values of an earlier average."""
        self.steps = steps
        set_values(self.values, values)

    def state_dict(self) -> dict[str, Any]:
        """Everything a resumed run needs."""
        return {"steps": self.steps, "average": self.values}
