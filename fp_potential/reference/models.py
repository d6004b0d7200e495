r"""Charge equilibration and induced dipoles as fixed-point maps.

Charges q_i and dipoles d_i on Gaussians of one width σ, in the potential v of all of them and of an external field
F·r, minimise

    E = sum_i [χ_i q_i + ½ η_i q_i² + |d_i|² / 2 α_i] + ½ sum_ij p_i·A_ij·p_j + F·D + repulsion

at total charge Q, or Ω = E + μ Q at Fermi level μ.  Stationarity is the map of `density.problem` with one width,

    q_i = -(χ_i + <v>_i + F·r_i + μ) / η_i,        d_i = -α_i (<grad v>_i + F),

so that dE/dQ = -μ, dΩ/dμ = Q and forces are partial derivatives at fixed density (Hellmann–Feynman).

A Gaussian's interaction with itself, k_e q²/(2 sqrt(pi) σ) and k_e |d|²/(12 sqrt(pi) σ³), is in the energy and,
because the map must be the derivative of the energy, in the field; or in neither.  Leaving it out and adding its second
derivatives k_e/(sqrt(pi) σ) to η and k_e/(6 sqrt(pi) σ³) to 1/α is the same model with another Jacobian
(`ReferenceOptions.without_self_interaction`).  With it, A has no negative eigenvalue: the minimum exists for every
η, α > 0, and the map's Jacobian has no eigenvalue above 0.

Sources: Mortier, Ghosh and Shankar, J. Am. Chem. Soc. 108, 4315 (1986), doi:10.1021/ja00275a013 (equal
electronegativities); Rappé and Goddard, J. Phys. Chem. 95, 3358 (1991), doi:10.1021/j100161a070 (charge equilibration);
Thole, Chem. Phys. 59, 341 (1981), doi:10.1016/0301-0104(81)85176-2 (induced dipoles of smeared charges).
"""

import torch
from ase.data import atomic_numbers
from torch import Tensor, nn

from ..backbone.neighbours import Neighbours, no_neighbours
from ..communication import graph_sum
from ..density.density_model import LocalState
from ..density.self_consistent import SelfConsistentModel
from ..electrostatics import Electrostatics
from ..graph import Graph
from ..readout.state import ReadoutState
from ..response.state import ResponseState, Update, matrix_state, no_bonds, no_rows
from ..units import COULOMB, GRADIENT_FEATURE, SCALAR_FEATURE
from .options import ReferenceOptions


class ElementResponse(Update):
    """p = base - compliance · u, the update of models whose atoms respond by constants of their elements."""

    def __init__(self, fixed_charge: bool) -> None:
        super().__init__()
        self.affine, self.linear, self.fixed_charge = True, True, fixed_charge

    def forward(self, base: Tensor, compliance: Tensor, neighbours: Neighbours, species: Tensor) -> ResponseState:
        """Density without a field ``(n, 4)`` and compliance ``(n, 4)``, e/V and e Å²/V -> the response."""
        matrix = -torch.diag_embed(compliance).unsqueeze(2)
        return matrix_state(base, matrix, neighbours, species, no_bonds(base), torch.zeros_like(base[:, 0]))

    def density(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """p ``(n, 4)`` in the raw total field ``u`` ``(n, 1, 4)``."""
        return s.base + torch.matmul(s.matrix[:, :, 0], u.transpose(1, 2)).squeeze(2)


class ReferenceModel(SelfConsistentModel):
    """What the known models share; see the equations above.

    ``slope`` and ``stiffness`` ``(Z, 4)`` are the first and second derivatives of an atom's own energy by the
    components of its density (χ; η and 1/α); a component whose stiffness is zero does not respond by itself.

    Args:
        slope: χ per element, eV/e.
        hardness: η per element, eV/e²; 0: the charge of the atom does not respond by itself.
        charges: per element, e; of charges that do not respond, or without field and bonds.
        dipoles: whether atoms are polarizable.
    """

    def __init__(
        self,
        options: ReferenceOptions,
        update: Update,
        slope: list[float],
        hardness: list[float],
        charges: list[float],
        dipoles: bool,
    ) -> None:
        o, chosen = options, list(options.elements.values())
        sigma = float(o.atomic_multipoles_smearing_width)
        own = o.include_electrostatic_self_interaction
        scale = torch.tensor([[SCALAR_FEATURE] + [GRADIENT_FEATURE * sigma] * 3], dtype=torch.float64)
        super().__init__(
            [atomic_numbers[symbol] for symbol in o.elements],
            float(o.r_max),
            Electrostatics(sigma, [sigma], o.kspace_cutoff_factor, own, own),
            update,
            scale,
            [0.0] * len(chosen),
            o.fermi_level_offset,
        )
        self.options = o
        self.sigma, self.self_interaction = sigma, own
        self.repulsion_energy, self.repulsion_length = float(o.repulsion_energy), float(o.repulsion_length)
        self.slope = constant([[chi, 0.0, 0.0, 0.0] for chi in slope])
        alphas = [element.polarizability if dipoles else 0.0 for element in chosen]
        of_dipoles = [COULOMB / alpha if alpha > 0 else 0.0 for alpha in alphas]
        self.stiffness = constant(
            [[eta] + [by_dipole] * 3 for eta, by_dipole in zip(hardness, of_dipoles, strict=True)]
        )
        self.charges = constant(charges)
        self.radii = constant([element.radius for element in chosen])

    def compliance(self, species: Tensor) -> Tensor:
        """1/η and α per component ``(n, 4)``, e/V and e Å²/V; zero where a component does not respond."""
        stiffness = self.stiffness[species]
        responds = stiffness > 0
        safe = torch.where(responds, stiffness, torch.ones_like(stiffness))
        return torch.where(responds, 1.0 / safe, torch.zeros_like(stiffness))

    def fixed_charges(self, graph: Graph) -> Tensor:
        """Charges that do not respond ``(n,)``, e: those of the elements, shifted alike to the total charge."""
        charges = self.charges[graph.species[: graph.batch.shape[0]]]
        if not self.fixed_charge:
            return charges
        n_graphs = graph.cell.shape[0]
        columns = torch.stack([charges, torch.ones_like(charges)], dim=1)
        sums = graph_sum(columns, graph.batch, n_graphs, graph.distributed)
        return charges + ((graph.total_charge - sums[:, 0]) / sums[:, 1])[graph.batch]

    def repulsion(self, graph: Graph, vectors: Tensor) -> Tensor:
        """Half of sum_j A exp((R_i + R_j - r)/ρ) c(r/r_max) over the neighbours j of owned atoms ``(n,)``, eV.

        c = 1 - 28 u⁶ + 48 u⁷ - 21 u⁸ is zero with two derivatives at the cutoff.
        """
        i, j = graph.edge_index[0], graph.edge_index[1]
        distance = vectors.norm(p=2, dim=1)
        u = distance / self.cutoff
        cut = (1.0 - u**6 * (28.0 - 48.0 * u + 21.0 * u * u)) * (u < 1.0).to(u.dtype)
        reach = self.radii[graph.species[i]] + self.radii[graph.species[j]]
        pair = 0.5 * self.repulsion_energy * torch.exp((reach - distance) / self.repulsion_length) * cut
        energy = torch.zeros([graph.batch.shape[0]], dtype=vectors.dtype, device=vectors.device)
        return energy.index_add(0, i, pair)

    def local(self, graph: Graph, vectors: Tensor) -> LocalState:
        """Repulsion, density without a field, and constant response; from edge vectors ``(n_edges, 3)``."""
        species = graph.species[: graph.batch.shape[0]]
        compliance = self.compliance(species)
        # the map sees the level relative to mu_0
        at_offset = self.slope[species, 0] + self.fermi_level_offset
        base = torch.zeros_like(compliance)
        base[:, 0] = self.fixed_charges(graph) - compliance[:, 0] * at_offset
        neighbours = no_neighbours(base, species.shape[0])
        response = self.solver.density_map.response(base, compliance, neighbours, graph.species)
        nothing = no_rows(base, [0, 4, 0])
        readout = ReadoutState(nothing, nothing, nothing, neighbours, graph.species)
        return LocalState(self.repulsion(graph, vectors), base, response, readout)

    def nonlocal_energy(
        self, local: LocalState, density: Tensor, field: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """χ q + ½ η q² + |d|²/2α per owned atom ``(n,)``, eV."""
        species = local.readout.species[: density.shape[0]]
        return (density * (self.slope[species] + 0.5 * self.stiffness[species] * density)).sum(1)


class ChargeEquilibration(ReferenceModel):
    """Charges that equalise their electronegativities, with induced dipoles if ``polarizable``."""

    def __init__(self, options: ReferenceOptions | None = None) -> None:
        options = options or ReferenceOptions()
        chosen = list(options.elements.values())
        slope, hardness = [e.electronegativity for e in chosen], [e.hardness for e in chosen]
        super().__init__(options, ElementResponse(False), slope, hardness, [0.0] * len(chosen), options.polarizable)


class InducedDipoles(ReferenceModel):
    """Dipoles induced on atoms of fixed charge.

    The charges of the elements are shifted by the same amount on every atom so that their sum is the total charge of
    the structure.  They respond to nothing, so there is no Fermi level: mu_0 is reported at constant charge, and at
    constant Fermi level Ω = E + μ Q with the total charge that is given.
    """

    def __init__(self, options: ReferenceOptions | None = None) -> None:
        options = options or ReferenceOptions()
        charges = [element.charge for element in options.elements.values()]
        nothing = [0.0] * len(charges)
        super().__init__(options, ElementResponse(True), nothing, nothing, charges, True)


def constant(values: Tensor | list[float] | list[list[float]]) -> nn.Parameter:
    """A parameter in float64 that is not fitted."""
    return nn.Parameter(torch.as_tensor(values, dtype=torch.float64), requires_grad=False)
