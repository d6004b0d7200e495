"""Potentials in real space, with a check that the transform has converged."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: change of v(r), relative to its largest value, below which the grid in q is fine enough
TOLERANCE = 1e-6
#: how often the number of points may be doubled
DOUBLINGS = 4
#: distances that are transformed at once
CHUNK = 256


@dataclass(frozen=True)
class RealSpace:
    """v(r) ``(n_r, n_species)`` Ha at ``r`` ``(n_r,)`` Bohr, and how well it has converged.

    ``points`` of q were used; the last doubling of their number changed v(r) by ``grid_error``, and the part of q from
    q_max to 2 q_max by ``cutoff_error``, both relative to the largest |v(r)|.
    """

    r: Tensor
    values: Tensor
    points: int
    grid_error: float
    cutoff_error: float

    @property
    def converged(self) -> bool:
        """Whether both changes are below `TOLERANCE`."""
        return max(self.grid_error, self.cutoff_error) < TOLERANCE

    def sentence(self) -> str:
        """For the log."""
        text = (
            f"real space: {self.points} points of q; doubling them changes v(r) by {self.grid_error:.1e} of its "
            f"largest value, twice the largest q by {self.cutoff_error:.1e}"
        )
        return text if self.converged else text + f": not converged to {TOLERANCE:g}; raise outputs.q_max or n_q"


def to_real_space(v: Callable[[Tensor], Tensor], q_max: float, n_q: int, r_max: float, n_r: int) -> RealSpace:
    """v(r) = 1/(2π² r) ∫ q sin(q r) v(q) dq of ``v`` ``(m,) -> (m, n_species)``, by Simpson's rule on [0, q_max].

    The number of points, at least ``n_q``, is doubled until v(r) stays the same. At r = 0 sin(q r)/r is q.

    Args:
        v: potential in reciprocal space, Ha Bohr³.
        q_max: end of the integral, 1/Bohr.
        n_q: number of points to begin with.
        r_max: largest distance, Bohr.
        n_r: number of distances, from 0.
    """
    r = torch.linspace(0.0, r_max, n_r, dtype=torch.float64)
    points = n_q + n_q % 2
    with torch.no_grad():
        present = _simpson(v, 0.0, q_max, points, r)
        change = math.inf
        for _ in range(DOUBLINGS):
            points *= 2
            finer = _simpson(v, 0.0, q_max, points, r)
            size = float(finer.abs().max()) or 1.0
            change, present = float((finer - present).abs().max()) / size, finer
            if change < TOLERANCE:
                break
        beyond = float(_simpson(v, q_max, 2 * q_max, points, r).abs().max()) / (float(present.abs().max()) or 1.0)
    return RealSpace(r, present, points, change, beyond)


def _simpson(v: Callable[[Tensor], Tensor], begin: float, end: float, intervals: int, r: Tensor) -> Tensor:
    """The integral over ``intervals`` (even) intervals of q."""
    q = torch.linspace(begin, end, intervals + 1, dtype=torch.float64)
    weights = torch.ones_like(q)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    weights *= (end - begin) / intervals / 3.0
    integrand = weights[:, None] * (q * q)[:, None] * v(q) / (2 * math.pi**2)
    found = [torch.sinc(part[:, None] * q / math.pi) @ integrand for part in r.split(CHUNK)]
    return torch.cat(found)
