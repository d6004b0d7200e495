"""The radial basis of the message passing."""

import math

import torch
from torch import Tensor, nn


class BesselBasis(nn.Module):
    """sqrt(2/r_c) sin(n pi r / r_c) / r, n = 1 … ``number``, times the polynomial cutoff of power p.

    The cutoff 1 - (p+1)(p+2)/2 u^p + p(p+2) u^(p+1) - p(p+1)/2 u^(p+2), u = r/r_c, is zero with two derivatives at
    and beyond r_c.

    Source: Gasteiger, Groß and Günnemann, ICLR 2020, arXiv:2003.03123, eqs. 7 and 8.
    """

    frequencies: Tensor

    def __init__(self, r_max: float, number: int, power: int) -> None:
        super().__init__()
        self.r_max = r_max
        self.power = float(power)
        frequencies = torch.arange(1, number + 1, dtype=torch.float64) * (math.pi / r_max)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Distances ``(n,)`` > 0 in Å -> ``(n, number)``, Å^(-3/2)."""
        p = self.power
        u = distance / self.r_max
        up = u**p
        cutoff = 1.0 - 0.5 * (p + 1.0) * (p + 2.0) * up + p * (p + 2.0) * up * u - 0.5 * p * (p + 1.0) * up * u * u
        cutoff = cutoff * (u < 1.0).to(distance.dtype)
        scale = math.sqrt(2.0 / self.r_max) * cutoff / distance
        return scale.unsqueeze(1) * torch.sin(distance.unsqueeze(1) * self.frequencies.to(distance.dtype))
