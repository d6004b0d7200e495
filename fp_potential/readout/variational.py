"""`VariationalFieldReadout`: the energy that the response itself costs, so that the density is its minimum.

With p = p_loc + δ - M w (`response.split_charge`; w the total field with the level μ - μ_0 where something conducts, δ
the shared charge), Δ = p - p_loc - δ and the Coulomb and field energies of p beside it, the energy

    -Δ·w - ½ w·M w + Σ_i [χ_i δ_i + ½ η_i δ_i²] - μ_0 Q

is ½ Δ·M^-1 Δ + … at the solution and stationary there in p and w.  With atoms that conduct, dE/dQ = -μ and dΩ/dμ = Q by
construction, forces at constant charge and at the same Fermi level are the same, and the source of their adjoint is
zero.  χ_i and η_i > 0 are functions of the features: what charge costs that nothing conducts.

The first two terms need the response and are added by the model (`model.FixedPointPotential.nonlocal_energy`).
"""

import math

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Neighbours
from ..response.state import no_rows
from .state import Readout, ReadoutState

#: start of η, V/e
INITIAL_HARDNESS = 5.0


class VariationalReadout(Readout):
    """The energy χ δ + ½ η δ² of shared charge, χ = c w·h^0 + b_z and η = softplus(c w'·h^0 + b'_z), c = 1/sqrt(C)."""

    def __init__(self, channels: int, n_elements: int) -> None:
        super().__init__()
        self.c = 1.0 / math.sqrt(channels)
        self.weight = nn.Parameter(torch.zeros(2, channels))
        hardness = math.log(math.expm1(INITIAL_HARDNESS))
        self.bias = nn.Parameter(
            torch.tensor([[0.0], [hardness]], dtype=torch.get_default_dtype()).repeat(1, n_elements)
        )

    def forward(self, h: Tensor, species: Tensor, neighbours: Neighbours) -> ReadoutState:
        """Last-layer features ``(n, >= 4, C)``, species of all atoms -> χ and η in the first two coefficients."""
        values = self.bias.t()[species[: h.shape[0]]] + torch.matmul(h[:, 0], self.weight.t() * self.c)
        hardness = torch.nn.functional.softplus(values[:, 1])
        coefficients = torch.stack([values[:, 0], hardness], dim=1).unsqueeze(1)
        nothing = no_rows(h, [0, 4, 0])
        return ReadoutState(coefficients, nothing, nothing, neighbours, species)

    def energy(
        self, s: ReadoutState, local_density: Tensor, density: Tensor, v: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Energy per atom ``(n,)``, eV, of the shared charge ``(n,)``."""
        return shared * (s.coefficients[:, 0, 0] + 0.5 * s.coefficients[:, 0, 1] * shared)
