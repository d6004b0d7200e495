"""What losses and tables want of a mode's result beside energy, forces, stress and density."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

import torch
from torch import Tensor

from ....density.density_model import DensityModel
from ....density.problem import SCFProblem, detach_problem
from ....electrostatics.nuclei import potentials_at_nuclei
from ....graph import Graph
from .density import Found
from .spectrum_ends import spectrum_ends


class Context(NamedTuple):
    """A mode's result in its geometry."""

    model: DensityModel
    graph: Graph
    problem: SCFProblem
    positions: Tensor  #: (n, 3) strained
    cell: Tensor  #: (B, 3, 3) strained
    found: Found
    reference: Tensor | None  #: (n, 4)
    training: bool


def esps(c: Context, density: Tensor) -> Tensor:
    """Potential at the nuclei ``(n,)``, V, of a density and of the external field."""
    of_density = potentials_at_nuclei(c.model.electrostatics, c.positions, c.cell, c.graph.pbc, c.graph.batch, density)
    return of_density + c.problem.external[:, 0]


def coulomb_features(c: Context, density: Tensor) -> Tensor:
    """Normalised field features ``(n, m, 4)`` of a density, without external field and Fermi level."""
    field = c.model.electrostatics.field(c.problem.cache, density, False)
    return field * c.model.normalised_scale.to(field.dtype)


def charge_response(c: Context) -> Tensor:
    """dq_i/dmu ``(n,)``, e/V, in a fixed Coulomb field.

    One level moves the charges of all atoms: the derivative of w·dq/dmu by w.
    """
    _, level, field = c.found.applied
    shift = torch.zeros_like(level).requires_grad_(True)
    u = field + c.problem.external.unsqueeze(1)
    charges = c.model.solver.density_map.at_level(c.problem, u, level + shift)[:, 0]
    w = torch.zeros_like(charges).requires_grad_(True)
    (pulled,) = torch.autograd.grad(charges, shift, w, create_graph=True)
    (response,) = torch.autograd.grad(pulled.sum(), w, create_graph=c.training, retain_graph=True)
    return response


def metallic_softness(c: Context) -> Tensor:
    """-dq_i/du_i ``(n,)``, e/V, of what answers to a potential and not to differences of it."""
    if not c.model.solver.density_map.shares_charge:
        raise ValueError("metallic_softness is a property of type: SplitChargeUpdate")
    return -c.problem.charge_row[:, :, 0].sum(1)


def dipole_softness(c: Context) -> Tensor:
    """One third of the trace ``(n,)``, e Å²/V, of the atom's dipole block of M: its own and that of its bonds."""
    density_map = c.model.solver.density_map
    if not density_map.shares_charge:
        raise ValueError("dipole_softness is a property of type: SplitChargeUpdate")
    state, receiver = c.problem.state, density_map.first_used
    own = -state.matrix[:, 1:, receiver, 1:].diagonal(dim1=1, dim2=2).sum(1)
    of_bonds = state.bonds.own[:, :, 1:].square().sum((1, 2))
    return own.index_add(0, state.bonds.atom, of_bonds) / 3.0


def spectrum(c: Context) -> Tensor:
    """Largest and smallest real part ``(B, 2)`` of the eigenvalues of dG/dp."""
    density_map = c.model.solver.density_map
    update, level, field = c.found.applied
    point = c.model.total_field(c.problem, field, level).detach()
    fixed = detach_problem(c.problem, c.model.electrostatics.detached(c.problem.cache))
    fixed = density_map.linearised(fixed, point)
    return spectrum_ends(density_map, fixed, point, update, c.found.argument, c.training)


def _reference(c: Context) -> Tensor:
    assert c.reference is not None
    return c.reference


#: name -> how it is found, for those that take no derivative of the self-consistent density
OF_STATE: dict[str, Callable[[Context], Tensor]] = {
    "esps": lambda c: esps(c, c.found.labelled),
    "reference_esps": lambda c: esps(c, _reference(c)),
    "coulomb_features": lambda c: coulomb_features(c, c.found.labelled),
    "reference_coulomb_features": lambda c: coulomb_features(c, _reference(c)),
    "charge_response": charge_response,
    "spectrum": spectrum,
    "metallic_softness": metallic_softness,
    "dipole_softness": dipole_softness,
    "final_change": lambda c: c.found.change,
}
#: those that do: dD_a/dE_b ``(B, 3, 3)`` in e·Å²/V, dD_b/dr_a ``(n, 3, 3)`` in e, dE/dQ ``(B,)`` in V, dq_i/dE_a
#: ``(n, 3)`` in e·Å/V
RESPONSES = ("polarizability", "born_charges", "energy_by_charge", "charges_by_field")


def checked(properties: Collection[str], mode: str, constant_charge: bool, has_reference: bool) -> frozenset[str]:
    """The names as a set.

    Raises:
        ValueError: an unknown name, a derivative that the mode does not have, or no reference density where one is
            needed.
    """
    names = frozenset(properties)
    known = {*OF_STATE, *RESPONSES}
    if names - known:
        raise ValueError(f"unknown property {', '.join(sorted(names - known))}; known: {', '.join(sorted(known))}")
    responses = sorted(names & set(RESPONSES))
    if mode == "direct" and responses:
        raise ValueError(f"mode 'direct' has no self-consistent density to take derivatives of: {', '.join(responses)}")
    if "energy_by_charge" in names and not constant_charge:
        raise ValueError("energy_by_charge is a derivative at constant charge: set scf.constant_charge: true")
    of_reference = sorted(name for name in names if name.startswith("reference_"))
    if of_reference and not has_reference:
        raise ValueError(f"{', '.join(of_reference)}: need the reference density: map data.keys.atomic_multipoles")
    return names
