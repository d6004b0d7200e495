"""Exact solutions of the known models by one dense linear solve, independent of the engine's operators and solvers.

With z the variables that respond, p = p_fixed + B z, K the Coulomb matrix, H the diagonal of their stiffness, b = (χ +
F·r, F), c = 1 on charges:

    (H + B^T K B) z + B^T c μ = -B^T (b + K p_fixed),     c·p = Q  or  μ given,
    E = ½ z·H z + ½ p·K p + b·p + repulsion,   Ω = E + μ Q.

Variables are charges (η) and dipoles (1/α) of atoms, with columns of the unit matrix for B, and the charge that a bond
moves, with +1 on one atom and -1 on the other, and stiffness 1/(a f(r))² (`split_charges`).

Forces and the strain derivative are the derivatives of E (Ω) through the linear solve by automatic differentiation;
that they equal the derivatives at fixed x is a property of the model, not an assumption made here.
Only for single structures of one process, in float64.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..density.self_consistent import strained
from ..graph import Graph
from ..lattice import cell_volume, half_sphere, reciprocal_cell
from ..units import COULOMB, INVERSE_EPSILON0
from .models import ReferenceModel
from .options import own_stiffness
from .split_charges import SplitCharges


class ExactSolution(NamedTuple):
    """Ground state; energies in eV, lengths in Å."""

    density: Tensor  #: (n, 4) [q, d_y, d_z, d_x], e and e Å
    fermi_level: Tensor  #: () absolute, eV
    total_charge: Tensor  #: () e
    dipole: Tensor  #: (3,) Cartesian, about the origin, e Å
    energy: Tensor  #: () E, or Ω at constant Fermi level, eV
    forces: Tensor  #: (n, 3) eV/Å
    strain_gradient: Tensor  #: (3, 3) eV


class ExactResponse(NamedTuple):
    """Linear response of the ground state; E is the physical field, -F."""

    by_charge: Tensor  #: (n, 4) dp/dQ at constant geometry: Fukui function, 1 and Å
    by_level: Tensor  #: (n, 4) dp/dμ, e/V
    capacitance: Tensor  #: () -dQ/dμ, e/V
    by_field: Tensor  #: (n, 4, 3) dp/dE at constant charge or Fermi level, e Å/V and e Å²/V
    polarizability: Tensor  #: (3, 3) dD/dE, e Å²/V; times k_e: Å³


class _System(NamedTuple):
    """The quadratic form of a geometry, of m variables over all 4 n components."""

    coulomb: Tensor  #: (4n, 4n) K
    directions: Tensor  #: (4n, m) B
    stiffness: Tensor  #: (m,) H
    slope: Tensor  #: (4n,) without the external field
    charges: Tensor  #: (4n,) 1 on charges
    lever: Tensor  #: (4n, 3) derivative of D by the density: r on charges, 1 on dipoles
    fixed: Tensor  #: (4n,) density of the components that do not respond
    repulsion: Tensor  #: ()
    conducts: bool  #: whether a variable changes the total charge


def coulomb_matrix(positions: Tensor, cell: Tensor | None, sigma: float, cutoff: float, own: bool) -> Tensor:
    """K ``(4n, 4n)`` with energy ½ p·K p of Gaussian charges and dipoles, eV; with gradient.

    Periodic: (2 / V eps0) sum over half the k-sphere of Re[f_i* f_j] exp(-k²σ²)/k², f = (1, -i k) exp(-i k·r).
    Open (``cell`` None): (1, ∂_i) (1, ∂_j) of k_e erf(r/2σ)/r by automatic differentiation.  ``own``: with the
    interaction of each Gaussian with itself.
    """
    n = positions.shape[0]
    self_charge, self_dipole = own_stiffness(sigma)
    itself = torch.tensor([self_charge] + [self_dipole] * 3, dtype=torch.float64).repeat(n)
    if cell is not None:
        k = half_sphere(cell, cutoff) @ reciprocal_cell(cell)
        k2 = (k * k).sum(1)
        weight = 2.0 * INVERSE_EPSILON0 / cell_volume(cell) * torch.exp(-k2 * sigma**2) / k2
        phase = torch.exp(-1j * (positions @ k.t()))
        factors = torch.cat([torch.ones_like(k[:, :1]).to(phase.dtype), -1j * k[:, [1, 2, 0]]], dim=1)
        f = (phase.t().unsqueeze(2) * factors.unsqueeze(1)).reshape(-1, 4 * n)
        matrix = (f.conj().t() @ (weight.unsqueeze(1) * f)).real
        return matrix if own else matrix - torch.diag(itself)

    matrix = _pairs(positions, sigma).permute(0, 2, 1, 3).reshape(4 * n, 4 * n)
    return matrix + torch.diag(itself) if own else matrix


def _pairs(positions: Tensor, sigma: float) -> Tensor:
    """Interactions ``(n, n, 4, 4)`` of different atoms in open boundaries."""
    n = positions.shape[0]
    matrix = torch.zeros(n, n, 4, 4, dtype=torch.float64)
    if n == 1:
        return matrix

    def kernel(r: Tensor) -> Tensor:
        distance = r.square().sum().sqrt()
        return COULOMB * torch.erf(distance / (2.0 * sigma)) / distance

    i, j = torch.triu_indices(n, n, 1)
    difference = (positions[i] - positions[j])[:, [1, 2, 0]]
    value = torch.vmap(kernel)(difference)
    first = torch.vmap(torch.func.grad(kernel))(difference)
    second = torch.vmap(torch.func.hessian(kernel))(difference)
    top = torch.cat([value[:, None], -first], dim=1).unsqueeze(1)
    block = torch.cat([top, torch.cat([first.unsqueeze(2), -second], dim=2)], dim=1)
    return matrix.index_put((i, j), block).index_put((j, i), block.transpose(1, 2))


def _system(model: ReferenceModel, graph: Graph, positions: Tensor, strain: Tensor) -> _System:
    """The form at ``positions`` ``(n, 3)`` under ``strain`` ``(1, 3, 3)``, with their gradients."""
    if graph.cell.shape[0] != 1 or graph.positions.dtype != torch.float64:
        raise ValueError("exact solutions are for one structure in float64")
    if bool(graph.pbc.any()) and not bool(graph.pbc.all()):
        raise ValueError(f"exact solutions are for structures with three or no periodic axes, got {graph.pbc.tolist()}")
    owned, vectors, cell = strained(graph, positions, strain)
    periodic = bool(graph.pbc.all())
    n = owned.shape[0]
    coulomb = coulomb_matrix(
        owned, cell[0] if periodic else None, model.sigma, model.electrostatics.kspace_cutoff, model.self_interaction
    )
    fixed = torch.zeros(n, 4, dtype=torch.float64)
    fixed[:, 0] = model.fixed_charges(graph)
    unit = torch.eye(3, dtype=torch.float64)[[1, 2, 0]].expand(n, 3, 3)
    lever = torch.cat([owned.unsqueeze(1), unit], dim=1).reshape(4 * n, 3)
    directions, stiffness = _variables(model, graph, vectors)
    charges = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).repeat(n)
    return _System(
        coulomb,
        directions,
        stiffness,
        model.slope[graph.species].reshape(-1),
        charges,
        lever,
        fixed.reshape(-1),
        model.repulsion(graph, vectors).sum(),
        bool((charges @ directions != 0).any()),
    )


def _variables(model: ReferenceModel, graph: Graph, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """B ``(4n, m)`` and H ``(m,)`` with its gradient by the edge vectors ``(n_edges, 3)``."""
    n = graph.positions.shape[0]
    own = model.stiffness[graph.species].reshape(-1)
    active = torch.nonzero(own > 0).squeeze(1)
    directions, stiffness = torch.eye(4 * n, dtype=torch.float64)[:, active], own[active]
    if not isinstance(model, SplitCharges):
        return directions, stiffness
    i, j = graph.edge_index
    # every image of a neighbour once; bonds of an atom with its own image move nothing
    near = vectors.norm(dim=1) < model.bond_reach[graph.species[i], graph.species[j]]
    kept = torch.nonzero((i < j) & near).squeeze(1)
    i, j, distance = i[kept], j[kept], vectors[kept].norm(dim=1)
    kinds, every = (graph.species[i], graph.species[j]), torch.arange(len(kept))
    columns = torch.zeros(4 * n, len(kept), dtype=torch.float64)
    columns[4 * i, every], columns[4 * j, every] = 1.0, -1.0
    reach = model.bond_reach[kinds]
    cutoff = (1.0 - (distance / reach) ** 2) / (1.0 - (model.bond_lengths[kinds] / reach) ** 2)
    softness = model.bond_softness[kinds] * cutoff**6
    return torch.cat([directions, columns], dim=1), torch.cat([stiffness, 1.0 / softness])


def _ground_state(
    system: _System, source: Tensor, fixed: Tensor, held: Tensor, constant_charge: bool
) -> tuple[Tensor, Tensor]:
    """Stationary variables ``(m,)`` and Fermi level for a slope ``source``; ``held`` is Q, or μ."""
    b = system.directions
    matrix = b.t() @ system.coulomb @ b + torch.diag(system.stiffness)
    right = -(b.t() @ (source + system.coulomb @ fixed))
    c = b.t() @ system.charges
    if not constant_charge or not system.conducts:
        level = torch.zeros_like(held) if constant_charge else held
        return torch.linalg.solve(matrix, right - c * level), level
    bordered = torch.cat([matrix, c.unsqueeze(1)], dim=1)
    bordered = torch.cat([bordered, torch.cat([c, c.new_zeros(1)]).unsqueeze(0)])
    missing = held - system.charges @ fixed
    solution = torch.linalg.solve(bordered, torch.cat([right, missing.reshape(1)]))
    return solution[:-1], solution[-1]


def exact_solution(model: ReferenceModel, graph: Graph, constant_charge: bool = True) -> ExactSolution:
    """Ground state of ``graph`` at its total charge, or at its Fermi level.

    Raises:
        ValueError: several structures, not float64, one or two periodic axes, or a Fermi level of split charges
            without a metal.
    """
    positions = graph.positions.detach().requires_grad_(True)
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    system = _system(model, graph, positions, strain)
    source = system.slope + system.lever @ graph.external_field[0]
    held = graph.total_charge[0] if constant_charge else graph.fermi_level[0]
    if not (constant_charge or system.conducts or model.fixed_charge):
        raise ValueError("nothing conducts in this structure: no Fermi level can be held, give the total charge")
    z, level = _ground_state(system, source, system.fixed, held, constant_charge)
    p = system.fixed + system.directions @ z
    if constant_charge and not system.conducts:
        level = level + model.fermi_level_offset
    charge = (system.charges * p).sum()
    energy = source @ p + 0.5 * p @ (system.coulomb @ p) + 0.5 * (system.stiffness * z * z).sum() + system.repulsion
    if not constant_charge:
        energy = energy + level * charge
    by_positions, by_strain = torch.autograd.grad(energy, [positions, strain])
    dipole = p @ system.lever
    parts = (p.reshape(-1, 4), level, charge, dipole, energy, -by_positions, by_strain[0])
    return ExactSolution(*[part.detach() for part in parts])


def exact_response(model: ReferenceModel, graph: Graph, constant_charge: bool = True) -> ExactResponse:
    """Response to charge, Fermi level and field; the ground state is linear in all of them.

    Raises:
        ValueError: as `exact_solution`.
    """
    with torch.no_grad():
        system = _system(model, graph, graph.positions, torch.zeros(1, 3, 3, dtype=torch.float64))
        n = graph.positions.shape[0]
        none = torch.zeros_like(system.slope)
        zero, one = torch.tensor([0.0, 1.0], dtype=torch.float64)
        shifted = none if system.conducts else system.charges / n

        def change(source: Tensor, fixed: Tensor, held: Tensor, charge_held: bool) -> Tensor:
            return fixed + system.directions @ _ground_state(system, source, fixed, held, charge_held)[0]

        by_charge = change(none, shifted, one, True)
        by_level = change(none, none, one, False)
        by_field = torch.stack([change(-lever, none, zero, constant_charge) for lever in system.lever.t()], dim=1)
        return ExactResponse(
            by_charge.reshape(-1, 4),
            by_level.reshape(-1, 4),
            -(system.charges @ by_level),
            by_field.reshape(n, 4, 3),
            system.lever.t() @ by_field,
        )


def jacobian(model: ReferenceModel, graph: Graph, constant_charge: bool = True) -> Tensor:
    """Jacobian ∂G/∂p ``(4n, 4n)`` of the fixed-point map, the same everywhere; its eigenvalues are real.

    J = -M K at constant Fermi level, M = B H^-1 B^T; at constant charge the level responds where something conducts,
    J = -(M - M c c·M / c·M c) K.
    """
    with torch.no_grad():
        system = _system(model, graph, graph.positions, torch.zeros(1, 3, 3, dtype=torch.float64))
        response = system.directions @ torch.diag(1.0 / system.stiffness) @ system.directions.t()
        if constant_charge and system.conducts:
            softness = response @ system.charges
            response = response - torch.outer(softness, softness) / (softness @ system.charges)
        return -response @ system.coulomb
