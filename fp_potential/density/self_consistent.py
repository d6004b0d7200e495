"""SelfConsistentModel: SCF -> observables -> forces, stress and responses, for any model of a density and its energy.

A model says what the geometry decides (`local`) and what its non-local energy is (`nonlocal_energy`); everything else
is written here and in `density_model` once.  The learned potential (`model`) and the known models (`reference`) are
subclasses.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..backbone.blocks import BlockedPass, pulled_back
from ..communication import graph_sum
from ..graph import Graph
from ..scf.loop import SolverResult
from ..scf.settings import LoopSettings, Start
from .density_model import DensityModel, LocalState
from .observables import Observables, charge_and_dipole, dipole_source, total_energy
from .problem import SCFProblem


class Solution(NamedTuple):
    """A self-consistent state and what derivatives of it are taken with."""

    graph: Graph  #: with positions, total charge, Fermi level and field as leaves of the gradient
    strain: Tensor  #: (B, 3, 3), likewise
    shift: Tensor  #: (B, 3), likewise, of all atoms in the Coulomb operator
    vectors: Tensor  #: (n_edges, 3) edge vectors, leaves of the gradient, too ...
    made: BlockedPass  #: ... as are the features made without gradients
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


class SelfConsistentModel(DensityModel):
    """A `DensityModel` evaluated at its solution.

    Reported are E_c = E + λ·(G(p) - p) at constant charge, equal to E at convergence and second order in the residuals
    otherwise, and Omega_c = E_c + mu Q at constant Fermi level.  Forces and stress are derivatives of the reported
    energy at fixed p and λ.  See docs/scf.md.
    """

    def evaluate(
        self,
        graph: Graph,
        settings: LoopSettings,
        start: Start,
        constant_charge: bool,
        response_forces: bool,
        compute_forces: bool,
    ) -> dict[str, Tensor]:
        """Self-consistent energy, forces, strain derivative and density of a batch.

        Args:
            settings: of the loop and of the adjoint's.
            start: density ``(n, 4)`` that starts the loop; without rows the local guess p_loc. Absolute Fermi level
                ``(B,)`` from which that of a non-affine update is sought at constant charge; without rows mu_0.
            constant_charge: the total charge is given, else the Fermi level.
            response_forces: false leaves the adjoint out: derivatives at fixed density, wrong by the response of the
                density.
            compute_forces: false leaves all derivatives out.

        Returns:
            The tensors that `export.OUTPUTS` lists.
        """
        s = self.solve(graph, settings, start, constant_charge, compute_forces)
        result, density, status = s.result, s.result.x, s.result.status
        adjoint = torch.zeros_like(density)
        adjoint_residual = torch.zeros_like(result.residual)
        if response_forces:
            gradient = self.density_gradient(s.fixed, s.frozen, density, s.at_solution, result.level)
            solution = self.solver.adjoint(s.fixed, gradient, settings)
            adjoint = solution.x
            adjoint_residual = solution.residual
            # forces are only as good as the adjoint: its failure is a failure of the whole
            status = torch.where(status == 0, solution.status, status)

        batch = graph.batch
        update, level = self.solver.density_map.differentiable(s.problem, s.field, result.level, s.fixed.response)
        total = self.total_field(s.problem, s.field, level)
        terms = self.observables(s.problem, s.local, density, s.field, level, graph.species[: batch.shape[0]])
        correction = (adjoint * (update - density)).sum(1).to(torch.float64)
        absolute = level + self.fermi_level_offset
        conducts = self.solver.density_map.conducts(s.fixed)
        atomic = total_energy(terms, density, absolute, batch, constant_charge) + correction
        out = self._report(graph, density, terms, atomic, s.owned)
        if constant_charge:
            absolute = torch.where(conducts, absolute, self.fermi_level_offset)
        out["fermi_level"] = absolute.detach()
        out["conducts"] = conducts
        out["scf_steps"] = result.steps
        out["residual"] = result.residual
        out["adjoint_residual"] = adjoint_residual
        out["status"] = status
        out["history"] = result.history
        out["changes"] = result.changes
        out["kspace"] = s.problem.cache.chosen
        out["field_features"] = (total * self.normalised_scale.to(total.dtype)).detach()
        if compute_forces:
            target = s.graph.total_charge if constant_charge else s.graph.fermi_level
            inputs = [s.graph.positions, s.strain, target, s.graph.external_field, s.shift]
            gradients = self.derivatives(s, atomic.sum(), inputs, False)
            by_position, by_strain, by_target, by_field = gradients[0], gradients[1], gradients[2], gradients[3]
            by_shift = gradients[4]
            if graph.distributed:
                flat = torch.cat([by_strain.reshape(-1), by_target, by_field[0], by_shift[0]]).unsqueeze(0)
                flat = graph_sum(flat, torch.zeros([1], dtype=torch.int64, device=flat.device), 1, True)[0]
                by_strain, by_target, by_field = flat[:9].reshape(1, 3, 3), flat[9:10], flat[10:13].unsqueeze(0)
                by_shift = flat[13:].unsqueeze(0)
            if self.electrostatics.remove_net_force:
                excess = (by_shift / s.fixed.atoms.unsqueeze(1))[batch]
                by_position = torch.cat([by_position[: excess.shape[0]] - excess, by_position[excess.shape[0] :]])
            out["forces"] = -by_position
            out["mesh_net_force"] = -by_shift
            out["strain_gradient"] = by_strain
            out["energy_by_target"] = by_target
            out["energy_by_field"] = by_field
        return out

    def solve(
        self, graph: Graph, settings: LoopSettings, start: Start, constant_charge: bool, with_gradients: bool
    ) -> Solution:
        """The self-consistent state; ``settings`` and ``start`` as in `converge`."""
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
        made = self.blocked(graph, vectors)
        for features in made.features:
            features.requires_grad_(with_gradients)
        edges = vectors.detach().requires_grad_(with_gradients)
        local = self.local_of(graph, edges, made.features)
        shift = torch.zeros_like(strain[:, 0]).requires_grad_(with_gradients)
        problem = self.problem(graph, local, owned, cell, constant_charge, shift)
        end = self.converge(problem, local, settings, start)
        return Solution(
            graph,
            strain,
            shift,
            edges,
            made,
            owned,
            local,
            problem,
            end.frozen,
            end.fixed,
            end.result,
            end.field,
            end.at_solution,
        )

    def derivatives(self, s: Solution, value: Tensor, inputs: list[Tensor], keep: bool) -> list[Tensor]:
        """Derivatives of a scalar by positions, strain and other ``inputs``, in this order, through all features.

        ``keep`` the graph for another call.
        """
        leaves = inputs + [s.vectors] + s.made.features
        found = torch.autograd.grad([value], leaves, retain_graph=keep, allow_unused=True)
        parts: list[Tensor] = []
        for part, leaf in zip(found, leaves):
            parts.append(torch.zeros_like(leaf) if part is None else part)
        n = len(inputs)
        by_vectors = parts[n] + self.pull_back(s.graph, s.vectors, s.made, parts[n + 1 :])
        vectors = strained(s.graph, s.graph.positions, s.strain)[1]
        through = pulled_back([vectors], inputs[:2], [by_vectors])
        return [parts[0] + through[0], parts[1] + through[1]] + parts[2:n]

    def responses(self, graph: Graph, settings: LoopSettings, start: Start, constant_charge: bool) -> dict[str, Tensor]:
        """Derivatives of the density's dipole D = sum_i (q_i r_i + d_i), one adjoint solve per component.

        λ_a = dD_a/dp + (dG/dp)^T λ_a,  dD_a/dx = ∂D_a/∂x + λ_a · ∂G/∂x.  Keys: ``dipole_by_field`` ``(B, 3, 3)``
        dD_a/dF_b in e Å²/V (minus the polarizability), ``dipole_by_positions`` ``(n_total, 3, 3)`` dD_b/dr_ia in e
        (Born charges), ``status`` and ``adjoint_residual`` ``(B,)``.  For open structures.
        """
        s = self.solve(graph, settings, start, constant_charge, True)
        density, batch = s.result.x, graph.batch
        density_map = self.solver.density_map
        update = density_map.differentiable(s.problem, s.field, s.result.level, s.fixed.response)[0]
        status, worst = s.result.status, torch.zeros_like(s.result.residual)
        by_field: list[Tensor] = []
        by_position: list[Tensor] = []
        for a in range(3):
            solution = self.solver.adjoint(s.fixed, dipole_source(s.owned.detach(), a), settings)
            status = torch.where(status == 0, solution.status, status)
            worst = torch.maximum(worst, solution.residual)
            value = (density[:, 0] * s.owned[:, a]).sum() + (solution.x * update).sum()
            gradients = self.derivatives(s, value, [s.graph.positions, s.strain, s.graph.external_field], a < 2)
            by_position.append(gradients[0])
            by_field.append(gradients[2])
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
        moments = charge_and_dipole(p, positions.detach()).to(torch.float64)
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
