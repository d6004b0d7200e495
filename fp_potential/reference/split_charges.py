r"""Split-charge equilibration and its mixture with charge equilibration: insulators that insulate beside metals.

Charge moves through bonds and, on atoms of metals, to and from a reservoir.  With p_b the charge that bond b = (i, j)
moves from j to i, y_i the charge that a metal's atom takes and Q_i the formal charges,

    q_i = Q_i + δ + Σ_b (±p_b) + y_i,
    E = Σ_i [χ_i q_i + |d_i|² / 2α_i] + Σ_b p_b² / 2κ_b(r_b) + Σ_i ½ η_i y_i² + E_C[q, d] + F·D + repulsion,

stationary at total charge Q, or Ω = E + μ Q at Fermi level μ.  κ_b = a_ij² f(r)², f with `response.bonds`' cutoff and 1
at the sum of the covalent radii, so that bonds break smoothly.  The atomic hardness of what is no metal is that of its
Gaussian.  As a map,

    p = p_loc + λ c - M u,    M = Σ_b b b^T + Σ_i e_i e_i^T / η_i + Σ_i α_i 1,    p_loc = Q - M χ,

b = a f (+1 on i, -1 on j): the form of `response.SplitChargeUpdate`, with constants of the elements.  Without metals
this is split-charge equilibration: no field moves charge between molecules.  The charge that is missing to Q is then
the same δ on every atom, and there is no Fermi level.  In a structure with a metal δ = 0 and the metal takes it.

Sources: Nistor, Polihronov, Müser and Mosey, J. Chem. Phys. 125, 094108 (2006), doi:10.1063/1.2346671 (split charges
and charge equilibration in one energy); Verstraelen, Ayers, Van Speybroeck and Waroquier, J. Chem. Phys. 138, 074108
(2013), doi:10.1063/1.4791569 (why insulators need them).
"""

import torch
from ase.data import atomic_numbers
from torch import Tensor

from ..backbone.neighbours import Edges, no_neighbours
from ..communication import graph_sum
from ..density.density_model import LocalState
from ..elements import bond_lengths
from ..graph import Graph
from ..readout.state import ReadoutState
from ..response.bonds import BondedUpdate, bonded, cutoff_scale, near_pairs
from ..response.state import Bonds, ResponseState, matrix_state, no_rows
from .models import ReferenceModel, constant
from .options import ReferenceOptions


class BondResponse(BondedUpdate):
    """M of constants: ``amplitude`` a of bonds that end at ``reach``, both ``(Z, Z)``, and a compliance of atoms."""

    def __init__(self, amplitude: Tensor, reach: Tensor, lengths: Tensor) -> None:
        super().__init__(1, 0)
        self.amplitude, self.reach = constant(amplitude), constant(reach)
        self.cutoff_scale = constant(cutoff_scale(reach, lengths))

    def forward(
        self, charges: Tensor, slope: Tensor, compliance: Tensor, share: Tensor, species: Tensor, edges: Edges
    ) -> ResponseState:
        """The response around p_loc = Q - M χ.

        Args:
            charges: ``(n, 4)`` Q.
            slope: ``(n_total, 4)`` χ of all atoms.
            compliance: ``(n, 4)`` diagonal of M of single atoms.
            share: ``(n,)`` by which charge is shared, e/V.
            species: ``(n_total,)``.
        """
        n = charges.shape[0]
        pairs = near_pairs(edges, species, self.reach, self.cutoff_scale)
        moved = self.amplitude[species[pairs.atom], species[pairs.partner]] * pairs.cutoff
        nothing = torch.zeros_like(moved)
        own = torch.stack([moved, nothing, nothing, nothing], dim=1).unsqueeze(1)
        bonds = Bonds(pairs.atom, pairs.partner, own, -own)
        base = charges - compliance * slope[:n] - bonded(bonds, slope, n)
        matrix = -torch.diag_embed(compliance).unsqueeze(2)
        return matrix_state(base, matrix, no_neighbours(base, n), species, bonds, share)


class SplitCharges(ReferenceModel):
    """Split-charge equilibration, ``options.metallic`` elements charge equilibration; dipoles if ``polarizable``.

    Raises:
        ValueError: ``include_electrostatic_self_interaction`` is false: atoms would have no hardness.
    """

    def __init__(self, options: ReferenceOptions | None = None) -> None:
        options = options or ReferenceOptions()
        if not options.include_electrostatic_self_interaction:
            raise ValueError(
                "`include_electrostatic_self_interaction: false`: the atomic hardness of split charges is that of "
                "their Gaussians; set it to true, or leave it out"
            )
        softness = torch.tensor(options.bond_softness(), dtype=torch.float64)
        elements = options.elements
        lengths = bond_lengths([atomic_numbers[symbol] for symbol in elements])
        reach = (options.bond_stretch * lengths).clamp(max=float(options.r_max)) * (softness > 0)
        super().__init__(
            options,
            BondResponse(softness.sqrt(), reach, lengths),
            [element.electronegativity for element in elements.values()],
            [element.hardness if symbol in options.metallic else 0.0 for symbol, element in elements.items()],
            [element.formal_charge for element in elements.values()],
            options.polarizable,
        )
        self.bond_softness, self.bond_reach, self.bond_lengths = constant(softness), constant(reach), constant(lengths)
        #: numbers per atom in one exchange between ranks
        self.comm_width = 4

    def conducts(self, graph: Graph) -> Tensor:
        """Whether each structure has atoms of a metal ``(B,)`` bool."""
        softness = self.compliance(graph.species[: graph.batch.shape[0]])[:, :1]
        return graph_sum(softness, graph.batch, graph.cell.shape[0], graph.distributed)[:, 0] > 0

    def fixed_charges(self, graph: Graph) -> Tensor:
        """Q_i + δ ``(n,)``, e."""
        charges = self.charges[graph.species[: graph.batch.shape[0]]]
        columns = torch.stack([charges, torch.ones_like(charges)], dim=1)
        sums = graph_sum(columns, graph.batch, graph.cell.shape[0], graph.distributed)
        shift = (graph.total_charge - sums[:, 0]) / sums[:, 1]
        return charges + torch.where(self.conducts(graph), torch.zeros_like(shift), shift)[graph.batch]

    def slope_at_offset(self, species: Tensor) -> Tensor:
        """χ + mu_0 ``(n, 4)``: the map sees the level relative to mu_0."""
        slope = self.slope[species]
        return torch.cat([slope[:, :1] + self.fermi_level_offset, slope[:, 1:]], dim=1)

    def formal_charges(self, species: Tensor) -> Tensor:
        """Q ``(n, 4)``."""
        charges = self.charges[species].unsqueeze(1)
        return torch.cat([charges, torch.zeros_like(charges).expand(-1, 3)], dim=1)

    def local(self, graph: Graph, vectors: Tensor) -> LocalState:
        """Repulsion, p_loc and the response of this geometry; from edge vectors ``(n_edges, 3)``."""
        species = graph.species[: graph.batch.shape[0]]
        # 1 e/V on every atom, or any other number that is the same on all
        share = torch.logical_not(self.conducts(graph)).to(vectors.dtype)[graph.batch]
        response = self.solver.density_map.response(
            self.formal_charges(species),
            self.slope_at_offset(graph.species),
            self.compliance(species),
            share,
            graph.species,
            Edges(graph.edge_index, vectors, graph.distributed),
        )
        nothing = no_rows(vectors, [0, 4, 0])
        readout = ReadoutState(nothing, nothing, nothing, response.neighbours, graph.species)
        return LocalState(self.repulsion(graph, vectors), response.base, response, readout)

    def nonlocal_energy(
        self, local: LocalState, density: Tensor, field: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """χ p + ½ (-M w)^T M^-1 (-M w) per owned atom ``(n,)``, eV, in the field w with χ.

        As χ·p - Δ·w - ½ w·M w with Δ = p - Q - δ, which is stationary in p and w (`readout.variational`).
        """
        species = local.readout.species[: density.shape[0]]
        w = field[:, 0] + self.slope_at_offset(species)
        answer = self.solver.density_map.response.slope(local.response, w.unsqueeze(1), distributed)
        change = density - self.formal_charges(species) - 0.5 * answer
        return (self.slope[species] * density - change * w).sum(1) + shared * w[:, 0]
