"""Radial basis and radial network of the message passing."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..coupling import silu_norm


class BesselBasis(nn.Module):
    """sqrt(2/r_c) sin(n pi r / r_c) / r times the polynomial cutoff of power p (Gasteiger et al., ICLR 2020).

    The cutoff 1 - (p+1)(p+2)/2 u^p + p(p+2) u^(p+1) - p(p+1)/2 u^(p+2), u = r/r_c, is zero with two derivatives at
    and beyond r_c.
    """

    frequencies: Tensor

    def __init__(self, r_max: float, number: int, power: int) -> None:
        super().__init__()
        self.r_max = r_max
        self.power = float(power)
        frequencies = torch.arange(1, number + 1, dtype=torch.float64) * (math.pi / r_max)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Distances ``(n,)`` in Å -> ``(n, number)``."""
        p = self.power
        u = distance / self.r_max
        up = u**p
        cutoff = 1.0 - 0.5 * (p + 1.0) * (p + 2.0) * up + p * (p + 2.0) * up * u - 0.5 * p * (p + 1.0) * up * u * u
        cutoff = cutoff * (u < 1.0).to(distance.dtype)
        scale = math.sqrt(2.0 / self.r_max) * cutoff / distance
        return scale.unsqueeze(1) * torch.sin(distance.unsqueeze(1) * self.frequencies.to(distance.dtype))


class RadialNetwork(nn.Module):
    """Bias-free MLP with second-moment-normalised silu and weights N(0, 1) / sqrt(fan-in): bounded, zero at zero."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b)) for a, b in pairwise(sizes)])
        self.scales = [1.0 / math.sqrt(a) for a in sizes[:-1]]
        self.activation_scale = silu_norm()

    def forward(self, x: Tensor) -> Tensor:
        """``(n, sizes[0])`` -> ``(n, sizes[-1])``."""
        last = len(self.scales) - 1
        for i, weight in enumerate(self.weights):
            x = torch.matmul(x, weight * self.scales[i])
            if i < last:
                x = torch.nn.functional.silu(x) * self.activation_scale
        return x
