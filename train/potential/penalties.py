"""The mean of h(error) that most terms of the loss are (`losses`).

Source: Huber, Ann. Math. Stat. 35, 73 (1964), doi:10.1214/aoms/1177703732, for h with a δ, here twice as large.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .config.loss import Squares, Term

Output = dict[str, Tensor]


def mean_penalty(error: Tensor, weight: Tensor, term: Term) -> Tensor:
    """Mean of weight · h(error); errors of no weight count nothing, whatever they are."""
    error = torch.where(weight > 0, error, torch.zeros((), dtype=error.dtype, device=error.device))
    penalty = error.square()
    delta = term.huber if isinstance(term, Squares) else None
    if delta is not None:
        size = error.abs()
        penalty = torch.where(size <= delta, penalty, delta * (2.0 * size - delta))
    return (weight * penalty).mean()
