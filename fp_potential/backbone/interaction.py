"""The message: equivariant convolution of neighbours' features, without ever storing a product per edge and component.

For receiver i and coupling path (l1, l2, l3)

    A_i^{l3 m3} = 1/N_avg sum_{m1 m2} C^{l1 l2 l3}_{m1 m2 m3} [ sum_j Y_{l2 m2}(r_ij) R_path(r_ij) h_j^{l1 m1} ].

The bracket is `convolution.convolve`; the coupling C (`coupling.clebsch_gordan`) is applied once per atom afterwards.

Source: Batatia et al., NeurIPS 2022, arXiv:2206.07697, eq. 8, with the average number of neighbours N_avg.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..coupling import clebsch_gordan
from ..nets import MLP, EquivariantLinear
from .convolution import convolve
from .neighbours import Neighbours


class MessageShape(NamedTuple):
    """What all message passes of a model have in common."""

    n_elements: int
    channels: int
    max_ell: int  #: largest l of the messages and of the spherical harmonics on edges
    radial_sizes: list[int]  #: of the radial network: number of basis functions, then hidden layers
    avg_num_neighbors: float  #: N_avg


class Interaction(nn.Module):
    """Convolution of features with l <= ``l_in`` into messages with l <= max_ell, followed by a linear map."""

    coupling: Tensor

    def __init__(self, l_in: int, shape: MessageShape) -> None:
        super().__init__()
        max_ell, channels = shape.max_ell, shape.channels
        self.l_in, self.max_ell, self.channels = l_in, max_ell, channels
        self.inverse_neighbours = 1.0 / shape.avg_num_neighbors
        # (l1, l2) blocks in the order of the radial network's output; each holds the l3 it can reach
        self.blocks = [(l1, l2) for l2 in range(max_ell + 1) for l1 in range(l_in + 1)]
        targets = {
            (l1, l2): [l3 for l3 in range(abs(l1 - l2), min(l1 + l2, max_ell) + 1) if (l1 + l2 + l3) % 2 == 0]
            for l1, l2 in self.blocks
        }
        self.paths_per_block = [len(targets[b]) for b in self.blocks]
        n_paths = sum(self.paths_per_block)
        into = [sum(l3 in targets[b] for b in self.blocks) for l3 in range(max_ell + 1)]
        self.paths_into = into
        self.output_split = [(2 * l3 + 1) * into[l3] for l3 in range(max_ell + 1)]
        offsets = [0]
        for l3 in range(max_ell + 1):
            offsets.append(offsets[-1] + (2 * l3 + 1) * into[l3])
        width = sum((2 * l1 + 1) * (2 * l2 + 1) * len(targets[(l1, l2)]) for l1, l2 in self.blocks)
        coupling = torch.zeros(offsets[-1], width, dtype=torch.float64)
        used = [0] * (max_ell + 1)
        column = 0
        for l1, l2 in self.blocks:
            n3, d1, d2 = len(targets[(l1, l2)]), 2 * l1 + 1, 2 * l2 + 1
            for t, l3 in enumerate(targets[(l1, l2)]):
                cg = clebsch_gordan(l1, l2, l3)
                for m3 in range(2 * l3 + 1):
                    row = offsets[l3] + m3 * into[l3] + used[l3]
                    for m2 in range(d2):
                        for m1 in range(d1):
                            coupling[row, column + (m2 * n3 + t) * d1 + m1] = cg[m1, m2, m3]
                used[l3] += 1
            column += d2 * n3 * d1
        self.register_buffer("coupling", coupling, persistent=False)
        self.linear_up = EquivariantLinear(l_in, channels, channels)
        self.radial = MLP([*shape.radial_sizes, n_paths * channels])
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(n * channels, channels)) for n in into])
        self.scales = [1.0 / math.sqrt(n * channels) for n in into]

    def forward(self, h: Tensor, species: Tensor, neighbours: Neighbours) -> Tensor:
        """Features of all atoms ``(n_total, (l_in+1)², C)`` -> messages of owned ones ``(n, (max_ell+1)², C)``."""
        return self.message(self.linear_up(h, species), neighbours, self.radial.hidden(neighbours.radial))

    def message(self, sent: Tensor, neighbours: Neighbours, radial: Tensor) -> Tensor:
        """`forward` from ``linear_up`` of the features and the radial network's last hidden layer per edge."""
        sums = convolve(
            radial,
            self.radial.last_weight(),
            neighbours.harmonics,
            sent,
            neighbours.sender,
            neighbours.first,
            self.paths_per_block,
        )
        n, c = sums.shape[0], self.channels
        coupled = torch.matmul(self.coupling.to(sums.dtype), sums)
        rows = coupled.split(self.output_split, dim=1)
        outputs: list[Tensor] = []
        for ell, weight in enumerate(self.weights):
            block = rows[ell].reshape(n, 2 * ell + 1, self.paths_into[ell] * c)
            outputs.append(torch.matmul(block, weight * (self.scales[ell] * self.inverse_neighbours)))
        return torch.cat(outputs, dim=1)
