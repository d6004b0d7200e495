"""MACE-family backbone: geometry -> equivariant features of every layer.

Layer t makes h^{t+1} from h^t, Z_i the element of atom i:

    A_i = interaction of h^t_j over the neighbours j,   h^{t+1}_i = product basis of A_i + W_{Z_i} h^t_i   (residual)
                                                     or h^{t+1}_i = product basis of W_{Z_i} A_i           (not).

Every layer, the last included, puts out the full hidden features.  Ghost atoms are refreshed before each layer, so the
halo is one cutoff wide for any number of layers.

Source: Batatia et al., NeurIPS 2022, arXiv:2206.07697; both kinds of layers as in mace-torch, whose weights can be read
(`train.potential.initialise.mace_weights`).
"""

import math

import torch
from torch import Tensor, nn

from ..communication import ghost_gather, ghost_reduce
from ..graph import Graph
from ..nets import EquivariantLinear
from ..options import ModelOptions
from .blocks import CPU_EDGES, CUDA_EDGES, BlockedPass, first_of, pulled_back, receiver_blocks
from .contraction import ProductBasis
from .interaction import Interaction, MessageShape
from .neighbours import Neighbours, first_edges
from .radial import BesselBasis
from .spherical_harmonics import spherical_harmonics


class Layer(nn.Module):
    """One message-passing layer of `Backbone`: features with l <= ``l_in`` -> l <= ``l_out``."""

    def __init__(self, l_in: int, l_out: int, shape: MessageShape, correlation: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.l_in, self.l_out = l_in, l_out
        channels, n_elements = shape.channels, shape.n_elements
        self.interaction = Interaction(l_in, shape)
        self.product = ProductBasis(shape.max_ell, l_out, channels, correlation, n_elements)
        skip_l = min(l_in, l_out) if residual else shape.max_ell
        self.skip = EquivariantLinear(skip_l, channels, channels, n_elements)

    def sent(self, h: Tensor, species: Tensor) -> Tensor:
        """What every atom sends to its neighbours ``(n_total, (l_in+1)², C)``."""
        return self.interaction.linear_up(h, species)

    def forward(self, sent: Tensor, h: Tensor, own: Tensor, neighbours: Neighbours) -> Tensor:
        """New features ``(n, (l_out+1)², C)`` of the atoms with features ``h`` ``(n, (l_in+1)², C)``, species ``own``.

        ``neighbours.sender`` counts the rows of ``sent``.
        """
        messages = self.interaction.message(sent, neighbours, self.interaction.radial.hidden(neighbours.radial))
        if not self.residual:
            return self.product(self.skip(messages, own), own)
        out = self.product(messages, own)
        size = (self.skip.l_max + 1) * (self.skip.l_max + 1)
        connection = self.skip(h[:, :size], own)
        if connection.shape[1] < out.shape[1]:
            return torch.cat([out[:, :size] + connection, out[:, size:]], dim=1)
        return out + connection


class Backbone(nn.Module):
    """Species embedding, radial basis, spherical harmonics and a stack of layers.

    Of ``options`` those from ``r_max`` to ``interaction_first`` count; ``shape`` holds what follows from them and the
    training set.
    """

    def __init__(self, options: ModelOptions, shape: MessageShape) -> None:
        super().__init__()
        o, max_L = options, options.max_L
        self.max_ell, self.channels, self.max_L = shape.max_ell, shape.channels, max_L
        self.size = (max_L + 1) * (max_L + 1)
        self.cpu_edges, self.cuda_edges = CPU_EDGES, CUDA_EDGES
        self.embedding = nn.Parameter(torch.randn(shape.n_elements, shape.channels))
        self.embedding_scale = 1.0 / math.sqrt(shape.n_elements)
        self.basis = BesselBasis(o.r_max, o.num_radial_basis, o.num_cutoff_basis)
        kinds = [o.interaction_first] + [o.interaction] * (o.num_interactions - 1)
        self.layers = nn.ModuleList(
            Layer(0 if t == 0 else max_L, max_L, shape, o.correlation, "Residual" in kind)
            for t, kind in enumerate(kinds)
        )

    def tables(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Spherical harmonics ``(n_edges, (max_ell+1)²)`` and radial basis ``(n_edges, n_basis)`` of edge vectors."""
        distance = vectors.norm(p=2, dim=1)
        return spherical_harmonics(vectors / distance.unsqueeze(1), self.max_ell), self.basis(distance)

    def neighbours(self, graph: Graph, vectors: Tensor) -> Neighbours:
        """All edges, from vectors r_ij ``(n_edges, 3)`` in Å."""
        harmonics, radial = self.tables(vectors)
        first = first_edges(graph.edge_index[0], graph.batch.shape[0])
        return Neighbours(graph.edge_index[1], first, harmonics, radial)

    def embedded(self, species: Tensor) -> Tensor:
        """Input of the first layer ``(n_total, 1, C)``."""
        return (self.embedding * self.embedding_scale)[species].unsqueeze(1)

    def everywhere(self, h: Tensor, graph: Graph) -> Tensor:
        """Features of owned atoms -> of owned atoms and ghosts."""
        if not graph.distributed:
            return h
        n_total = graph.positions.shape[0]
        flat = ghost_gather(h.reshape(h.shape[0], h.shape[1] * self.channels), n_total)
        return flat.reshape(n_total, h.shape[1], self.channels)

    def forward(self, graph: Graph, neighbours: Neighbours) -> list[Tensor]:
        """Features ``(n_owned, (max_L+1)², C)`` of each layer, differentiable to any order."""
        n_owned = graph.batch.shape[0]
        h = self.embedded(graph.species)
        features: list[Tensor] = []
        for t, layer in enumerate(self.layers):
            if t > 0:
                h = self.everywhere(h, graph)
            h = layer(layer.sent(h, graph.species), h[:n_owned], graph.species[:n_owned], neighbours)  # type: ignore[operator]
            features.append(h)
        return features

    def blocked(self, graph: Graph, vectors: Tensor) -> BlockedPass:
        """The features of `forward` without gradients, made block by block; their derivatives are `pull_back`."""
        with torch.no_grad():
            n_owned = graph.batch.shape[0]
            blocks = receiver_blocks(graph.edge_index, n_owned, self.cuda_edges if vectors.is_cuda else self.cpu_edges)
            n_edges, n_blocks = vectors.shape[0], len(blocks.atoms) - 1
            n_harmonics, n_radial = (self.max_ell + 1) * (self.max_ell + 1), self.basis.frequencies.shape[0]
            harmonics = torch.empty([n_edges, n_harmonics], dtype=vectors.dtype, device=vectors.device)
            radial = torch.empty([n_edges, n_radial], dtype=vectors.dtype, device=vectors.device)
            for k in range(n_blocks):
                begin, end = blocks.edges[k], blocks.edges[k + 1]
                y, r = self.tables(vectors[begin:end])
                harmonics[begin:end] = y
                radial[begin:end] = r
            h = self.embedded(graph.species)
            inputs: list[Tensor] = []
            features: list[Tensor] = []
            for t, layer in enumerate(self.layers):
                if t > 0:
                    h = self.everywhere(h, graph)
                inputs.append(h)
                sent = layer.sent(h, graph.species)  # type: ignore[operator]
                new = torch.empty([n_owned, self.size, self.channels], dtype=h.dtype, device=h.device)
                for k in range(n_blocks):
                    lo, hi, begin, end = blocks.atoms[k], blocks.atoms[k + 1], blocks.edges[k], blocks.edges[k + 1]
                    neighbours = Neighbours(
                        blocks.places[begin:end], first_of(blocks, k), harmonics[begin:end], radial[begin:end]
                    )
                    received = sent.index_select(0, blocks.neighbours[blocks.rows[k] : blocks.rows[k + 1]])
                    new[lo:hi] = layer(received, h[lo:hi], graph.species[lo:hi], neighbours)
                h = new
                features.append(h)
        return BlockedPass(features, inputs, harmonics, radial, blocks)

    def pull_back(self, graph: Graph, vectors: Tensor, made: BlockedPass, gradients: list[Tensor]) -> Tensor:
        """Derivative by the edge vectors ``(n_edges, 3)`` of what has ``gradients`` by the features of each layer.

        Every block is evaluated again, so that only one at a time is held.  Collective: ghosts are added to their
        owners between layers.
        """
        species, blocks, n_owned = graph.species, made.blocks, graph.batch.shape[0]
        n_blocks = len(blocks.atoms) - 1
        by_harmonics, by_radial = torch.zeros_like(made.harmonics), torch.zeros_like(made.radial)
        t = len(gradients) - 1
        by_features = gradients[t]
        for layer in self.layers[::-1]:
            # nothing varies in the input of the first layer
            varies = t > 0
            h = made.inputs[t].detach().requires_grad_(varies)
            sent = layer.sent(h, species)  # type: ignore[operator]
            by_sent, by_own = torch.zeros_like(sent), torch.zeros_like(h[:n_owned])
            for k in range(n_blocks):
                lo, hi, begin, end = blocks.atoms[k], blocks.atoms[k + 1], blocks.edges[k], blocks.edges[k + 1]
                rows = blocks.neighbours[blocks.rows[k] : blocks.rows[k + 1]]
                harmonics = made.harmonics[begin:end].detach().requires_grad_(True)
                radial = made.radial[begin:end].detach().requires_grad_(True)
                received = sent.detach().index_select(0, rows).requires_grad_(varies)
                own = h.detach()[lo:hi].requires_grad_(varies)
                neighbours = Neighbours(blocks.places[begin:end], first_of(blocks, k), harmonics, radial)
                # by name: TorchScript cannot call what a slice of modules holds
                new = layer.forward(received, own, species[lo:hi], neighbours)
                inputs = [harmonics, radial, received, own] if varies else [harmonics, radial]
                parts = pulled_back([new], inputs, [by_features[lo:hi]])
                by_harmonics[begin:end] += parts[0]
                by_radial[begin:end] += parts[1]
                if varies:
                    by_sent.index_add_(0, rows, parts[2])
                    by_own[lo:hi] += parts[3]
            if varies:
                by_input = pulled_back([sent], [h], [by_sent])[0]
                if graph.distributed:
                    flat = by_input.reshape(by_input.shape[0], by_input.shape[1] * self.channels)
                    by_input = ghost_reduce(flat, n_owned).reshape(n_owned, by_input.shape[1], self.channels)
                by_features = gradients[t - 1] + by_own + by_input
            t -= 1
        by_vectors = torch.empty_like(vectors)
        for k in range(n_blocks):
            begin, end = blocks.edges[k], blocks.edges[k + 1]
            edges = vectors[begin:end].detach().requires_grad_(True)
            y, r = self.tables(edges)
            by_vectors[begin:end] = pulled_back([y, r], [edges], [by_harmonics[begin:end], by_radial[begin:end]])[0]
        return by_vectors
