"""`StrictQuadraticFieldEnergyReadout`: bilinear in the induced density and the field."""

import math

import torch
from torch import Tensor, nn

#: the method multiplies the field by this before its linear map
FIELD_SCALE = 0.01
#: width of the method's intermediate representation, kept for the scale of the weights
INTERMEDIATE = 32


class StrictQuadraticReadout(nn.Module):
    """e_i = sum_{l,n} κ^l_n(h_i) sum_m Δp_i^{lm} v_{i,n}^{lm},   κ^l_n = sum_c K^l_{n c} h_{i,c}^0.

    Δp is the induced density p - p_loc, v the field features.  The method writes this as linear maps of Δp and
    0.01 v to 32 channels, a bilinear product and a contraction with the scalars of h; the product of these maps is K.
    """

    def __init__(self, channels: int, n_widths: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, n_widths, channels))
        self.scale = FIELD_SCALE * INTERMEDIATE / math.sqrt(channels)

    def forward(self, h: Tensor) -> Tensor:
        """Last-layer features ``(n, comps, C)`` -> κ per field feature ``(n, m, 4)``, components (0, y, z, x)."""
        weight = self.weight * self.scale
        scalar = torch.matmul(h[:, 0], weight[0].t())
        vector = torch.matmul(h[:, 0], weight[1].t())
        return torch.stack([scalar, vector, vector, vector], dim=2)
