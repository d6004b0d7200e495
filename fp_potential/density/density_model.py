"""DensityModel: the energy and the fixed-point map of a density, and its converged solution."""

from typing import NamedTuple, Optional

import torch
from torch import Tensor, nn

from ..backbone.blocks import BlockedPass, no_pass
from ..communication import graph_sum
from ..electrostatics import Electrostatics
from ..graph import Graph
from ..nets import charges_only
from ..options.scf import HISTORY
from ..readout.state import ReadoutState, detach_readout
from ..response.state import ResponseState, Update, detach_state
from ..scf.loop import SolverResult, with_status
from ..scf.settings import LoopSettings, Start
from ..scf.status import NO_CHARGE_RESPONSE, NO_FERMI_LEVEL
from .density_map import DensityMap
from .fermi_level import with_level
from .observables import Observables
from .problem import SCFProblem, detach_problem, shared_charge
from .solver import FixedPointSolver


class LocalState(NamedTuple):
    """What the geometry alone decides, per owned atom."""

    energy: Tensor  #: (n,) eV, local energy without E0
    density: Tensor  #: (n, 4) p_loc
    response: ResponseState
    readout: ReadoutState


class Converged(NamedTuple):
    """The end of the loop in one geometry."""

    frozen: LocalState  #: without gradients, ...
    fixed: SCFProblem  #: ... and linearised at the solution
    result: SolverResult
    field: Tensor  #: (n, m, 4) Coulomb field of the density, with gradients by the geometry
    at_solution: Tensor  #: (n, m, 4) raw total field, without


class DensityModel(nn.Module):
    """Energy of a density of Gaussian charges and dipoles, and the map whose fixed point is the density:

    E = sum_i [E0 + local energy] + E_nl(p, u) + E_C[p] + F·D, with p = G(p) (see `density.problem`).

    A subclass gives `local` and `nonlocal_energy`, and sets ``num_interactions`` and ``comm_width``, the number of
    layers and the most values per atom in an exchange of ghosts, where it has any, and ``without_dipoles`` where its
    density has charges only.  An update with ``fixed_charge`` true has charges that no field moves: no Fermi level is
    sought, mu_0 is reported.
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
        self.no_charge_response, self.no_fermi_level = NO_CHARGE_RESPONSE, NO_FERMI_LEVEL
        self.fermi_level_offset = float(fermi_level_offset)
        self.atomic_energies = atomic_energies
        self.num_interactions, self.comm_width = 0, 0
        self.fixed_charge = self.solver.density_map.fixed_charge
        self.without_dipoles = False

    def local(self, graph: Graph, vectors: Tensor) -> LocalState:
        """Everything that depends on the geometry only, from edge vectors ``(n_edges, 3)``; differentiable."""
        raise NotImplementedError

    def blocked(self, graph: Graph, vectors: Tensor) -> BlockedPass:
        """What of `local` is made without gradients, to hold little memory: nothing, if a model does not say."""
        return no_pass()

    def local_of(self, graph: Graph, vectors: Tensor, features: list[Tensor]) -> LocalState:
        """`local`, with the features of `blocked` given; differentiable by them and by the vectors beside them."""
        return self.local(graph, vectors)

    def pull_back(self, graph: Graph, vectors: Tensor, made: BlockedPass, gradients: list[Tensor]) -> Tensor:
        """Derivative by the edge vectors ``(n_edges, 3)`` of what has ``gradients`` by the features of `blocked`."""
        return torch.zeros_like(vectors)

    def nonlocal_energy(
        self, local: LocalState, density: Tensor, field: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Non-local energy per owned atom ``(n,)`` in the raw total field ``(n, m, 4)``.

        ``shared`` ``(n,)``: the part of the charges that nothing conducts, e.
        """
        raise NotImplementedError

    def external_field(self, graph: Graph, positions: Tensor) -> Tensor:
        """Raw field (F·r, F) of the external field at each atom ``(n, 4)``, components (0, y, z, x)."""
        gradient = graph.external_field[graph.batch]
        potential = (gradient * positions).sum(1, keepdim=True)
        return torch.cat([potential, gradient[:, [1, 2, 0]]], dim=1)

    def problem(
        self,
        graph: Graph,
        local: LocalState,
        positions: Tensor,
        cell: Tensor,
        constant_charge: bool,
        shift: Optional[Tensor] = None,
    ) -> SCFProblem:
        """The fixed-point problem of a geometry, with gradients; ``positions`` of owned atoms.

        A ``shift`` ``(B, 3)`` of all atoms, for the Coulomb operator alone, gives the sum of its forces.
        """
        sites = positions if shift is None else positions + shift[graph.batch]
        cache = self.electrostatics.prepare(sites, cell, graph.pbc, graph.batch, graph.distributed)
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

    def total_field(self, problem: SCFProblem, field: Tensor, level: Tensor) -> Tensor:
        """Raw field u ``(n, m, 4)``: Coulomb field + external field + Fermi level, where that means something."""
        visible = self.solver.density_map.visible(problem, level)
        return with_level(field + problem.external.unsqueeze(1), visible, problem.batch)

    def observables(
        self, problem: SCFProblem, local: LocalState, density: Tensor, field: Tensor, level: Tensor, species: Tensor
    ) -> Observables:
        """Energy terms of a density ``(n, 4)`` in the Coulomb field ``(n, m, 4)`` at the level mu - mu_0 ``(B,)``."""
        total, shared = self.total_field(problem, field, level), shared_charge(problem, level)
        coulomb = self.electrostatics.potentials(problem.cache, density, problem.distributed)
        # one scalar at a time: TorchScript's torch.tensor of a list of floats rounds them to float32
        e0 = torch.stack([torch.full([], e, dtype=torch.float64, device=density.device) for e in self.atomic_energies])
        nonlocal_ = self.nonlocal_energy(local, density, total, shared, problem.distributed)
        return Observables(
            e0[species] + local.energy.to(torch.float64),
            nonlocal_.to(torch.float64),
            0.5 * (density * coulomb).sum(1).to(torch.float64),
            (density * problem.external).sum(1).to(torch.float64),
            coulomb[:, 0],
        )

    def density_gradient(
        self, problem: SCFProblem, local: LocalState, density: Tensor, field: Tensor, level: Tensor
    ) -> Tensor:
        """Total derivative of the energy (Omega at constant Fermi level) by p ``(n, 4)``, mu(p) included.

        ``problem`` and ``local`` are without gradients and linearised at ``field``, the raw total field of the density
        at the level mu - mu_0 ``(B,)``.
        """
        p = density.detach().requires_grad_(True)
        u = field.detach().requires_grad_(True)
        shared = shared_charge(problem, level).detach().requires_grad_(True)
        energy = self.nonlocal_energy(local, p, u, shared, problem.distributed)
        parts = torch.autograd.grad([energy.sum()], [p, u, shared], allow_unused=True)
        by_density, by_field, by_shared = parts[0], parts[1], parts[2]
        explicit = self.electrostatics.potentials(problem.cache, density, problem.distributed) + problem.external
        if by_density is not None:
            explicit = explicit + by_density.detach()
        if not problem.constant_charge:
            level = (problem.target + self.fermi_level_offset)[problem.batch].unsqueeze(1)
            explicit = torch.cat([explicit[:, :1] + level, explicit[:, 1:]], dim=1)
        if by_field is None:
            return explicit
        by_field = by_field.detach()
        visible = self.solver.density_map.conducting_part(problem)
        on_level = by_field[:, :, 0].sum(1) * visible[problem.batch]
        if by_shared is not None:
            on_level = on_level - problem.state.share * by_shared.detach()
        on_field = self.solver.density_map.constrained(problem, by_field, on_level)
        return explicit + self.electrostatics.apply_transposed(problem.cache, on_field, problem.distributed)

    def converge(self, problem: SCFProblem, local: LocalState, settings: LoopSettings, start: Start) -> Converged:
        """Run the loop from the density ``start.x`` ``(n, 4)`` and the absolute Fermi level ``start.level`` ``(B,)``.

        Without rows these are p_loc and mu_0.
        """
        fixed = detach_problem(problem, self.electrostatics.detached(problem.cache))
        frozen = LocalState(
            local.energy.detach(), local.density.detach(), detach_state(local.response), detach_readout(local.readout)
        )
        density = frozen.density
        if start.x.shape[0] > 0:
            density = start.x.detach()
            if self.without_dipoles:
                density = charges_only(density)
        guess = torch.zeros_like(fixed.response)
        if start.level.shape[0] > 0:
            guess = start.level - self.fermi_level_offset
        result = self.solver.scf(fixed, Start(density, guess), settings)
        field = self.electrostatics.field(problem.cache, result.x, problem.distributed)
        at_solution = self.total_field(fixed, field.detach(), result.level)
        fixed = self.solver.density_map.linearised(fixed, at_solution)
        if problem.constant_charge:
            refused = torch.full_like(result.status, self.no_charge_response)
            possible = self.solver.density_map.responds(fixed) & self.solver.density_map.holds(fixed, result.x)
            status = torch.where(possible, result.status, refused)
            result = with_status(result, status)
        elif self.solver.density_map.shares_charge:
            refused = torch.full_like(result.status, self.no_fermi_level)
            status = torch.where(self.solver.density_map.conducts(fixed), result.status, refused)
            result = with_status(result, status)
        return Converged(frozen, fixed, result, field, at_solution)
