"""Neighbours of owned atoms laid out for the convolution."""

from typing import NamedTuple

import torch
from torch import Tensor

from .spherical_harmonics import spherical_harmonics


class Neighbours(NamedTuple):
    """Padded neighbour tables: rows are owned atoms, columns the places of their neighbours."""

    sender: Tensor  #: (n, width) int64 index of the neighbour (0 where the place is empty)
    slot: Tensor  #: (n_edges,) int64 place of each edge in the flattened table
    harmonics: Tensor  #: (n, (max_ell+1)², width), zero in empty places
    radial: Tensor  #: (n_edges, n_basis) radial basis of the edges


def padded_neighbours(edge_index: Tensor, directions: Tensor, radial: Tensor, max_ell: int, n_owned: int) -> Neighbours:
    """Tables from edges sorted by receiver; ``directions`` ``(n_edges, 3)`` are r_ij / |r_ij|."""
    receiver, sender = edge_index[0], edge_index[1]
    n_edges = receiver.shape[0]
    counts = torch.bincount(receiver, minlength=n_owned)
    width = 1
    if n_edges > 0:
        width = int(counts.max().item())
    first = torch.cumsum(counts, 0) - counts
    slot = receiver * width + torch.arange(n_edges, device=receiver.device) - first[receiver]
    table = torch.zeros([n_owned * width], dtype=torch.int64, device=receiver.device).index_copy(0, slot, sender)
    y = spherical_harmonics(directions, max_ell)
    flat = torch.zeros([n_owned * width, y.shape[1]], dtype=y.dtype, device=y.device).index_copy(0, slot, y)
    harmonics = flat.reshape(n_owned, width, y.shape[1]).transpose(1, 2)
    return Neighbours(table.reshape(n_owned, width), slot, harmonics, radial)
