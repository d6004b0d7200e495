"""How a self-consistent loop went: its run, and the rate, bounces and restarts of its residuals."""

import math
from dataclasses import dataclass

import numpy as np

from .loop import GROWTH
from .status import CONVERGED

#: applications at the end of a run that the factor is fitted to, at most
WINDOW = 20


@dataclass(frozen=True)
class SCFRun:
    """One run of the loop on one structure."""

    history: np.ndarray  #: (applications,) mean residual of every application, e
    status: int  #: of the solver, `scf.status`
    tolerance: float
    num_scf_steps: int
    solver: str
    mixing: float  #: mixing_parameter
    iterates: np.ndarray | None = None  #: (applications, n, 4) densities the residuals belong to
    affine: bool = True  #: whether the update is affine in the field, so that the start makes no difference at length
    initial_density: str = "local_guess"
    epsilon: float = 2.2e-16  #: of the arithmetic
    adjoint_status: int = CONVERGED  #: of the loop for the forces


@dataclass(frozen=True)
class Convergence:
    """Figures of a residual history."""

    factor: float  #: the residual is multiplied by this per application, fitted to the last ones; NaN if too short
    rises: float  #: share of these applications that raised it
    reversals: float  #: share of these steps that went against the one before; NaN without densities
    restarts: int  #: times the solver went back to a better density
    remaining: float  #: applications still needed at this factor; inf if it does not fall


def convergence(run: SCFRun) -> Convergence:
    """Rate, bounces and restarts of a run."""
    history = np.asarray(run.history, dtype=float)
    best = np.minimum.accumulate(np.where(np.isfinite(history), history, np.inf))
    back = [k for k in range(1, len(history)) if not history[k] <= GROWTH * best[k - 1]]
    first = back[-1] + 1 if back and back[-1] + 1 < len(history) else 0
    since = history[first:]
    window = since[-min(WINDOW, max(5, 2 * len(since) // 3)) :]
    window = window[np.isfinite(window) & (window > 0)]
    factor, rises = math.nan, 0.0
    if len(window) >= 3:
        factor = float(np.exp(np.polyfit(np.arange(len(window)), np.log(window), 1)[0]))
        rises = float(np.mean(window[1:] > window[:-1]))
    remaining = math.inf
    last = float(best[-1])
    if last <= run.tolerance:
        remaining = 0.0
    elif factor < 1.0:
        remaining = math.log(run.tolerance / last) / math.log(factor)
    return Convergence(factor, rises, _reversals(run, first), len(back), remaining)


def _reversals(run: SCFRun, first: int) -> float:
    if run.iterates is None or len(run.iterates) - first < 4:
        return math.nan
    flat = np.asarray(run.iterates, dtype=float)[first:][-WINDOW:].reshape(-1, run.iterates[0].size)
    steps = np.diff(flat, axis=0)
    length = np.linalg.norm(steps, axis=1)
    cosine = (steps[1:] * steps[:-1]).sum(1) / np.maximum(length[1:] * length[:-1], 1e-300)
    return float(np.mean(cosine < -0.5))
