"""Exact solutions of the known models by one dense linear solve, independent of the engine's operators and solvers.

With x the components that respond, K the Coulomb matrix, H = diag(η, 1/α), b = (χ + F·r, F), c = 1 on charges:

    (H + K) x + c μ = -b - K x_fixed,     c·x = Q  or  μ given,
    E = ½ x·(H + K) x + b·x (and the terms of x_fixed) + repulsion,   Ω = E + μ Q.

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
    """The quadratic form of a geometry, over all 4 n components."""

    coulomb: Tensor  #: (4n, 4n) K
    stiffness: Tensor  #: (4n,)
    slope: Tensor  #: (4n,) without the external field
    charges: Tensor  #: (4n,) 1 on charges
    lever: Tensor  #: (4n, 3) derivative of D by the density: r on charges, 1 on dipoles
    fixed: Tensor  #: (4n,) density of the components that do not respond
    repulsion: Tensor  #: ()


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
    return _System(
        coulomb,
        model.stiffness[graph.species].reshape(-1),
        model.slope[graph.species].reshape(-1),
        torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64).repeat(n),
        lever,
        fixed.reshape(-1),
        model.repulsion(graph, vectors).sum(),
    )


def _ground_state(
    system: _System, source: Tensor, fixed: Tensor, held: Tensor, constant_charge: bool
) -> tuple[Tensor, Tensor]:
    """Stationary density ``(4n,)`` and Fermi level for a slope ``source``; ``held`` is Q, or μ."""
    active = torch.nonzero(system.stiffness > 0).squeeze(1)
    matrix = (system.coulomb + torch.diag(system.stiffness))[active][:, active]
    right = -(source + system.coulomb @ fixed)[active]
    c = system.charges[active]
    if not constant_charge or not bool((c > 0).any()):
        level = torch.zeros_like(held) if constant_charge else held
        x = torch.linalg.solve(matrix, right - c * level)
    else:
        bordered = torch.cat([matrix, c.unsqueeze(1)], dim=1)
        bordered = torch.cat([bordered, torch.cat([c, c.new_zeros(1)]).unsqueeze(0)])
        solution = torch.linalg.solve(bordered, torch.cat([right, held.reshape(1)]))
        x, level = solution[:-1], solution[-1]
    return fixed.index_add(0, active, x), level


def exact_solution(model: ReferenceModel, graph: Graph, constant_charge: bool = True) -> ExactSolution:
    """Ground state of ``graph`` at its total charge, or at its Fermi level.

    Raises:
        ValueError: several structures, not float64, or one or two periodic axes.
    """
    positions = graph.positions.detach().requires_grad_(True)
    strain = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    system = _system(model, graph, positions, strain)
    source = system.slope + system.lever @ graph.external_field[0]
    held = graph.total_charge[0] if constant_charge else graph.fermi_level[0]
    p, level = _ground_state(system, source, system.fixed, held, constant_charge)
    if model.fixed_charge and constant_charge:
        level = level + model.fermi_level_offset
    charge = (system.charges * p).sum()
    energy = source @ p + 0.5 * p @ (system.coulomb @ p) + 0.5 * (system.stiffness * p * p).sum() + system.repulsion
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
        shifted = system.charges / n if model.fixed_charge else none
        by_charge = _ground_state(system, none, shifted, one, True)[0]
        by_level = _ground_state(system, none, none, one, False)[0]
        by_field = torch.stack(
            [_ground_state(system, -lever, none, zero, constant_charge)[0] for lever in system.lever.t()], dim=1
        )
        return ExactResponse(
            by_charge.reshape(-1, 4),
            by_level.reshape(-1, 4),
            -(system.charges @ by_level),
            by_field.reshape(n, 4, 3),
            system.lever.t() @ by_field,
        )


def jacobian(model: ReferenceModel, graph: Graph, constant_charge: bool = True) -> Tensor:
    """Jacobian ∂G/∂p ``(4n, 4n)`` of the fixed-point map, the same everywhere; its eigenvalues are real.

    J = -X K at constant Fermi level; at constant charge the level responds, J = -(X - X c c·X / c·X c) K, X = 1/H.
    """
    with torch.no_grad():
        system = _system(model, graph, graph.positions, torch.zeros(1, 3, 3, dtype=torch.float64))
        x = model.compliance(graph.species).reshape(-1)
        response = torch.diag(x)
        softness = x * system.charges
        if constant_charge and not model.fixed_charge:
            response = response - torch.outer(softness, softness) / softness.sum()
        return -response @ system.coulomb
