"""MACE-family backbone: geometry -> equivariant features of every layer.

Layer t: message (interaction), product basis, self-connection; every layer, the last included, puts out the full hidden
features.  Ghost atoms are refreshed before each layer, so the halo is one cutoff wide for any number of layers.
"""

import math

import torch
from torch import Tensor, nn

from ..communication import ghost_gather
from ..graph import Graph
from ..nets import EquivariantLinear
from .contraction import ProductBasis
from .interaction import Interaction
from .neighbours import Neighbours, padded_neighbours
from .radial import BesselBasis


class Layer(nn.Module):
    """One message-passing layer of `Backbone`."""

    def __init__(
        self,
        l_in: int,
        l_out: int,
        max_ell: int,
        channels: int,
        correlation: int,
        radial_sizes: list[int],
        avg_num_neighbors: float,
        n_elements: int,
        residual: bool,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.l_in, self.l_out = l_in, l_out
        self.interaction = Interaction(l_in, max_ell, channels, radial_sizes, avg_num_neighbors)
        self.product = ProductBasis(max_ell, l_out, channels, correlation, n_elements)
        skip_l = min(l_in, l_out) if residual else max_ell
        self.skip = EquivariantLinear(skip_l, channels, channels, n_elements)

    def forward(self, h: Tensor, n_owned: int, species: Tensor, neighbours: Neighbours) -> Tensor:
        """Features of all atoms ``(n_total, (l_in+1)², C)`` -> of owned ones ``(n, (l_out+1)², C)``."""
        own = species[:n_owned]
        messages = self.interaction(h, species, neighbours)
        if not self.residual:
            return self.product(self.skip(messages, own), own)
        out = self.product(messages, own)
        size = (self.skip.l_max + 1) * (self.skip.l_max + 1)
        connection = self.skip(h[:n_owned, :size], own)
        if connection.shape[1] < out.shape[1]:
            return torch.cat([out[:, :size] + connection, out[:, size:]], dim=1)
        return out + connection


class Backbone(nn.Module):
    """Species embedding, radial basis, spherical harmonics and a stack of layers."""

    def __init__(
        self,
        n_elements: int,
        r_max: float,
        num_radial_basis: int,
        num_cutoff_basis: int,
        max_ell: int,
        max_L: int,
        channels: int,
        correlation: int,
        num_interactions: int,
        radial_MLP: list[int],
        first_residual: bool,
        residual: bool,
        avg_num_neighbors: float,
    ) -> None:
        super().__init__()
        self.max_ell, self.channels, self.max_L = max_ell, channels, max_L
        self.embedding = nn.Parameter(torch.randn(n_elements, channels))
        self.embedding_scale = 1.0 / math.sqrt(n_elements)
        self.basis = BesselBasis(r_max, num_radial_basis, num_cutoff_basis)
        self.layers = nn.ModuleList(
            Layer(
                0 if t == 0 else max_L,
                max_L,
                max_ell,
                channels,
                correlation,
                [num_radial_basis, *radial_MLP],
                avg_num_neighbors,
                n_elements,
                first_residual if t == 0 else residual,
            )
            for t in range(num_interactions)
        )

    def forward(self, graph: Graph, vectors: Tensor) -> tuple[list[Tensor], Neighbours]:
        """Edge vectors r_ij ``(n_edges, 3)`` in Å -> features ``(n_owned, (max_L+1)², C)`` of each layer, tables."""
        n_owned = graph.batch.shape[0]
        n_total = graph.positions.shape[0]
        distance = vectors.norm(p=2, dim=1)
        neighbours = padded_neighbours(
            graph.edge_index, vectors / distance.unsqueeze(1), self.basis(distance), self.max_ell, n_owned
        )
        h = (self.embedding * self.embedding_scale)[graph.species].unsqueeze(1)
        features: list[Tensor] = []
        for t, layer in enumerate(self.layers):
            if graph.distributed and t > 0:
                flat = ghost_gather(h.reshape(n_owned, h.shape[1] * self.channels), n_total)
                h = flat.reshape(n_total, h.shape[1], self.channels)
            h = layer(h, n_owned, graph.species, neighbours)
            features.append(h)
        return features, neighbours
