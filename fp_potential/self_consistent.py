"""SelfConsistentModel: SCF -> observables -> forces, stress and responses, for any model of a density and its energy.

A model says what the geometry decides (`local`) and what its non-local energy is (`nonlocal_energy`); everything else
is written here once.  The learned potential (`model`) and the known models (`reference`) are subclasses.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from .electrostatics import Electrostatics
from .graph import Graph
from .nets import charges_only
from .options import HISTORY
from .readout.state import ReadoutState, detach_readout
from .response.state import ResponseState, Update, detach_state
from .scf.problem import DensityMap, SCFProblem, detach_problem, graph_sum, with_level
from .scf.solve import NO_CHARGE_RESPONSE, FixedPointSolver, SolverResult


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


class Solution(NamedTuple):
    """A self-consistent state and what derivatives of it are taken with."""

    graph: Graph  #: with positions, total charge, Fermi level and field as leaves of the gradient
    strain: Tensor  #: (B, 3, 3), likewise
    owned: Tensor  #: (n, 3) strained positions of owned atoms
    local: LocalState
    problem: SCFProblem
    frozen: LocalState  #: without gradients, ...
    fixed: SCFProblem  #: ... and linearised at the solution
    result: SolverResult
    field: Tensor  #: (n, m, 4) Coulomb field of the density, with gradients by the geometry
    at_solution: Tensor  #: (n, m, 4) raw total field, without


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

    A subclass gives `local` and `nonlocal_energy`, and sets ``num_interactions`` and ``comm_width``, the number of
    layers and the most values per atom in an exchange of ghosts, where it has any, and ``without_dipoles`` where its
    density has charges only.  An update with ``fixed_charge``
    true has charges that no field moves: no Fermi level is sought, mu_0 is reported.
    """

    normalised_scale: Tensor

    def __init__(
        self,
        elements: list[int],
        cutoff: float,
        electrostatics: Electrostatics,
        update: Update,
        normalised_scale: Tensor,
        atomic_energies: list[float],
        fermi_level_offset: float,
    ) -> None:
        super().__init__()
        self.elements = elements
        self.cutoff = cutoff
        self.n_widths = normalised_scale.shape[0]
        self.electrostatics = electrostatics
        self.solver = FixedPointSolver(DensityMap(electrostatics, update), HISTORY)
        self.register_buffer("normalised_scale", normalised_scale, persistent=False)
        self.no_charge_response = NO_CHARGE_RESPONSE
        self.fermi_level_offset = float(fermi_level_offset)
        self.atomic_energies = atomic_energies
        self.num_interactions, self.comm_width = 0, 0
        self.fixed_charge = bool(getattr(update, "fixed_charge", False))
        self.without_dipoles = False

    def local(self, graph: Graph, vectors: Tensor) -> LocalState:
        """Everything that depends on the geometry only, from edge vectors ``(n_edges, 3)``."""
        raise NotImplementedError

    def nonlocal_energy(
        self, readout: ReadoutState, local_density: Tensor, density: Tensor, field: Tensor, distributed: bool
    ) -> Tensor:
        """Non-local energy per owned atom ``(n,)`` in the raw total field ``(n, m, 4)``."""
        raise NotImplementedError

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
        if constant_charge and self.fixed_charge:
            target, constant_charge = torch.zeros_like(target), False
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
        settings = (num_scf_steps, scf_tolerance, mixing_parameter, solver)
        s = self.solve(graph, settings, constant_charge, compute_forces, initial_density, initial_level)
        result, density, status = s.result, s.result.x, s.result.status
        adjoint = torch.zeros_like(density)
        adjoint_residual = torch.zeros_like(result.residual)
        if response_forces:
            gradient = self.density_gradient(s.fixed, s.frozen, density, s.at_solution)
            solution = self.solver.adjoint(s.fixed, gradient, num_scf_steps, scf_tolerance, solver, mixing_parameter)
            adjoint = solution.x
            adjoint_residual = solution.residual
            # forces are only as good as the adjoint: its failure is a failure of the whole
            status = torch.where(status == 0, solution.status, status)

        batch = graph.batch
        update, level = self.solver.density_map.differentiable(s.problem, s.field, result.level, s.fixed.response)
        total = self.total_field(s.problem, s.field, level)
        terms = self.observables(s.problem, s.local, density, total, graph.species[: batch.shape[0]])
        correction = (adjoint * (update - density)).sum(1).to(torch.float64)
        atomic = terms.local + terms.nonlocal_ + terms.coulomb + terms.field + correction
        absolute = level + self.fermi_level_offset
        if not constant_charge:
            atomic = atomic + (absolute[batch] * density[:, 0]).to(torch.float64)
        out = self._report(graph, density, terms, atomic, s.owned)
        out["fermi_level"] = absolute.detach()
        out["scf_steps"] = result.steps
        out["residual"] = result.residual
        out["adjoint_residual"] = adjoint_residual
        out["status"] = status
        out["history"] = result.history
        out["field_features"] = (total * self.normalised_scale.to(total.dtype)).detach()
        if compute_forces:
            target = s.graph.total_charge if constant_charge else s.graph.fermi_level
            inputs = [s.graph.positions, s.strain, target, s.graph.external_field]
            gradients = torch.autograd.grad([atomic.sum()], inputs)
            by_position, by_strain, by_target, by_field = gradients[0], gradients[1], gradients[2], gradients[3]
            assert by_position is not None and by_strain is not None
            assert by_target is not None and by_field is not None
            out["forces"] = -by_position
            if graph.distributed:
                flat = torch.cat([by_strain.reshape(-1), by_target, by_field.reshape(-1)]).unsqueeze(0)
                flat = graph_sum(flat, torch.zeros([1], dtype=torch.int64, device=flat.device), 1, True)[0]
                by_strain, by_target, by_field = flat[:9].reshape(1, 3, 3), flat[9:10], flat[10:].reshape(1, 3)
            out["strain_gradient"] = by_strain
            out["energy_by_target"] = by_target
            out["energy_by_field"] = by_field
        return out

    def solve(
        self,
        graph: Graph,
        settings: tuple[int, float, float, str],
        constant_charge: bool,
        with_gradients: bool,
        initial_density: Tensor,
        initial_level: Tensor,
    ) -> Solution:
        """The self-consistent state; ``settings`` are num_scf_steps, scf_tolerance, mixing_parameter and solver."""
        n_graphs = graph.cell.shape[0]
        positions = graph.positions.detach().requires_grad_(with_gradients)
        strain = torch.zeros([n_graphs, 3, 3], dtype=positions.dtype, device=positions.device)
        strain = strain.requires_grad_(with_gradients)
        graph = Graph(
            positions,
            graph.species,
            graph.edge_index,
            graph.edge_shifts,
            graph.batch,
            graph.cell,
            graph.pbc,
            graph.total_charge.detach().requires_grad_(with_gradients),
            graph.fermi_level.detach().requires_grad_(with_gradients),
            graph.external_field.detach().requires_grad_(with_gradients),
            graph.distributed,
        )
        owned, vectors, cell = strained(graph, positions, strain)
        local = self.local(graph, vectors)
        problem = self.problem(graph, local, owned, cell, constant_charge)
        fixed = detach_problem(problem, self.electrostatics.detached(problem.cache))
        frozen = LocalState(
            local.energy.detach(), local.density.detach(), detach_state(local.response), detach_readout(local.readout)
        )
        start = frozen.density
        if initial_density.shape[0] > 0:
            start = charges_only(initial_density) if self.without_dipoles else initial_density
        guess = torch.zeros_like(fixed.response)
        if initial_level.shape[0] > 0:
            guess = initial_level - self.fermi_level_offset
        result = self.solver.scf(fixed, start, settings[0], settings[1], settings[3], settings[2], guess)
        field = self.electrostatics.field(problem.cache, result.x, graph.distributed)
        at_solution = self.total_field(fixed, field.detach(), result.level)
        fixed = self.solver.density_map.linearised(fixed, at_solution)
        if problem.constant_charge:
            refused = torch.full_like(result.status, self.no_charge_response)
            possible = self.solver.density_map.responds(fixed) & self.solver.density_map.holds(fixed, result.x)
            status = torch.where(possible, result.status, refused)
            result = SolverResult(result.x, result.level, result.steps, result.residual, status, result.history)
        return Solution(graph, strain, owned, local, problem, frozen, fixed, result, field, at_solution)

    def responses(
        self,
        graph: Graph,
        num_scf_steps: int,
        scf_tolerance: float,
        mixing_parameter: float,
        solver: str,
        constant_charge: bool,
        initial_density: Tensor,
        initial_level: Tensor,
    ) -> dict[str, Tensor]:
        """Derivatives of the density's dipole D = sum_i (q_i r_i + d_i), one adjoint solve per component.

        λ_a = dD_a/dp + (dG/dp)^T λ_a,  dD_a/dx = ∂D_a/∂x + λ_a · ∂G/∂x.  Keys: ``dipole_by_field`` ``(B, 3, 3)``
        dD_a/dF_b in e Å²/V (minus the polarizability), ``dipole_by_positions`` ``(n_total, 3, 3)`` dD_b/dr_ia in e
        (Born charges), ``status`` and ``adjoint_residual`` ``(B,)``.  For open structures.
        """
        settings = (num_scf_steps, scf_tolerance, mixing_parameter, solver)
        s = self.solve(graph, settings, constant_charge, True, initial_density, initial_level)
        density, batch = s.result.x, graph.batch
        density_map = self.solver.density_map
        update = density_map.differentiable(s.problem, s.field, s.result.level, s.fixed.response)[0]
        status, worst = s.result.status, torch.zeros_like(s.result.residual)
        by_field: list[Tensor] = []
        by_position: list[Tensor] = []
        for a in range(3):
            stored = 1 + (a + 2) % 3
            source = torch.zeros_like(density)
            source[:, 0] = s.owned.detach()[:, a]
            source[:, stored] = 1.0
            solution = self.solver.adjoint(s.fixed, source, num_scf_steps, scf_tolerance, solver, mixing_parameter)
            status = torch.where(status == 0, solution.status, status)
            worst = torch.maximum(worst, solution.residual)
            value = (density[:, 0] * s.owned[:, a]).sum() + (solution.x * update).sum()
            gradients = torch.autograd.grad([value], [s.graph.positions, s.graph.external_field], retain_graph=a < 2)
            on_position, on_field = gradients[0], gradients[1]
            assert on_position is not None and on_field is not None
            by_position.append(on_position)
            by_field.append(on_field)
        field = torch.stack(by_field, dim=1)
        if graph.distributed:
            first = torch.zeros([1], dtype=torch.int64, device=batch.device)
            field = graph_sum(field.reshape(1, 9), first, 1, True).reshape(1, 3, 3)
        return {
            "dipole_by_field": field,
            "dipole_by_positions": torch.stack(by_position, dim=2),
            "status": status,
            "adjoint_residual": worst,
        }

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
