"""How a training stage obtains the density its losses see.

- ``direct``: one application of the map to the reference density and Fermi level; p = G(p*, mu*). Energy and forces are
  those of G(p*) at the level that gives it the requested charge, in the field of p*: at a given level the charge would
  change with the geometry, and the derivative of the energy would not be the force. Where no reference Fermi level is
  known, p is that density, too.
- ``unroll_scf``: ``num_scf_steps`` linearly mixed iterations p <- p + α (G(p) - p), differentiated through; energies of
  the last p in its own field.
- ``implicit``: the self-consistent density by the model's own loop, started at the local guess or the data, and its
  derivatives by the implicit function theorem (`implicit`): for every update, in memory that does not depend on the
  number of steps. A structure whose loop does not converge is unrolled instead, for at most `FALLBACK_STEPS` steps, and
  counts as not converged.
- ``linearize_solve``: the self-consistent density itself. The map is linearised and the linear problem

      (1 - J) p - c μ = b,   Σ q = Q*

  solved per structure, differentiably; for updates with one matrix per atom, whose map is affine, this is exact and
  needs no iteration, whatever ``num_scf_steps`` says. For other updates it is `implicit`: linearised at the solution,
  their maps have the same derivatives.

Forces and stress are derivatives of that energy. ``training=True`` keeps the graph, so that losses on them can be
differentiated again.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor

from ..density_model import LocalState
from ..electrostatics.dense import dense_operators
from ..graph import Graph
from ..model import FixedPointPotential
from ..options import SCFOptions
from ..scf.problem import SCFProblem, graph_sum, with_level
from ..self_consistent import strained
from .implicit import ImplicitSolution

#: modes of the schedule that this version can train in
MODES = ("direct", "unroll_scf", "implicit", "linearize_solve")

#: iterations for a structure that has no self-consistent solution
FALLBACK_STEPS = 15


def predict(
    model: FixedPointPotential,
    graph: Graph,
    mode: str,
    scf: SCFOptions | None,
    reference_density: Tensor | None,
    reference_fermi_level: Tensor | None,
    forces: bool,
    stress: bool,
    training: bool,
) -> dict[str, Tensor]:
    """Energy, density and, where asked for, forces and stress of a batch in a training mode.

    Args:
        model: the potential.
        graph: structures, on the model's device.
        mode: one of ``MODES``.
        scf: settings of the loop; None in ``direct``.
        reference_density: [n, 4], e and e·Å; needed by ``direct`` and by ``initial_density: from_data``.
        reference_fermi_level: [B], eV, NaN where unknown; None: unknown everywhere.
        forces: whether to differentiate by positions.
        stress: whether to differentiate by strain.
        training: keep the graph of everything returned.

    Returns:
        The keys of a model archive that make sense in the mode; ``stress`` [B, 3, 3] in eV/Å³ (zero where there is no
        volume); ``scf_steps``, ``residual``, ``status`` (0: the residual meets the tolerance).

    Raises:
        ValueError: unknown mode, or no reference density where one is needed.
    """
    if mode not in MODES:
        raise ValueError(f"mode '{mode}' is not available in this version; use one of {', '.join(MODES)}")
    n_graphs = graph.cell.shape[0]
    positions = graph.positions.detach().requires_grad_(forces)
    strain = torch.zeros_like(graph.cell).requires_grad_(stress)
    owned, vectors, cell = strained(graph, positions, strain)
    local = model.local(graph, vectors)
    constant_charge = scf.constant_charge if scf is not None else True
    problem = model.problem(graph, local, owned, cell, constant_charge)
    task = _Task(model, problem, local, scf or SCFOptions(), reference_density, reference_fermi_level, training)
    state = _MODES[mode](task)
    total = model.total_field(problem, state.field, state.level)
    species = graph.species[: graph.batch.shape[0]]
    terms = model.observables(problem, local, state.density, total, species)
    absolute = state.level + model.fermi_level_offset
    atomic = terms.local + terms.nonlocal_ + terms.coulomb + terms.field
    if not constant_charge:
        atomic = atomic + (absolute[graph.batch] * state.density[:, 0]).to(torch.float64)
    density = state.density if state.labelled is None else state.labelled
    wanted = ([positions] if forces else []) + ([strain] if stress else [])
    implicit = state.implicit
    if implicit is not None and wanted:
        atomic = implicit.corrected(atomic, state.update, state.density, training)
    energy = graph_sum(atomic, graph.batch, n_graphs, False)
    out = {
        "energy": energy if training else energy.detach(),
        "density": density,
        "total_charge": graph_sum(density[:, 0], graph.batch, n_graphs, False),
        "dipole": _dipole(density, owned, graph.batch, n_graphs),
        "fermi_level": absolute,
    }
    if wanted:
        with implicit.closed() if implicit is not None else nullcontext():
            gradients = list(torch.autograd.grad(energy.sum(), wanted, create_graph=training))
        if forces:
            out["forces"] = -gradients.pop(0)
        if stress:
            volume = torch.linalg.det(graph.cell).abs()
            periodic = graph.pbc.all(1)[:, None, None]
            per_volume = gradients.pop(0) / volume[:, None, None]
            out["stress"] = torch.where(periodic, per_volume, torch.zeros_like(per_volume))
    if not training:
        out = {key: value.detach() for key, value in out.items()}
    residual = (state.update - state.density).detach().abs().mean(1) if state.residual is None else state.residual
    mean = graph_sum(residual.to(torch.float64), graph.batch, n_graphs, False) / problem.atoms
    out["residual"] = mean
    out["scf_steps"] = state.steps
    tolerance = scf.scf_tolerance if scf is not None else 0.0
    out["status"] = (mean > tolerance).to(torch.int64)
    if implicit is not None:
        out["status"] = torch.where(implicit.failed, implicit.result.status, out["status"])
    return out


class _State(NamedTuple):
    """What a mode finds: a density, G of it, and the field and level that G was taken in."""

    density: Tensor  #: (n, 4) whose energy is taken
    update: Tensor  #: (n, 4)
    level: Tensor  #: (B,)
    field: Tensor  #: (n, m, 4)
    steps: Tensor  #: (B,) applications of the map
    residual: Tensor | None = None  #: (n,) where it is not that of ``update``
    labelled: Tensor | None = None  #: (n, 4) what labels of the density belong to, if another
    implicit: ImplicitSolution | None = None


class _Task(NamedTuple):
    """What a mode works on."""

    model: FixedPointPotential
    problem: SCFProblem
    local: LocalState
    scf: SCFOptions
    reference: Tensor | None  #: (n, 4)
    known_level: Tensor | None  #: (B,)
    training: bool


def _direct(t: _Task) -> _State:
    if t.reference is None:
        raise ValueError("mode 'direct' needs the reference density: map data.keys.atomic_multipoles")
    update, level, field = _apply(t.model, t.problem, t.reference)
    labelled = _at_known_levels(t.model, t.problem, update, level, field, t.known_level)
    residual = (labelled - t.reference).detach().abs().mean(1)
    return _State(update, update, level, field, _steps(t, 1), residual, labelled)


def _linearize_solve(t: _Task) -> _State:
    if not t.model.solver.density_map.local:
        return _implicit(t)
    density = _solve(t.model, t.problem, t.problem.atoms.shape[0])
    return _State(density, *_apply(t.model, t.problem, density), _steps(t, 1))


def _unroll_scf(t: _Task) -> _State:
    density, residual = _unroll(t.model, t.problem, _start(t.local, t.scf, t.reference), t.scf)
    return _State(density, *_apply(t.model, t.problem, density), _steps(t, t.scf.num_scf_steps), residual)


def _implicit(t: _Task) -> _State:
    start = _start(t.local, t.scf, t.reference)
    solution = ImplicitSolution(t.model, t.problem, t.local, start, t.scf)
    density = solution.result.x
    if t.training:
        density = solution.density(_apply(t.model, t.problem, density)[0])
    if bool(solution.failed.any()):
        few = t.scf.model_copy(update={"num_scf_steps": min(FALLBACK_STEPS, t.scf.num_scf_steps)})
        unrolled = _unroll(t.model, t.problem, start, few)[0]
        density = torch.where(solution.failed[t.problem.batch].unsqueeze(1), unrolled, density)
    return _State(density, *_apply(t.model, t.problem, density), solution.result.steps, implicit=solution)


_MODES = {"direct": _direct, "unroll_scf": _unroll_scf, "implicit": _implicit, "linearize_solve": _linearize_solve}


def _steps(t: _Task, number: int) -> Tensor:
    return torch.full_like(t.problem.atoms, number, dtype=torch.int64)


def _apply(model: FixedPointPotential, problem: SCFProblem, density: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """G(p), level and Coulomb field, differentiable twice whatever the update."""
    density_map = model.solver.density_map
    field = model.electrostatics.field(problem.cache, density, False)
    if density_map.affine or not problem.constant_charge:
        update, level = density_map.update(problem, field, torch.zeros_like(problem.target))
        return update, level, field
    u = (field + problem.external.unsqueeze(1)).detach()
    level = density_map.find_level(problem, u, torch.zeros_like(problem.target))[0]
    response = density_map.linearised(problem, with_level(u, level, problem.batch)).response
    update, level = density_map.differentiable(problem, field, level, response)
    return update, level, field


def _at_known_levels(
    model: FixedPointPotential, problem: SCFProblem, density: Tensor, level: Tensor, field: Tensor, known: Tensor | None
) -> Tensor:
    """The density, but at the absolute Fermi level ``known`` of the structures where that is not NaN."""
    if known is None:
        return density
    given = known - model.fermi_level_offset
    u = field + problem.external.unsqueeze(1)
    return model.solver.density_map.at_level(problem, u, torch.where(torch.isnan(given), level, given))


def _start(local: LocalState, scf: SCFOptions, reference: Tensor | None) -> Tensor:
    if scf.initial_density == "local_guess":
        return local.density
    if reference is None:
        raise ValueError("initial_density 'from_data' needs the reference density: map data.keys.atomic_multipoles")
    return reference


def _unroll(model: FixedPointPotential, problem: SCFProblem, start: Tensor, scf: SCFOptions) -> tuple[Tensor, Tensor]:
    """Density after ``num_scf_steps`` mixed iterations, and the per-atom residual of the last one (detached)."""
    density = model.solver.density_map.project(_linearised_at(model, problem, start), start)
    residual = density.new_zeros(density.shape[0])
    for _ in range(scf.num_scf_steps):
        step = _apply(model, problem, density)[0] - density
        residual = step.detach().abs().mean(1)
        density = density + scf.mixing_parameter * step
    return density, residual


def _linearised_at(model: FixedPointPotential, problem: SCFProblem, density: Tensor) -> SCFProblem:
    """For the charge projection of a start; updates with one matrix per atom need nothing and keep their gradients."""
    return model.solver.density_map.started(problem, density, torch.zeros_like(problem.target))


def _solve(model: FixedPointPotential, problem: SCFProblem, n_graphs: int) -> Tensor:
    """Self-consistent density of an affine map: one bordered linear system per structure."""
    n_widths = problem.state.matrix.shape[2]
    constant = model.solver.density_map.at_level(
        problem, problem.external.unsqueeze(1).repeat(1, n_widths, 1), torch.zeros_like(problem.target)
    )
    densities = []
    begin = 0
    for g, operator in enumerate(dense_operators(problem.cache, problem.batch, n_graphs, n_widths)):
        n = operator.shape[0]
        rows = slice(begin, begin + n)
        begin += n
        response = problem.state.matrix[rows].reshape(n, 4, n_widths * 4)
        jacobian = torch.bmm(response, operator.reshape(n, n_widths * 4, n * 4)).reshape(n * 4, n * 4)
        system = torch.eye(n * 4, dtype=jacobian.dtype, device=jacobian.device) - jacobian
        fermi = problem.shift[rows].reshape(n * 4)
        right = constant[rows].reshape(n * 4)
        if problem.constant_charge:
            charge = torch.zeros_like(fermi)
            charge[::4] = 1.0
            system = torch.cat([system, -fermi.unsqueeze(1)], dim=1)
            system = torch.cat([system, torch.cat([charge, charge.new_zeros(1)]).unsqueeze(0)])
            right = torch.cat([right, problem.target[g : g + 1]])
        else:
            right = right + fermi * problem.target[g]
        densities.append(torch.linalg.solve(system, right)[: n * 4].reshape(n, 4))
    return torch.cat(densities)


def _dipole(density: Tensor, positions: Tensor, batch: Tensor, n_graphs: int) -> Tensor:
    """Cartesian dipoles about the origin, e·Å: sum of q r + d."""
    moments = density[:, :1] * positions + density[:, [3, 1, 2]]
    return graph_sum(moments, batch, n_graphs, False)
