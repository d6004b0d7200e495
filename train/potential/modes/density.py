"""The density of a batch in each training mode (`modes` says what the modes are)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ....communication import graph_sum
from ....density.density_model import DensityModel, LocalState
from ....density.problem import SCFProblem
from ....graph import Graph
from ....options import SCFOptions
from ....scf.linear_solves import ROUNDINGS
from ....scf.settings import Start
from ....scf.status import MAX_STEPS
from .dense_solve import dense_solutions
from .implicit_solution import ImplicitSolution
from .unrolled import Application, Unrolled, apply_map, at_known_levels, unroll

#: iterations for a structure that has no self-consistent solution
FALLBACK_STEPS = 15
#: structures with more atoms are solved without a matrix in ``linearize_solve``: faster from about here on, and smaller
#: (benchmarks/training_modes.py --crossover, docs/benchmarks.md)
DENSE_ATOMS = 100
#: the loop may take this many steps then: the user, who has a linear solve in mind, did not choose their number for it
MATRIX_FREE_STEPS = 200
#: residual, in roundings of the largest component of the density, above which a dense solution counts as none
DENSE_ROUNDINGS = 1e4


class Task(NamedTuple):
    """What a mode works on."""

    model: DensityModel
    graph: Graph  #: with the positions and the cell of ``problem``
    problem: SCFProblem
    local: LocalState
    scf: SCFOptions
    reference: Tensor | None  #: (n, 4)
    known_level: Tensor | None  #: (B,) absolute, NaN where unknown
    training: bool

    @property
    def guess(self) -> Tensor:
        """mu - mu_0 ``(B,)`` from which levels are sought: that of the data where wanted and known, else 0."""
        if self.scf.initial_fermi_level == "zero" or self.known_level is None:
            return torch.zeros_like(self.problem.target)
        return (self.known_level - self.model.fermi_level_offset).nan_to_num(0.0)


class Found(NamedTuple):
    """What a mode finds."""

    density: Tensor  #: (n, 4) whose energy is taken
    argument: Tensor  #: (n, 4) density that ``applied`` is the map of, a variable of its graph
    applied: Application
    labelled: Tensor  #: (n, 4) what labels of the density belong to
    change: Tensor  #: (n, 4) last step of an unrolled loop; elsewhere G(p) - p
    residual: Tensor  #: (B,) mean |G(p) - p|, detached
    status: Tensor  #: (B,) int64 as of the solver, 0: converged
    steps: Tensor  #: (B,) applications of the map
    fallback: Tensor  #: (B,) bool, structures without a solution, unrolled instead
    implicit: ImplicitSolution | None = None


def direct(t: Task) -> Found:
    """G of the reference density."""
    if t.reference is None:
        raise ValueError("mode 'direct' needs the reference density: map data.keys.atomic_multipoles")
    argument = _variable(t.reference)
    applied = apply_map(t.model, t.problem, argument, t.guess)
    labelled = at_known_levels(t.model, t.problem, applied, t.known_level)
    change = labelled - argument
    residual = _residual(t, change)
    status = (residual > 0).to(torch.int64)
    return Found(applied.update, argument, applied, labelled, change, residual, status, _steps(t, 1), _nowhere(t))


def unroll_scf(t: Task) -> Found:
    """The end of the loop of mixed iterations."""
    end = unroll(t.model, t.problem, _start(t), t.guess, t.scf)
    found = _at(t, end.density, end.level, _steps(t, t.scf.num_scf_steps), _nowhere(t))
    residual = _residual(t, end.change / t.scf.mixing_parameter)
    status = torch.logical_not(residual <= t.scf.scf_tolerance).to(torch.int64)
    return found._replace(change=end.change, residual=residual, status=status)


def implicit(t: Task) -> Found:
    """The solution of the model's own loop, with the derivatives of the implicit function."""
    start = _start(t)
    from_level = Start(start, t.guess + t.model.fermi_level_offset)
    solution = ImplicitSolution(t.model, t.graph, t.problem, t.local, from_level, t.scf)
    density, level, failed = solution.result.x, solution.result.level, solution.failed
    if t.training:
        density = solution.density(apply_map(t.model, t.problem, density, level).update)
    if bool(failed.any()):
        unrolled = _fallback(t, start)
        density = torch.where(failed[t.problem.batch].unsqueeze(1), unrolled.density, density)
        level = torch.where(failed, unrolled.level, level)
    found = _at(t, density, level, solution.result.steps, failed)
    return found._replace(status=solution.result.status, implicit=solution)


def linearize_solve(t: Task) -> Found:
    """The solution of a linear system per structure, or `implicit` where that is the same and costs less."""
    if not t.model.solver.density_map.linear:
        return implicit(t)
    if int(t.problem.atoms.max()) > DENSE_ATOMS or len(t.problem.cache.meshes) > 0:
        steps = max(t.scf.num_scf_steps, MATRIX_FREE_STEPS)
        tolerance = max(t.scf.scf_tolerance, ROUNDINGS * torch.finfo(t.problem.external.dtype).eps)
        loop = {"num_scf_steps": steps, "scf_tolerance": tolerance, "solver": "anderson"}
        return implicit(t._replace(scf=t.scf.model_copy(update=loop)))
    parts = dense_solutions(t.model, t.problem)
    found = _at(t, torch.cat(parts), t.guess, _steps(t, 1), _nowhere(t))
    failed = _not_solved(t, found)
    if not bool(failed.any()):
        return found
    sizes = [part.shape[0] for part in parts]
    unrolled = _fallback(t, _start(t)).density.split(sizes)
    # chosen part by part: a density that is not finite would reach the gradient through a mask
    chosen = [a if bool(instead) else b for a, b, instead in zip(unrolled, parts, failed, strict=True)]
    return _at(t, torch.cat(chosen), t.guess, _steps(t, 1), failed)


DENSITIES = {"direct": direct, "unroll_scf": unroll_scf, "implicit": implicit, "linearize_solve": linearize_solve}


def _at(t: Task, density: Tensor, level: Tensor, steps: Tensor, fallback: Tensor) -> Found:
    """A density in its own field; not converged where it is a fallback."""
    density = _variable(density)
    applied = apply_map(t.model, t.problem, density, level)
    change = applied.update - density
    status = fallback.to(torch.int64) * MAX_STEPS
    return Found(density, density, applied, density, change, _residual(t, change), status, steps, fallback)


def _fallback(t: Task, start: Tensor) -> Unrolled:
    few = t.scf.model_copy(update={"num_scf_steps": min(FALLBACK_STEPS, t.scf.num_scf_steps)})
    return unroll(t.model, t.problem, start, t.guess, few)


def _not_solved(t: Task, found: Found) -> Tensor:
    """Structures ``(B,)`` whose dense solution is none: the map does not give it back, or not the charge."""
    problem, density_map = t.problem, t.model.solver.density_map
    largest = found.density.detach().abs().max().nan_to_num(0.0, 0.0)
    limit = torch.clamp(DENSE_ROUNDINGS * torch.finfo(largest.dtype).eps * largest, min=t.scf.scf_tolerance)
    failed = torch.logical_not(found.residual <= limit)
    return failed | torch.logical_not(density_map.responds(problem)) if problem.constant_charge else failed


def _start(t: Task) -> Tensor:
    if t.scf.initial_density == "local_guess":
        return t.local.density
    if t.reference is None:
        raise ValueError("initial_density 'from_data' needs the reference density: map data.keys.atomic_multipoles")
    return t.reference


def _variable(density: Tensor) -> Tensor:
    """A density that can be differentiated by."""
    return density if density.requires_grad else density.detach().requires_grad_(True)


def _residual(t: Task, change: Tensor) -> Tensor:
    per_atom = change.detach().abs().mean(1).to(torch.float64)
    return graph_sum(per_atom, t.problem.batch, t.problem.atoms.shape[0], False) / t.problem.atoms


def _steps(t: Task, number: int) -> Tensor:
    return torch.full_like(t.problem.atoms, number, dtype=torch.int64)


def _nowhere(t: Task) -> Tensor:
    return torch.zeros_like(t.problem.atoms, dtype=torch.bool)
