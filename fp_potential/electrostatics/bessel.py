"""Bessel functions J0 and J1 to full double precision.

torch's own are wrong by 1e-7 beyond x = 5.  Up to x = 25 by the trapezoidal rule, which converges exponentially, on

    J0(x) = <cos(x sin t)>,   J1(x) = <sin(x sin t) sin t>   over a period of t;

beyond by Hankel's expansion, J_n(x) = sqrt(2 / pi x) [P cos(x - (2n+1) pi/4) - Q sin(x - (2n+1) pi/4)].
"""

import math

import torch
from torch import Tensor


def bessel_j(order: int, x: Tensor) -> Tensor:
    """J0 or J1 of ``x`` >= 0, float64, any shape; no derivative."""
    far = x > 25.0
    near = torch.where(far, torch.zeros_like(x), x)
    points = 64
    sums = torch.zeros_like(x)
    for k in range(points // 4 + 1):
        sine = math.sin(2.0 * math.pi * k / points)
        weight = (2.0 if k == 0 or k == points // 4 else 4.0) / points
        if order == 0:
            sums = sums + weight * torch.cos(near * sine)
        else:
            sums = sums + (weight * sine) * torch.sin(near * sine)
    large = torch.where(far, x, torch.full_like(x, 26.0))
    mu = 4.0 * order * order
    term, p, q = torch.ones_like(x), torch.ones_like(x), torch.zeros_like(x)
    for k in range(1, 21):
        term = term * ((mu - (2.0 * k - 1.0) ** 2) / (8.0 * k)) / large
        sign = -1.0 if (k // 2) % 2 == 1 else 1.0
        if k % 2 == 0:
            p = p + sign * term
        else:
            q = q + sign * term
    angle = large - (2 * order + 1) * (math.pi / 4.0)
    hankel = torch.sqrt(2.0 / (math.pi * large)) * (p * torch.cos(angle) - q * torch.sin(angle))
    return torch.where(far, hankel, sums)
