"""`StrictQuadraticFieldEnergyReadout`: bilinear in the induced density and the field; and the read-out that is zero."""

import math

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Neighbours
from ..response.state import no_rows
from .state import Readout, ReadoutState

#: the method multiplies the field by this before its linear map
FIELD_SCALE = 0.01
#: width of the method's intermediate representation, kept for the scale of the weights
INTERMEDIATE = 32


class StrictQuadraticReadout(Readout):
    """e_i = sum_{l,n} κ^l_n(h_i) sum_m Δp_i^{lm} v_{i,n}^{lm},   κ^l_n = sum_c K^l_{n c} h_{i,c}^0.

    Δp is the induced density p - p_loc, v the field features.  The method writes this as linear maps of Δp and
    0.01 v to 32 channels, a bilinear product and a contraction with the scalars of h; the product of these maps is K.

    Source: Baldwin et al., arXiv:2603.14700.
    """

    def __init__(self, channels: int, n_widths: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, n_widths, channels))
        self.scale = FIELD_SCALE * INTERMEDIATE / math.sqrt(channels)

    def forward(self, h: Tensor, species: Tensor, neighbours: Neighbours) -> ReadoutState:
        """Last-layer features ``(n, >= 4, C)``, species of all atoms -> coefficients of this geometry."""
        weight = self.weight * self.scale
        scalar = torch.matmul(h[:, 0], weight[0].t())
        vector = torch.matmul(h[:, 0], weight[1].t())
        kappa = torch.stack([scalar, vector, vector, vector], dim=2)
        nothing = no_rows(h, [0, 4, 0])
        return ReadoutState(kappa, nothing, nothing, neighbours, species)

    def energy(
        self, s: ReadoutState, local_density: Tensor, density: Tensor, v: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Energy per atom ``(n,)`` (eV) from p_loc and p ``(n, 4)`` and normalised field features ``(n, m, 4)``."""
        return (s.coefficients * (density - local_density).unsqueeze(1) * v).sum(dim=[1, 2])


class NullReadout(Readout):
    """`NullFieldReadout`: no non-local energy."""

    def forward(self, h: Tensor, species: Tensor, neighbours: Neighbours) -> ReadoutState:
        """An empty state."""
        nothing = no_rows(h, [0, 4, 0])
        return ReadoutState(nothing, nothing, nothing, neighbours, species)

    def energy(
        self, s: ReadoutState, local_density: Tensor, density: Tensor, v: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Zero."""
        return 0.0 * density.sum(1)
