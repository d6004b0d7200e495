"""FixedPointPotential: local part -> SCF -> observables -> forces and stress."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .backbone.mace import Backbone
from .electrostatics import Electrostatics
from .graph import Graph
from .nets import EquivariantLinear, GatedReadout, ScalarReadout
from .options import ModelOptions, ModelStatistics
from .readout import StrictQuadraticReadout
from .response import OneBodyUpdate
from .scf.problem import DensityMap, SCFProblem, detach_problem, graph_sum
from .scf.solve import NO_CHARGE_RESPONSE, FixedPointSolver
from .units import GRADIENT_FEATURE, SCALAR_FEATURE


class LocalState(NamedTuple):
    """What the geometry alone decides, per owned atom."""

    energy: Tensor  #: (n,) eV, learned part of the local energy (without E0)
    density: Tensor  #: (n, 4) p_loc
    offset: Tensor  #: (n, 4) field-independent part of the update
    matrix: Tensor  #: (n, 4, m, 4) response to the raw field (V, V/Å)
    kappa: Tensor  #: (n, m, 4) non-local energy per induced density and raw field


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


class FixedPointPotential(nn.Module):
    """Interatomic potential with a self-consistent density of Gaussian charges and dipoles.

    E = sum_i [E0 + read-outs](h) + sum_i κ(h)·Δp·u + E_C[p] + F·D, with p = G(p) (see `scf.problem`).
    Reported are E_c = E + λ·(G(p) - p) at constant charge, equal to E at convergence and second order in the residuals
    otherwise, and Omega_c = E_c + mu Q at constant Fermi level.  Forces and stress are derivatives of the reported
    energy at fixed p and λ.  See design notes in docs/scf.md.
    """

    feature_scale: Tensor
    normalised_scale: Tensor

    def __init__(self, options: ModelOptions, elements: Sequence[int], statistics: ModelStatistics) -> None:
        super().__init__()
        o = options
        self.elements = [int(z) for z in elements]
        self.cutoff = float(o.r_max)
        n_elements, c, m = len(self.elements), o.num_channels, len(o.field_feature_widths)
        self.n_widths = m
        missing = [z for z in self.elements if z not in statistics.atomic_energies]
        if missing:
            raise ValueError(f"`statistics.atomic_energies` lacks the elements with atomic numbers {missing}")
        self.backbone = Backbone(
            n_elements,
            o.r_max,
            o.num_radial_basis,
            o.num_cutoff_basis,
            o.max_ell,
            o.max_L,
            c,
            o.correlation,
            o.num_interactions,
            o.radial_MLP,
            o.interaction_first == "RealAgnosticResidualInteractionBlock",
            statistics.avg_num_neighbors,
        )
        hidden = o.readout_channels
        layers = range(o.num_interactions)
        self.energy_readouts = nn.ModuleList(ScalarReadout(c, hidden if t == layers[-1] else 0) for t in layers)
        scale = o.fixedpoint_initial_charge_head_scale
        self.density_readouts = nn.ModuleList(GatedReadout(c, hidden, scale) for _ in layers)
        self.feature_mixers = nn.ModuleList(EquivariantLinear(1, c, c) for _ in layers)
        norms = torch.tensor(statistics.field_feature_norms, dtype=torch.float64).reshape(2, m)
        widths = torch.tensor(o.field_feature_widths, dtype=torch.float64)
        per_l = torch.stack([torch.full_like(widths, SCALAR_FEATURE), GRADIENT_FEATURE * widths])
        self.register_buffer("feature_scale", per_l[[0, 1, 1, 1]].t().contiguous(), persistent=False)
        scaled = (per_l / norms)[[0, 1, 1, 1]].t().contiguous()
        self.register_buffer("normalised_scale", scaled, persistent=False)
        self.update = OneBodyUpdate(
            c, m, n_elements, scale, o.fixedpoint_update_config.polarize_symmetric_sites, scaled
        )
        self.nonlocal_readout = StrictQuadraticReadout(c, m)
        self.include_nonlocal = o.include_local_electron_energy
        self.electrostatics = Electrostatics(
            o.atomic_multipoles_smearing_width,
            o.field_feature_widths,
            o.kspace_cutoff_factor,
            o.include_field_si,
            o.include_electrostatic_self_interaction,
        )
        self.density_map = DensityMap(self.electrostatics)
        self.solver = FixedPointSolver(self.density_map, 20)
        self.no_charge_response = NO_CHARGE_RESPONSE
        self.fermi_level_offset = float(statistics.fermi_level_offset)
        e0 = torch.tensor([statistics.atomic_energies[z] for z in self.elements], dtype=torch.float64)
        self.atomic_energies = e0.tolist()

    # ---- local part -------------------------------------------------------------------------------------------

    def local(self, graph: Graph, vectors: Tensor) -> LocalState:
        """Everything that depends on the geometry only, from edge vectors ``(n_edges, 3)``."""
        n_owned = graph.batch.shape[0]
        species = graph.species[:n_owned]
        features = self.backbone(graph, vectors)
        last = features[len(features) - 1]
        energy = torch.zeros([n_owned], dtype=vectors.dtype, device=vectors.device)
        density = torch.zeros([n_owned, 4], dtype=vectors.dtype, device=vectors.device)
        mixed = torch.zeros([n_owned, 4, last.shape[2]], dtype=vectors.dtype, device=vectors.device)
        for t, (readout, head, mixer) in enumerate(
            zip(self.energy_readouts, self.density_readouts, self.feature_mixers)
        ):
            energy = energy + readout(features[t])
            density = density + head(features[t], species)
            mixed = mixed + mixer(features[t][:, :4], species)
        offset, matrix = self.update(mixed, species)
        kappa = self.nonlocal_readout(last)
        if not self.include_nonlocal:
            kappa = torch.zeros_like(kappa)
        scale = self.normalised_scale.to(vectors.dtype)
        return LocalState(energy, density, offset, matrix * scale, kappa * scale)

    def external_field(self, graph: Graph, positions: Tensor) -> Tensor:
        """Raw field (F·r, F) of the external field at each atom ``(n, 4)``, components (0, y, z, x)."""
        gradient = graph.external_field[graph.batch]
        potential = (gradient * positions).sum(1, keepdim=True)
        return torch.cat([potential, gradient[:, [1, 2, 0]]], dim=1)

    def problem(
        self, graph: Graph, local: LocalState, positions: Tensor, cell: Tensor, constant_charge: bool
    ) -> SCFProblem:
        """The fixed-point problem of a geometry, with gradients; ``positions`` of owned atoms."""
        cache = self.electrostatics.prepare(positions, cell, graph.pbc, graph.batch, graph.distributed)
        external = self.external_field(graph, positions)
        base = local.density + local.offset + torch.einsum("ncmd,nd->nc", local.matrix, external)
        fermi = local.matrix[:, :, :, 0].sum(2)
        n_graphs = graph.cell.shape[0]
        response = graph_sum(fermi[:, 0], graph.batch, n_graphs, graph.distributed)
        ones = torch.ones([positions.shape[0]], dtype=positions.dtype, device=positions.device)
        atoms = graph_sum(ones, graph.batch, n_graphs, graph.distributed)
        target = graph.total_charge if constant_charge else graph.fermi_level - self.fermi_level_offset
        return SCFProblem(
            cache, base, local.matrix, fermi, response, target, graph.batch, atoms, constant_charge, graph.distributed
        )

    # ---- energy -----------------------------------------------------------------------------------------------

    def total_field(self, problem: SCFProblem, field: Tensor, level: Tensor, external: Tensor) -> Tensor:
        """Raw field u ``(n, m, 4)``: Coulomb field + external field + Fermi level."""
        u = field + external.unsqueeze(1)
        return torch.cat([u[:, :, :1] + level[problem.batch][:, None, None], u[:, :, 1:]], dim=2)

    def observables(
        self, problem: SCFProblem, local: LocalState, density: Tensor, field: Tensor, external: Tensor, species: Tensor
    ) -> Observables:
        """Energy terms of a density ``(n, 4)`` in a total raw field ``(n, m, 4)``."""
        induced = density - local.density
        coulomb = self.electrostatics.potentials(problem.cache, density, problem.distributed)
        # one scalar at a time: TorchScript's torch.tensor of a list of floats rounds them to float32
        e0 = torch.stack([torch.full([], e, dtype=torch.float64, device=density.device) for e in self.atomic_energies])
        return Observables(
            e0[species] + local.energy.to(torch.float64),
            (local.kappa * induced.unsqueeze(1) * field).sum(dim=[1, 2]).to(torch.float64),
            0.5 * (density * coulomb).sum(1).to(torch.float64),
            (density * external).sum(1).to(torch.float64),
            coulomb[:, 0],
        )

    def density_gradient(
        self, problem: SCFProblem, local: LocalState, density: Tensor, field: Tensor, external: Tensor
    ) -> Tensor:
        """Total derivative of the energy (Omega at constant Fermi level) by p ``(n, 4)``, mu(p) included."""
        induced = density - local.density
        explicit = self.electrostatics.potentials(problem.cache, density, problem.distributed)
        explicit = explicit + external + (local.kappa * field).sum(1)
        on_field = local.kappa * induced.unsqueeze(1)
        if problem.constant_charge:
            n_graphs = problem.response.shape[0]
            on_level = graph_sum(on_field[:, :, 0].sum(1), problem.batch, n_graphs, problem.distributed)
            share = (on_level / problem.response)[problem.batch]
            on_field = on_field - problem.matrix[:, 0] * share[:, None, None]
        else:
            level = (problem.target + self.fermi_level_offset)[problem.batch].unsqueeze(1)
            explicit = torch.cat([explicit[:, :1] + level, explicit[:, 1:]], dim=1)
        return explicit + self.density_map.transposed_field(problem, on_field)

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
    ) -> dict[str, Tensor]:
        """Self-consistent energy, forces, strain derivative and density of a batch.

        ``initial_density`` ``(n, 4)`` starts the loop; with zero rows the local guess p_loc does.  Keys of the result
        are listed in `export.OUTPUTS`.  With ``response_forces`` false the adjoint is left out: derivatives at fixed
        density, wrong by the response of the density.
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
        external = self.external_field(graph, owned)

        with torch.no_grad():
            fixed = detach_problem(problem, self.electrostatics.detached(problem.cache))
            frozen = LocalState(
                local.energy.detach(),
                local.density.detach(),
                local.offset.detach(),
                local.matrix.detach(),
                local.kappa.detach(),
            )
            start = frozen.density
            if initial_density.shape[0] > 0:
                start = initial_density
            result = self.solver.scf(fixed, start, num_scf_steps, scf_tolerance, solver, mixing_parameter)
            density = result.x
            status = result.status
            if constant_charge:
                refused = torch.full_like(status, self.no_charge_response)
                status = torch.where(self.density_map.responds(fixed), status, refused)
            coulomb_field = self.electrostatics.field(fixed.cache, density, graph.distributed)
            fixed_level = self.density_map.update(fixed, coulomb_field)[1]
            fixed_field = self.total_field(fixed, coulomb_field, fixed_level, external.detach())
            gradient = self.density_gradient(fixed, frozen, density, fixed_field, external.detach())
            adjoint = torch.zeros_like(density)
            adjoint_residual = torch.zeros_like(result.residual)
            if response_forces:
                solution = self.solver.adjoint(fixed, gradient, num_scf_steps, scf_tolerance, solver, mixing_parameter)
                adjoint = solution.x
                adjoint_residual = solution.residual
                # forces are only as good as the adjoint: its failure is a failure of the whole
                status = torch.where(status == 0, solution.status, status)

        update, level, field = self.density_map(problem, density)
        total = self.total_field(problem, field, level, external)
        terms = self.observables(problem, local, density, total, external, species)
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

    # ---- for training -------------------------------------------------------------------------------------------

    def field_features(self, graph: Graph, density: Tensor, level: Tensor) -> Tensor:
        """Un-normalised field features ``(n, m, 4)`` of a density, with the Fermi level ``(B,)`` relative to mu_0."""
        owned = graph.positions[: graph.batch.shape[0]]
        cache = self.electrostatics.prepare(owned, graph.cell, graph.pbc, graph.batch, graph.distributed)
        u = self.electrostatics.field(cache, density, graph.distributed) + self.external_field(graph, owned).unsqueeze(
            1
        )
        u = torch.cat([u[:, :, :1] + level[graph.batch][:, None, None], u[:, :, 1:]], dim=2)
        return u * self.feature_scale.to(u.dtype)

    @torch.jit.unused
    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by part; every one is in exactly one group."""
        parts: dict[str, list[nn.Module]] = {
            "backbone": [self.backbone, self.energy_readouts],
            "local_charges": [self.density_readouts],
            "field_block": [self.update, self.feature_mixers],
            "readout": [self.nonlocal_readout],
        }
        return {
            name: [p for module in modules for p in module.parameters() if p.requires_grad]
            for name, modules in parts.items()
        }
