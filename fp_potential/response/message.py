"""One message pass over per-atom field inputs, reduced to invariants with the features: the many-body part of updates
and read-outs.

With inputs x (field features, or densities; l <= 1), features h and c = 1/sqrt(C):

    m_w^l = sum_n A^l_{z n w} x_n^l [+ c sum_u B^l_{u w} h_u^l]           (embedding, biased or not)
    A_i   = message(m)_i [+ centre(m_i)] [+ centre(h_i)]                  (one convolution over the short-range graph)
    B_i   = product basis of A_i up to ``correlation`` [+ self-connection(m_i)]
    d_u   = c sum_l sum_w W^l_{u w} <h_u^l, B_w^l> / sqrt(2l + 1).

Message and product basis are those of the backbone (`backbone.interaction`, `backbone.contraction`).
"""

import math

import torch
from torch import Tensor, nn

from ..backbone.contraction import ProductBasis
from ..backbone.interaction import Interaction, MessageShape
from ..backbone.neighbours import Neighbours
from ..communication import ghost_gather
from ..nets import EquivariantLinear


class NoMixer(nn.Module):
    """Nothing, where a linear map of the centre may stand."""

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """Zeros like ``x``."""
        return torch.zeros_like(x)


class FieldMessage(nn.Module):
    """Inputs ``(n, size, 4)`` -> invariants ``(n, C)``; see the equations above.

    Args:
        shape: of the convolution.
        size: number of inputs of an atom.
        biased: the embedding has the term of the features.
        correlation: body order of the product basis.
        use_sc: with the self-connection.
        centre: the message has the term of the embedded inputs of the atom itself.
        centre_features: likewise of its features.
    """

    def __init__(
        self,
        shape: MessageShape,
        size: int,
        biased: bool,
        correlation: int,
        use_sc: bool,
        centre: bool = True,
        centre_features: bool = False,
    ) -> None:
        super().__init__()
        channels, n_elements = shape.channels, shape.n_elements
        self.c = 1.0 / math.sqrt(channels)
        self.channels, self.size = channels, size
        self.biased, self.use_sc = biased, use_sc
        self.embedding = nn.Parameter(torch.randn(2, n_elements, size, channels))
        self.feature_weight = nn.Parameter(torch.randn(2, channels, channels), requires_grad=biased)
        self.interaction = Interaction(1, shape)
        self.centre = EquivariantLinear(1, channels, channels) if centre else NoMixer()
        self.centre_features = EquivariantLinear(1, channels, channels) if centre_features else NoMixer()
        self.product = ProductBasis(shape.max_ell, 1, channels, correlation, n_elements)
        self.self_connection = EquivariantLinear(1, channels, channels, n_elements)
        if not use_sc:
            self.self_connection.requires_grad_(False)
        self.invariant_weight = nn.Parameter(torch.randn(2, channels, channels))

    def radial_features(self, neighbours: Neighbours) -> Tensor:
        """Radial features of the message pass ``(n_edges, H)``: once per geometry."""
        return self.interaction.radial.hidden(neighbours.radial)

    def forward(
        self, x: Tensor, h: Tensor, species: Tensor, neighbours: Neighbours, edges: Tensor, distributed: bool
    ) -> Tensor:
        """Inputs ``(n, size, 4)`` and features ``(n, 4, C)`` of owned atoms, species of all -> d ``(n, C)``."""
        n, n_total = x.shape[0], species.shape[0]
        own = species[:n]
        embedded = self._embed(x, h, own)
        everywhere = embedded
        if distributed and self.biased:
            flat = ghost_gather(embedded.reshape(n, 4 * self.channels), n_total)
            everywhere = flat.reshape(n_total, 4, self.channels)
        elif distributed:
            # fewer numbers to send, and the ghosts' embedding is cheap
            everywhere = self._embed(
                ghost_gather(x.reshape(n, 4 * self.size), n_total).reshape(n_total, self.size, 4), h, species
            )
        messages = self.interaction.message(self.interaction.linear_up(everywhere, species), neighbours, edges)
        low = messages[:, :4] + self.centre(embedded, own) + self.centre_features(h, own)
        messages = torch.cat([low, messages[:, 4:]], dim=1)
        product = self.product(messages, own)
        if self.use_sc:
            product = product + self.self_connection(embedded, own)
        d = torch.zeros([n, self.channels], dtype=x.dtype, device=x.device)
        for ell in range(2):
            begin, end = ell * ell, (ell + 1) * (ell + 1)
            back = self.invariant_weight[ell].t() * (self.c / math.sqrt(2.0 * ell + 1.0))
            d = d + (h[:, begin:end] * torch.matmul(product[:, begin:end], back)).sum(1)
        return d

    def _embed(self, x: Tensor, h: Tensor, species: Tensor) -> Tensor:
        blocks: list[Tensor] = []
        for ell in range(2):
            begin, end = ell * ell, (ell + 1) * (ell + 1)
            block = torch.matmul(x[:, :, begin:end].transpose(1, 2), self.embedding[ell][species])
            if self.biased:
                block = block + torch.matmul(h[:, begin:end], self.feature_weight[ell] * self.c)
            blocks.append(block)
        return torch.cat(blocks, dim=1)
