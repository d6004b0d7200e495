"""`ManyBodyChargesReadout` and `ManyBodyChargesFieldReadout`: a message pass over densities (and field features)."""

import math

import torch
from torch import Tensor, nn

from ..backbone.interaction import MessageShape
from ..backbone.neighbours import Neighbours
from ..nets import MLP
from ..response.message import FieldMessage
from ..response.one_body import NONLINEARITY_HIDDEN
from ..response.state import no_rows
from .state import Readout, ReadoutState

#: body order of the product basis
CORRELATION = 2


class ManyBodyReadout(Readout):
    """e_i = c sum_u R_{z u} h_u^0 [c sum_w T_{u w} MLP(d_i)_w],  d_i invariants of one message pass (`FieldMessage`)

    over p + p_loc, and over the field features v too if ``with_field``; c = 1/sqrt(C).
    """

    def __init__(self, shape: MessageShape, n_widths: int, with_field: bool) -> None:
        super().__init__()
        channels = shape.channels
        self.c = 1.0 / math.sqrt(channels)
        self.with_field = with_field
        size = 1 + n_widths if with_field else 1
        self.message = FieldMessage(shape, size, True, CORRELATION, True)
        self.nonlinearity = MLP([channels, *NONLINEARITY_HIDDEN, channels])
        self.mixing_weight = nn.Parameter(torch.randn(channels, channels))
        self.element_readout = nn.Parameter(torch.randn(shape.n_elements, channels))

    def forward(self, h: Tensor, species: Tensor, neighbours: Neighbours) -> ReadoutState:
        """Last-layer features ``(n, >= 4, C)``, species of all atoms -> what the energy needs of this geometry."""
        nothing = no_rows(h, [0, 4, 0])
        return ReadoutState(nothing, h[:, :4], self.message.radial_features(neighbours), neighbours, species)

    def energy(
        self, s: ReadoutState, local_density: Tensor, density: Tensor, v: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Energy per atom ``(n,)`` (eV) from p_loc and p ``(n, 4)`` and normalised field features ``(n, m, 4)``."""
        inputs = (density + local_density).unsqueeze(1)
        if self.with_field:
            inputs = torch.cat([inputs, v], dim=1)
        d = self.message(inputs, s.features, s.species, s.neighbours, s.edges, distributed)
        scalars = torch.matmul(self.nonlinearity(d), self.mixing_weight.t() * self.c)
        own = s.species[: density.shape[0]]
        return (s.features[:, 0] * scalars * (self.element_readout * self.c)[own]).sum(1)
