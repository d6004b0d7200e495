"""SelfConsistentModel: SCF -> observables -> forces, stress and responses, for any model of a density and its energy.

A model says what the geometry decides (`local`) and what its non-local energy is (`nonlocal_energy`); everything else is
written here once.  The learned potential (`model`) and the known models (`reference`) are subclasses.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .electrostatics import Electrostatics
from .graph import Graph
from .readout.state import ReadoutState, detach_readout
from .response.state import ResponseState, detach_state
from .scf.problem import DensityMap, SCFProblem, detach_problem, graph_sum, with_level
from .scf.solve import NO_CHARGE_RESPONSE, FixedPointSolver


class LocalState(NamedTuple):
    """What the geometry alone decides, per owned atom."""

    energy: Tensor  #: (n,) eV, local energy without E0
    density: Tensor  #: (n, 4) p_loc
    response: ResponseState
    readout: ReadoutState


class Observables(NamedTuple):
    """Energy terms per owned atom, eV (float64), and the potential at the atoms, V."""

    local: Tensor
    nonlocal_: Tensor
    coulomb: Tensor
    field: Tensor
    potential: Tensor


def strained(graph: Graph, positions: Tensor, strain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, edge vectors and cells under a symmetric strain ``(B, 3, 3)``: r -> r (1 + eps)."""
    eps = 0.5 * (strain + strain.transpose(1, 2))
    n_owned = graph.batch.shape[0]
    i, j = graph.edge_index[0], graph.edge_index[1]
    vectors = positions.index_select(0, j) - positions.index_select(0, i) + graph.edge_shifts
    owned = positions[:n_owned]
    if eps.shape[0] == 1:
        vectors = vectors + torch.matmul(vectors, eps[0])
        owned = owned + torch.matmul(owned, eps[0])
    else:
        vectors = vectors + torch.einsum("ea,eab->eb", vectors, eps[graph.batch[i]])
        owned = owned + torch.einsum("na,nab->nb", owned, eps[graph.batch])
    return owned, vectors, graph.cell + torch.matmul(graph.cell, eps)


class SelfConsistentModel(nn.Module):
    """Energy of a self-consistent density of Gaussian charges and dipoles.

    E = sum_i [E0 + local energy] + E_nl(p, u) + E_C[p] + F·D, with p = G(p) (see `scf.problem`).
    Reported are E_c = E + λ·(G(p) - p) at constant charge, equal to E at convergence and second order in the residuals
    otherwise, and Omega_c = E_c + mu Q at constant Fermi level.  Forces and stress are derivatives of the reported
    energy at fixed p and λ.  See docs/scf.md.

    A subclass gives ``local(graph, vectors)`` -> `LocalState` and ``nonlocal_energy(readout, p_loc, p, u,
    distributed)`` -> ``(n,)``, u the raw total field ``(n, m, 4)``.
    """

    normalised_scale: Tensor

    def __init__(
        self,
        elements: list[int],
        cutoff: float,
        electrostatics: Electrostatics,
        update: nn.Module,
        normalised_scale: Tensor,
        atomic_energies: list[float],
        fermi_level_offset: float,
    ) -> None:
        super().__init__()
        self.elements = elements
        self.cutoff = cutoff
        self.n_widths = normalised_scale.shape[0]
        self.electrostatics = electrostatics
        self.solver = FixedPointSolver(DensityMap(electrostatics, update), 20)
        self.register_buffer("normalised_scale", normalised_scale, persistent=False)
        self.no_charge_response = NO_CHARGE_RESPONSE
        self.fermi_level_offset = float(fermi_level_offset)
        self.atomic_energies = atomic_energies

    def external_field(self, graph: Graph, positions: Tensor) -> Tensor:
        """Raw field (F·r, F) of the external field at each atom ``(n, 4)``, components (0, y, z, x)."""
        gradient = graph.external_field[graph.batch]
        potential = (gradient * positions).sum(1, keepdim=True)
        return torch.cat([potential, gradient[:, [1, 2, 0]]], dim=1)

    def problem(
        self, graph: Graph, local: LocalState, positions: Tensor, cell: Tensor, constant_charge: bool
    ) -> SCFProblem:
        """The fixed-point problem of a geometry, with gradients; ``positions`` of owned atoms."""
        cache = self.electrostatics.prepare(positions, cell, graph.pbc, graph.batch)
        external = self.external_field(graph, positions)
        n_graphs = graph.cell.shape[0]
        ones = torch.ones([positions.shape[0]], dtype=positions.dtype, device=positions.device)
        atoms = graph_sum(ones, graph.batch, n_graphs, graph.distributed)
        target = graph.total_charge if constant_charge else graph.fermi_level - self.fermi_level_offset
        return self.solver.density_map.problem(
            cache, local.response, external, target, graph.batch, atoms, constant_charge, graph.distributed
        )

    # ---- energy -----------------------------------------------------------------------------------------------

    def total_field(self, problem: SCFProblem, field: Tensor, level: Tensor) -> Tensor:
        """Raw field u ``(n, m, 4)``: Coulomb field + external field + Fermi level."""
        return with_level(field + problem.external.unsqueeze(1), level, problem.batch)

    def observables(
        self, problem: SCFProblem, local: LocalState, density: Tensor, field: Tensor, species: Tensor
    ) -> Observables:
        """Energy terms of a density ``(n, 4)`` in a total raw field ``(n, m, 4)``."""
        coulomb = self.electrostatics.potentials(problem.cache, density, problem.distributed)
        # one scalar at a time: TorchScript's torch.tensor of a list of floats rounds them to float32
        e0 = torch.stack([torch.full([], e, dtype=torch.float64, device=density.device) for e in self.atomic_energies])
        nonlocal_ = self.nonlocal_energy(local.readout, local.density, density, field, problem.distributed)
        return Observables(
            e0[species] + local.energy.to(torch.float64),
            nonlocal_.to(torch.float64),
            0.5 * (density * coulomb).sum(1).to(torch.float64),
            (density * problem.external).sum(1).to(torch.float64),
            coulomb[:, 0],
        )

    def density_gradient(self, problem: SCFProblem, local: LocalState, density: Tensor, field: Tensor) -> Tensor:
        """Total derivative of the energy (Omega at constant Fermi level) by p ``(n, 4)``, mu(p) included.

        ``problem`` and ``local`` are without gradients and linearised at ``field``, the raw total field of the density.
        """
        p = density.detach().requires_grad_(True)
        u = field.detach().requires_grad_(True)
        energy = self.nonlocal_energy(local.readout, local.density, p, u, problem.distributed)
        by_both = torch.autograd.grad([energy.sum()], [p, u], allow_unused=True)
        by_density, by_field = by_both[0], by_both[1]
        explicit = self.electrostatics.potentials(problem.cache, density, problem.distributed) + problem.external
        if by_density is not None:
            explicit = explicit + by_density.detach()
        if not problem.constant_charge:
            level = (problem.target + self.fermi_level_offset)[problem.batch].unsqueeze(1)
            explicit = torch.cat([explicit[:, :1] + level, explicit[:, 1:]], dim=1)
        if by_field is None:
            return explicit
        on_field = self.solver.density_map.constrained(problem, by_field.detach())
        return explicit + self.electrostatics.apply_transposed(problem.cache, on_field, problem.distributed)

    # ---- self-consistent evaluation ------------------------------------------------------------------------------

    def evaluate(
        self,
        graph: Graph,
        num_scf_steps: int,
        scf_tolerance: float,
        mixing_parameter: float,
        solver: str,
        constant_charge: bool,
        response_forces: bool,
        compute_forces: bool,
        initial_density: Tensor,
        initial_level: Tensor,
    ) -> dict[str, Tensor]:
        """Self-consistent energy, forces, strain derivative and density of a batch.

        ``initial_density`` ``(n, 4)`` starts the loop; with zero rows the local guess p_loc does.  ``initial_level``
        ``(B,)`` is the absolute Fermi level from which that of a non-affine update is sought at constant charge; with
        zero rows mu_0.  Keys of the result are listed in `export.OUTPUTS`.  With ``response_forces`` false the adjoint
        is left out: derivatives at fixed density, wrong by the response of the density.
        """
        n_owned, n_graphs = graph.batch.shape[0], graph.cell.shape[0]
        species = graph.species[:n_owned]
        positions = graph.positions.detach()
        strain = torch.zeros([n_graphs, 3, 3], dtype=positions.dtype, device=positions.device)
        if compute_forces:
            positions = positions.requires_grad_(True)
            strain = strain.requires_grad_(True)
        owned, vectors, cell = strained(graph, positions, strain)
        local = self.local(graph, vectors)
        problem = self.problem(graph, local, owned, cell, constant_charge)

        fixed = detach_problem(problem, self.electrostatics.detached(problem.cache))
        frozen = LocalState(
            local.energy.detach(), local.density.detach(), detach_state(local.response), detach_readout(local.readout)
        )
        start = frozen.density
        if initial_density.shape[0] > 0:
            start = initial_density
        guess = torch.zeros_like(fixed.response)
        if initial_level.shape[0] > 0:
            guess = initial_level - self.fermi_level_offset
        result = self.solver.scf(fixed, start, num_scf_steps, scf_tolerance, solver, mixing_parameter, guess)
        density, status = result.x, result.status

        field = self.electrostatics.field(problem.cache, density, graph.distributed)
        at_solution = self.total_field(fixed, field.detach(), result.level)
        fixed = self.solver.density_map.linearised(fixed, at_solution)
        if constant_charge:
            refused = torch.full_like(status, self.no_charge_response)
            status = torch.where(self.solver.density_map.responds(fixed), status, refused)
        adjoint = torch.zeros_like(density)
        adjoint_residual = torch.zeros_like(result.residual)
        if response_forces:
            gradient = self.density_gradient(fixed, frozen, density, at_solution)
            solution = self.solver.adjoint(fixed, gradient, num_scf_steps, scf_tolerance, solver, mixing_parameter)
            adjoint = solution.x
            adjoint_residual = solution.residual
            # forces are only as good as the adjoint: its failure is a failure of the whole
            status = torch.where(status == 0, solution.status, status)

        update, level = self.solver.density_map.differentiable(problem, field, result.level, fixed.response)
        total = self.total_field(problem, field, level)
        terms = self.observables(problem, local, density, total, species)
        correction = (adjoint * (update - density)).sum(1).to(torch.float64)
        atomic = terms.local + terms.nonlocal_ + terms.coulomb + terms.field + correction
        absolute = (level + self.fermi_level_offset).detach()
        if not constant_charge:
            atomic = atomic + (absolute[graph.batch] * density[:, 0]).to(torch.float64)
        out = self._report(graph, density, terms, atomic, owned)
        out["fermi_level"] = absolute
        out["scf_steps"] = result.steps
        out["residual"] = result.residual
        out["adjoint_residual"] = adjoint_residual
        out["status"] = status
        out["history"] = result.history
        out["field_features"] = (total * self.normalised_scale.to(total.dtype)).detach()
        if compute_forces:
            gradients = torch.autograd.grad([atomic.sum()], [positions, strain])
            d_positions, d_strain = gradients[0], gradients[1]
            assert d_positions is not None and d_strain is not None
            out["forces"] = -d_positions
            if graph.distributed:
                d_strain = graph_sum(d_strain, torch.zeros([1], dtype=torch.int64, device=d_strain.device), 1, True)
            out["strain_gradient"] = d_strain
        return out

    def _report(
        self, graph: Graph, density: Tensor, terms: Observables, atomic: Tensor, positions: Tensor
    ) -> dict[str, Tensor]:
        n_graphs, distributed = graph.cell.shape[0], graph.distributed
        p = density.detach()
        columns = torch.stack([atomic, terms.local, terms.nonlocal_, terms.coulomb, terms.field], dim=1).detach()
        cartesian = p[:, [3, 1, 2]]
        moments = torch.cat([p[:, :1], p[:, :1] * positions.detach() + cartesian], dim=1).to(torch.float64)
        sums = graph_sum(torch.cat([columns, moments], dim=1), graph.batch, n_graphs, distributed)
        return {
            "energy": sums[:, 0],
            "energy_local": sums[:, 1],
            "energy_nonlocal": sums[:, 2],
            "energy_coulomb": sums[:, 3],
            "energy_field": sums[:, 4],
            "total_charge": sums[:, 5],
            "dipole": sums[:, 6:9],
            "atomic_energies": columns[:, 0],
            "density": p,
            "potentials": terms.potential.detach(),
        }
