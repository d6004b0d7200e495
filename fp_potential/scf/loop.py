"""The fixed-point loop for x = G(x), of any unknowns ``(n, c)`` that belong to structures.

The loop is a state; whoever owns the map owns the ``while``:

    state = loop.start(x, level, scale, groups, settings)
    while state.going:
        update, level = G(state.x)
        state = loop.step(state, update - state.x, level)
    result = loop.result(state)

so that maps with other arguments, with and without constraint, scripted or not, all run through the same lines.  For
the solution x = cos x of two structures with a row each:

>>> import torch
>>> from fp_potential.scf.loop import FixedPointLoop
>>> from fp_potential.scf.settings import Groups, LoopSettings
>>> loop, settings = FixedPointLoop(history=10), LoopSettings(50, 1e-12, 0.5, "anderson")
>>> groups = Groups(torch.tensor([0, 1]), torch.tensor([1, 1]), 2, distributed=False)
>>> x, level = torch.tensor([[0.0], [1.0]]).double(), torch.zeros(2).double()  # no constraint: the level stays
>>> state = loop.start(x, level, torch.ones(2).double(), groups, settings)
>>> while state.going:
...     state = loop.step(state, torch.cos(state.x) - state.x, level)
>>> [round(value, 9) for value in loop.result(state).x[:, 0].tolist()]
[0.739085133, 0.739085133]

A
``level`` is a number per structure that the map finds together with its result (the multiplier of a constraint); the
loop only keeps the one that belongs to the unknowns it returns.

Converged means: mean |G(x) - x| per component <= tolerance and the largest row <= `WORST_ATOM` times that, for each
structure on its own.  What is returned is what the residual was measured at, with its level.

A guard keeps the best unknowns of each structure.  Where a residual grows to `GROWTH` times the best one, or is not
finite, the structure goes back to its best unknowns, forgets its history and takes shorter steps; after `RESTARTS` of
these it counts as diverged.  Early growth alone is harmless: the negative end of the map's spectrum makes the first
residuals grow before the history spans it.  A structure that does not converge is left at its best unknowns.
"""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from .anderson import Mixer, MixingState
from .settings import Groups, LoopSettings
from .status import CONVERGED, DIVERGED, MAX_STEPS

#: largest residual of a row (an atom) allowed at convergence, times the tolerance of the mean
WORST_ATOM = 5.0
#: growth of the residual over the best one that makes a structure start again from there, ...
GROWTH = 1e3
#: ... how often, and by which factor its steps are shortened each time
RESTARTS, SHORTER = 4, 0.4


class SolverResult(NamedTuple):
    """Outcome of a fixed-point solve."""

    x: Tensor  #: (n, c) unknowns: the best found
    level: Tensor  #: (B,) level at ``x``; zero for maps that have none
    steps: Tensor  #: (B,) int64, applications of the map
    residual: Tensor  #: (B,) float64, mean residual of ``x``
    status: Tensor  #: (B,) int64, as in `scf.status`
    history: Tensor  #: (applications, B) float64, mean residual of every application
    changes: Tensor  #: (applications - 1, B) float64, mean |change| of ``x`` from one application to the next


def with_status(result: SolverResult, status: Tensor) -> SolverResult:
    """``result`` with another ``status`` ``(B,)``."""
    return SolverResult(result.x, result.level, result.steps, result.residual, status, result.history, result.changes)


class Best(NamedTuple):
    """The smallest residual of each structure so far, and where it was."""

    residual: Tensor  #: (B,) float64
    x: Tensor  #: (n, c)
    f: Tensor  #: (n, c) G(x) - x
    level: Tensor  #: (B,)


class LoopState(NamedTuple):
    """A loop between two applications of the map."""

    going: bool  #: whether the map is wanted at ``x``
    x: Tensor  #: (n, c) where
    level: Tensor  #: (B,) level found by the last application, from which the next one is sought
    active: Tensor  #: (B,) bool, structures that are neither converged nor given up
    groups: Groups
    settings: LoopSettings
    scale: Tensor  #: (B,) float64, residuals are measured in units of this
    mixing: MixingState
    best: Best
    damping: Tensor  #: (B,) float64, factor on the steps
    restarts: Tensor  #: (B,) int64
    steps: Tensor  #: (B,) int64, applications
    status: Tensor  #: (B,) int64
    history: Tensor  #: (applications, B) float64; no list, which a compiler may take for a constant between functions
    changes: Tensor  #: (applications - 1, B) float64


class FixedPointLoop(nn.Module):
    """Guarded mixing with a criterion for each structure.

    Args:
        history: steps that Anderson mixing remembers.
        precondition: module that maps a residual ``(n, c)`` to the step that would follow from it alone, linear and
            positive; none: the residual itself.
    """

    def __init__(self, history: int, precondition: Optional[nn.Module] = None) -> None:
        super().__init__()
        self.mixer = Mixer(history, precondition)
        self.worst_atom = WORST_ATOM
        self.growth, self.restarts, self.shorter = GROWTH, RESTARTS, SHORTER
        self.converged, self.max_steps, self.diverged = CONVERGED, MAX_STEPS, DIVERGED

    def start(self, x: Tensor, level: Tensor, scale: Tensor, groups: Groups, settings: LoopSettings) -> LoopState:
        """The state before the first application, at ``x`` ``(n, c)``.

        Args:
            level: ``(B,)`` level to begin with; zeros for maps without.
            scale: ``(B,)`` float64, what the tolerance is relative to.
        """
        number = groups.number
        nothing = torch.full([number], float("inf"), dtype=torch.float64, device=x.device)
        count = torch.zeros([number], dtype=torch.int64, device=x.device)
        return LoopState(
            True,
            x,
            level,
            torch.ones([number], dtype=torch.bool, device=x.device),
            groups,
            settings,
            scale,
            self.mixer.start(x, number),
            Best(nothing, x, torch.zeros_like(x), level),
            torch.ones([number], dtype=torch.float64, device=x.device),
            count,
            count,
            torch.full_like(count, self.max_steps),
            torch.zeros([0, number], dtype=torch.float64, device=x.device),
            torch.zeros([0, number], dtype=torch.float64, device=x.device),
        )

    def scale_of(self, source: Tensor, groups: Groups, smallest: float) -> Tensor:
        """Mean |source| per component of each structure ``(B,)`` float64, at least ``smallest``: of linear maps."""
        nothing = self.mixer.start(source, groups.number)
        return torch.clamp(self.mixer.norms(nothing, source, source, groups).mean, min=smallest)

    def step(self, state: LoopState, f: Tensor, level: Tensor) -> LoopState:
        """The state after an application at ``state.x``.

        Args:
            f: ``(n, c)`` residual G(x) - x, without gradients.
            level: ``(B,)`` found with it.
        """
        batch, settings, active = state.groups.batch, state.settings, state.active
        x, level = state.x, torch.where(active, level, state.level)
        norms = self.mixer.norms(state.mixing, x, f, state.groups)
        mean = norms.mean / state.scale
        last, changes = mean, state.changes
        if state.history.shape[0] > 0:
            last = state.history[-1]
            # of a structure that has ended: zero, it stays where it is
            changes = torch.cat([changes, norms.change.unsqueeze(0)])
        history = torch.cat([state.history, torch.where(active, mean, last).unsqueeze(0)])
        steps = torch.where(active, torch.full_like(state.steps, history.shape[0]), state.steps)

        done = active & (mean <= settings.scf_tolerance)
        done = done & (norms.largest / state.scale <= self.worst_atom * settings.scf_tolerance)
        status = torch.where(done, torch.full_like(state.status, self.converged), state.status)
        lower = active & (mean < state.best.residual)
        # a mean within the tolerance with one row above it can be better than a later, converged state
        best = self._better(state.best, lower | done, Best(mean, x, f, level), batch)

        bad = active & (torch.logical_not(torch.isfinite(mean)) | (mean > self.growth * best.residual))
        restarts = state.restarts + bad.to(torch.int64)
        lost = bad & ((restarts > self.restarts) | torch.logical_not(torch.isfinite(best.residual)))
        status = torch.where(lost, torch.full_like(status, self.diverged), status)
        active = active & torch.logical_not(done | lost)

        going = history.shape[0] < settings.num_scf_steps and bool(active.any())
        mixing, damping = state.mixing, state.damping
        if going:
            if bool(bad.any()):
                rows = bad[batch].unsqueeze(1)
                x, f = torch.where(rows, best.x, x), torch.where(rows, best.f, f)
                level = torch.where(bad, best.level, level)
                damping = torch.where(bad, self.shorter * damping, damping)
                mixing = self.mixer.restarted(mixing, bad, x, f)
            x, mixing = self.mixer.step(mixing, norms, x, f, state.groups, settings, active, damping)
        return LoopState(
            going,
            x,
            level,
            active,
            state.groups,
            settings,
            state.scale,
            mixing,
            best,
            damping,
            restarts,
            steps,
            status,
            history,
            changes,
        )

    def _better(self, best: Best, better: Tensor, new: Best, batch: Tensor) -> Best:
        """``new`` where ``better`` ``(B,)``, else ``best``."""
        rows = better[batch].unsqueeze(1)
        return Best(
            torch.where(better, new.residual, best.residual),
            torch.where(rows, new.x, best.x),
            torch.where(rows, new.f, best.f),
            torch.where(better, new.level, best.level),
        )

    def result(self, state: LoopState) -> SolverResult:
        """What a loop that has ended has found."""
        best, history = state.best, state.history
        # never better than the start: nothing finite was found
        residual = torch.where(torch.isfinite(best.residual), best.residual, history[-1])
        return SolverResult(best.x, best.level, state.steps, residual, state.status, history, state.changes)
