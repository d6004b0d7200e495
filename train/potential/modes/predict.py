"""How a training stage obtains the density its losses see, and what follows from it.

- ``direct``: one application of the map to the reference density and Fermi level; p = G(p*, mu*). Energy and forces are
  those of G(p*) at the level that gives it the requested charge, in the field of p*: at a given level the charge would
  change with the geometry, and the derivative of the energy would not be the force. Where no reference Fermi level is
  known, p is that density, too.
- ``unroll_scf``: ``num_scf_steps`` linearly mixed iterations p <- p + α (G(p) - p), differentiated through; energies of
  the last p in its own field.
- ``implicit``: the self-consistent density by the model's own loop, started at the local guess or the data, and its
  derivatives by the implicit function theorem (`implicit`): for every update, in memory that does not depend on the
  number of steps.
- ``linearize_solve``: the self-consistent density itself. The map is linearised and the linear problem

      (1 - J) p - c μ = b,   Σ q = Q*

  solved per structure, differentiably; for updates with one matrix per atom, whose map is affine, this is exact and
  needs no iteration, whatever ``num_scf_steps`` says. For other updates it is `implicit`: linearised at the solution,
  their maps have the same derivatives. So it is for batches with a structure of more than `densities.DENSE_ATOMS`
  atoms, or on a mesh.

A structure without a self-consistent solution, because its loop does not converge or its linear system is singular, is
unrolled instead, for at most `densities.FALLBACK_STEPS` steps; ``fallback`` of the result says so.

Forces, stress and responses are derivatives of that energy and density. ``training=True`` keeps the graph, so that
losses on them can be differentiated again.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext

import torch
from torch import Tensor

from ....communication import graph_sum
from ....density.density_model import DensityModel
from ....density.observables import charge_and_dipole, dipole_source, stress_of, total_energy
from ....density.self_consistent import strained
from ....graph import Graph
from ....options import SCFOptions
from ....scf.status import NO_FERMI_LEVEL
from .charge_flows import charges_by_field
from .density import DENSITIES, Found, Task
from .properties import OF_STATE, Context, checked

#: properties that are derivatives by the external field
BY_FIELD = {"polarizability", "charges_by_field"}

#: modes of the schedule that this version can train in
MODES = tuple(DENSITIES)


def predict(
    model: DensityModel,
    graph: Graph,
    mode: str,
    scf: SCFOptions | None,
    reference_density: Tensor | None,
    reference_fermi_level: Tensor | None,
    forces: bool,
    stress: bool,
    training: bool,
    properties: Collection[str] = (),
) -> dict[str, Tensor]:
    """Energy, density and, where asked for, forces, stress and further properties of a batch in a training mode.

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
        properties: names of `properties.OF_STATE` and `properties.RESPONSES`.

    Returns:
        The keys of a model archive that make sense in the mode; ``stress`` [B, 3, 3] in eV/Å³ (`stress_of`);
        ``scf_steps``, ``residual``, ``status`` (0: converged); ``fallback`` [B], whether a structure was unrolled for
        want of a solution; ``solve_failures`` [], the linear solves of single structures that missed their tolerance,
        to which differentiating a loss adds those it makes; the properties by their names.

    Raises:
        ValueError: unknown mode or property, a property that the mode does not have, or no reference density where one
            is needed.
    """
    if mode not in MODES:
        raise ValueError(f"mode '{mode}' is not available in this version; use one of {', '.join(MODES)}")
    constant_charge = scf.constant_charge if scf is not None else True
    wanted = checked(properties, mode, constant_charge, reference_density is not None)
    n_graphs, batch = graph.cell.shape[0], graph.batch
    positions = graph.positions.detach().requires_grad_(forces or "born_charges" in wanted)
    strain = torch.zeros_like(graph.cell).requires_grad_(stress)
    graph = graph._replace(
        total_charge=graph.total_charge.detach().requires_grad_("energy_by_charge" in wanted),
        external_field=graph.external_field.detach().requires_grad_(bool(wanted & BY_FIELD)),
    )
    owned, vectors, cell = strained(graph, positions, strain)
    local = model.local(graph, vectors)
    problem = model.problem(graph, local, owned, cell, constant_charge)
    task = Task(model, graph, problem, local, scf or SCFOptions(), reference_density, reference_fermi_level, training)
    found = DENSITIES[mode](task)
    applied = found.applied
    terms = model.observables(problem, local, found.density, applied.field, applied.level, graph.species)
    absolute = found.applied.level + model.fermi_level_offset
    conducts = model.solver.density_map.conducts(problem)
    atomic = total_energy(terms, found.density, absolute, batch, constant_charge)

    inputs = {"forces": positions} if forces else {}
    inputs |= {"stress": strain} if stress else {}
    inputs |= {"energy_by_charge": graph.total_charge} if "energy_by_charge" in wanted else {}
    if found.implicit is not None and inputs:
        atomic = atomic + _response(found, atomic.sum(), found.implicit.energy_gradient(), training)
    energy = graph_sum(atomic, batch, n_graphs, False)
    moments = graph_sum(charge_and_dipole(found.labelled, owned), batch, n_graphs, False)
    out = {
        "energy": energy,
        "density": found.labelled,
        "total_charge": moments[:, 0],
        "dipole": moments[:, 1:],
        "fermi_level": torch.where(conducts, absolute, model.fermi_level_offset) if constant_charge else absolute,
        "conducts": conducts,
    }
    if inputs:
        out |= _derivatives(found, energy.sum(), inputs, training, bool(wanted))
    if forces:
        out["forces"] = -out["forces"]
    if stress:
        out["stress"] = stress_of(out["stress"], graph)
    variables = {"polarizability": graph.external_field, "born_charges": positions}
    variables = {name: variable for name, variable in variables.items() if name in wanted}
    if variables:
        out |= _dipole_responses(found, out["dipole"], owned.detach(), variables, training)
    if "charges_by_field" in wanted:
        out["charges_by_field"] = charges_by_field(found, graph.external_field, training)
    context = Context(model, graph, problem, owned, cell, found, reference_density, training)
    out |= {name: OF_STATE[name](context) for name in OF_STATE if name in wanted}
    if not training:
        out = {key: value.detach() for key, value in out.items()}
    failures = torch.zeros((), dtype=torch.float64, device=energy.device)
    return out | {
        "residual": found.residual,
        "scf_steps": found.steps,
        "status": found.status if constant_charge else _held(model, found.status, conducts),
        "fallback": found.fallback,
        "solve_failures": failures if found.implicit is None else found.implicit.solves.failures,
    }


def _held(model: DensityModel, status: Tensor, conducts: Tensor) -> Tensor:
    """The status ``(B,)`` at constant Fermi level: there is none to hold where nothing conducts."""
    if not model.solver.density_map.shares_charge:
        return status
    return torch.where(conducts, status, torch.full_like(status, NO_FERMI_LEVEL))


def _response(found: Found, value: Tensor, source: Tensor, training: bool) -> Tensor:
    """λ·(G(p) - p) per atom ``(n,)``, which completes the derivatives at fixed density of a function of the density."""
    assert found.implicit is not None
    update, density = found.applied.update, found.density
    return (found.implicit.multiplier(value, source, update, density, training) * (update - density)).sum(1)


def _derivatives(
    found: Found, value: Tensor, inputs: dict[str, Tensor], training: bool, again: bool
) -> dict[str, Tensor]:
    """Derivatives of a scalar by ``inputs``; ``again``: there will be further ones."""
    with found.implicit.closed() if found.implicit is not None else nullcontext():
        parts = torch.autograd.grad(value, list(inputs.values()), create_graph=training, retain_graph=training or again)
    return dict(zip(inputs, parts, strict=True))


def _dipole_responses(
    found: Found, dipole: Tensor, positions: Tensor, variables: dict[str, Tensor], training: bool
) -> dict[str, Tensor]:
    """dD_a/dE_b and dD_b/dr_a, those of which ``variables`` holds the field or the positions."""
    rows = []
    for axis in range(3):
        value = dipole[:, axis].sum()
        if found.implicit is not None:
            value = value + _response(found, value, dipole_source(positions, axis), training).sum()
        rows.append(_derivatives(found, value, variables, training, True))
    out = {}
    if "polarizability" in variables:
        # the field is F = -E
        out["polarizability"] = -torch.stack([row["polarizability"] for row in rows], dim=1)
    if "born_charges" in variables:
        out["born_charges"] = torch.stack([row["born_charges"] for row in rows], dim=2)
    return out
