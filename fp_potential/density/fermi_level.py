"""The charge constraint: the Fermi level as a function of the density."""

import torch
from torch import Tensor

#: the charge does not respond when |R| is below this times sum |c^q| ...
CANCELLATION = 1e-3
#: ... or sum |c^q| per atom is below this (e/V)
MINIMUM_RESPONSE = 1e-6
#: charge (e) by which a density may miss the total charge asked for, and its growth with the sum of |q| by rounding
CHARGE_ERROR, CHARGE_ROUNDING = 1e-3, 1e-6
#: Newton steps for the Fermi level, and the longest of them (V) while the root is not bracketed
LEVEL_STEPS, LONGEST_STEP = 60, 2.0


def with_level(field: Tensor, level: Tensor, batch: Tensor) -> Tensor:
    """Raw field ``(n, m, 4)`` with a constant potential ``(B,)`` added."""
    return torch.cat([field[:, :, :1] + level[batch][:, None, None], field[:, :, 1:]], dim=2)
