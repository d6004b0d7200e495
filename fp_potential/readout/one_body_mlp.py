"""`OneBodyMLPFieldReadout`: a network of the invariants of density, field and features of one atom."""

import math

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Neighbours
from ..nets import MLP
from ..response.state import no_rows
from .state import Readout, ReadoutState

#: hidden layers of the network
HIDDEN = [128, 128, 128]


class OneBodyMLPReadout(Readout):
    """e_i = MLP(d_i),  d_u = c sum_l sum_w W^l_{u w} <h_u^l, x_w^l> / sqrt(2l + 1),

    x_w^l = P^l_w (p + p_loc)^l + sum_n V^l_{n w} v_n^l + b_w (l = 0 only),  c = 1/sqrt(C); the MLP has no biases.
    """

    def __init__(self, channels: int, n_widths: int) -> None:
        super().__init__()
        self.c = 1.0 / math.sqrt(channels)
        self.density_weight = nn.Parameter(torch.randn(2, 1, channels))
        self.field_weight = nn.Parameter(torch.randn(2, n_widths, channels) / math.sqrt(n_widths))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.invariant_weight = nn.Parameter(torch.randn(2, channels, channels))
        self.mlp = MLP([channels, *HIDDEN, 1])

    def forward(self, h: Tensor, species: Tensor, neighbours: Neighbours) -> ReadoutState:
        """Last-layer features ``(n, >= 4, C)``, species of all atoms -> what the energy needs of this geometry."""
        nothing = no_rows(h, [0, 4, 0])
        return ReadoutState(nothing, h[:, :4], nothing, neighbours, species)

    def energy(
        self, s: ReadoutState, local_density: Tensor, density: Tensor, v: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Energy per atom ``(n,)`` (eV) from p_loc and p ``(n, 4)`` and normalised field features ``(n, m, 4)``."""
        inputs = torch.cat([(density + local_density).unsqueeze(1), v], dim=1)
        d = torch.zeros([density.shape[0], s.features.shape[2]], dtype=density.dtype, device=density.device)
        for ell in range(2):
            begin, end = ell * ell, (ell + 1) * (ell + 1)
            weight = torch.cat([self.density_weight[ell], self.field_weight[ell]])
            x = torch.matmul(inputs[:, :, begin:end].transpose(1, 2), weight)
            if ell == 0:
                x = x + self.bias
            back = self.invariant_weight[ell].t() * (self.c / math.sqrt(2.0 * ell + 1.0))
            d = d + (s.features[:, begin:end] * torch.matmul(x, back)).sum(1)
        return self.mlp(d).squeeze(1)
