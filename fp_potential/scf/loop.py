"""The fixed-point loop."""

from typing import NamedTuple

from torch import Tensor

#: largest per-atom residual allowed at convergence, times the tolerance of the mean
WORST_ATOM = 5.0
#: growth of the residual over the best one that makes a structure start again from there, ...
GROWTH = 1e3
#: ... how often, and by which factor its steps are shortened each time
RESTARTS, SHORTER = 4, 0.4


class SolverResult(NamedTuple):
    """Outcome of a fixed-point solve."""

    x: Tensor  #: (n, 4) density or adjoint
    level: Tensor  #: (B,) mu - mu_0 at ``x``; zero for the adjoint
    steps: Tensor  #: (B,) applications of the map
    residual: Tensor  #: (B,) float64, mean residual of ``x``
    status: Tensor  #: (B,) int64
    history: Tensor  #: (applications, B) mean residual of every application
