"""Real spherical harmonics of unit vectors, in component normalisation: sum_m Y_lm² = 2l + 1."""

import math

import torch
from torch import Tensor


def spherical_harmonics(unit: Tensor, l_max: int) -> Tensor:
    """Y_lm for unit vectors ``(…, 3)`` in Cartesian order: ``(…, (l_max+1)²)``, m = -l … l for each l.

    Y_lm = N_lm P_l^|m|(z) {Re, Im}(x + i y)^|m| without the Condon–Shortley sign, with
    N_lm = sqrt((2l+1) (2 - delta_m0) (l-|m|)! / (l+|m|)!) and P_l^m the Legendre functions without sin^m, by

        P_m^m = (2m-1)!!,   (l-m) P_l^m = (2l-1) z P_{l-1}^m - (l+m-1) P_{l-2}^m.

    For l = 1 they are sqrt(3) (y, z, x): the order and normalisation of e3nn (Geiger and Smidt, arXiv:2207.09453), of
    vectors whose polar axis is z.

    Sources: DLMF, §14.30(i) (definition) and eq. 14.10.3 (recursion in the degree); Abramowitz and Stegun, eq. 8.5.3.
    """
    x, y, z = unit[..., 0], unit[..., 1], unit[..., 2]
    cosine = [torch.ones_like(x)]
    sine = [torch.zeros_like(x)]
    for m in range(l_max):
        cosine.append(cosine[m] * x - sine[m] * y)
        sine.append(cosine[m] * y + sine[m] * x)
    columns: list[Tensor] = []
    for ell in range(l_max + 1):
        negative: list[Tensor] = []
        positive: list[Tensor] = []
        for m in range(ell + 1):
            # P_m^m = (2m-1)!!, then upward in l
            previous = torch.zeros_like(z)
            current = torch.ones_like(z)
            for i in range(m):
                current = current * float(2 * i + 1)
            for j in range(m + 1, ell + 1):
                following = (float(2 * j - 1) * z * current - float(j + m - 1) * previous) / float(j - m)
                previous = current
                current = following
            norm = float(2 * ell + 1)
            for i in range(ell - m + 1, ell + m + 1):
                norm = norm / float(i)
            if m == 0:
                positive.append(math.sqrt(norm) * current)
            else:
                scale = math.sqrt(2.0 * norm)
                positive.append(scale * current * cosine[m])
                negative.append(scale * current * sine[m])
        for m in range(ell):
            columns.append(negative[ell - 1 - m])
        columns.extend(positive)
    return torch.stack(columns, dim=-1)
