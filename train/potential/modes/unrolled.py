"""The map G with a graph that can be differentiated twice: one application, and loops of mixed ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ....communication import graph_sum
from ....density.density_model import DensityModel
from ....density.fermi_level import with_level
from ....density.problem import SCFProblem
from ....options import SCFOptions


class Application(NamedTuple):
    """G of a density, and what it was found with."""

    update: Tensor  #: (n, 4) G(p)
    level: Tensor  #: (B,) mu - mu_0
    field: Tensor  #: (n, m, 4) Coulomb field A p


class Unrolled(NamedTuple):
    """The end of a loop of mixed iterations."""

    density: Tensor  #: (n, 4)
    change: Tensor  #: (n, 4) last step, α (G(p) - p)
    level: Tensor  #: (B,) mu - mu_0 of that step, detached


def apply_map(model: DensityModel, problem: SCFProblem, density: Tensor, guess: Tensor) -> Application:
    """One application, differentiable twice whatever the update; the level is sought from ``guess`` ``(B,)``."""
    density_map = model.solver.density_map
    field = model.electrostatics.field(problem.cache, density, False)
    if density_map.affine or not problem.constant_charge:
        update, level = density_map.update(problem, field, guess)
        return Application(update, level, field)
    u = (field + problem.external.unsqueeze(1)).detach()
    level = density_map.find_level(problem, u, guess)[0]
    response = density_map.linearised(problem, with_level(u, level, problem.batch)).response
    update, level = density_map.differentiable(problem, field, level, response)
    return Application(update, level, field)


def unroll(model: DensityModel, problem: SCFProblem, start: Tensor, guess: Tensor, scf: SCFOptions) -> Unrolled:
    """The density after ``num_scf_steps`` mixed iterations from a density ``(n, 4)`` and a level ``(B,)``."""
    density, level = projected(model, problem, start, guess), guess
    change = torch.zeros_like(density)
    for _ in range(scf.num_scf_steps):
        applied = apply_map(model, problem, density, level)
        level = applied.level.detach()
        change = scf.mixing_parameter * (applied.update - density)
        density = density + change
    return Unrolled(density, change, level)


def projected(model: DensityModel, problem: SCFProblem, start: Tensor, guess: Tensor) -> Tensor:
    """A first density on the charge surface, as the loop takes it (`DensityMap.project`), with all its derivatives."""
    density_map = model.solver.density_map
    if not density_map.linear and problem.constant_charge:
        field = model.electrostatics.field(problem.cache, start, False) + problem.external.unsqueeze(1)
        u = with_level(field, guess, problem.batch)
        u = u if u.requires_grad else u.detach().requires_grad_(True)
        charges = density_map.response.density(problem.state, u, False)[:, 0]
        (row,) = torch.autograd.grad(charges.sum(), u, create_graph=True)
        response = graph_sum(row[:, :, 0].sum(1), problem.batch, problem.atoms.shape[0], False)
        problem = problem._replace(charge_row=row, response=response)
    return density_map.project(problem, start)


def at_known_levels(model: DensityModel, problem: SCFProblem, found: Application, known: Tensor | None) -> Tensor:
    """The density in the field of ``found``, but at the absolute levels ``known`` ``(B,)`` where these are not NaN.

    Where nothing conducts a level means nothing: there the density keeps its own.
    """
    if known is None:
        return found.update
    given = known - model.fermi_level_offset
    u = found.field + problem.external.unsqueeze(1)
    own = torch.isnan(given) | torch.logical_not(model.solver.density_map.conducts(problem))
    return model.solver.density_map.at_level(problem, u, torch.where(own, found.level, given))
