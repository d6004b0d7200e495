"""Neighbours of owned atoms as the convolution reads them."""

from typing import NamedTuple

import torch
from torch import Tensor

from .spherical_harmonics import spherical_harmonics


class Neighbours(NamedTuple):
    """Edges sorted by receiver."""

    sender: Tensor  #: (n_edges,) int64 row of the neighbour's features
    first: Tensor  #: (n + 1,) int64 first edge of each receiver, and the number of edges
    harmonics: Tensor  #: (n_edges, (max_ell+1)²)
    radial: Tensor  #: (n_edges, n_basis) radial basis


class Edges(NamedTuple):
    """Edges as vectors, for what acts between two atoms."""

    ends: Tensor  #: (2, n_edges) int64; row 0 receivers (owned, sorted), row 1 senders
    vectors: Tensor  #: (n_edges, 3) r_ij, Å
    distributed: bool  #: senders may be ghosts of other ranks' atoms


def first_edges(receiver: Tensor, n: int) -> Tensor:
    """`Neighbours.first` of sorted receivers ``(n_edges,)`` among ``n`` atoms."""
    first = torch.zeros([n + 1], dtype=torch.int64, device=receiver.device)
    first[1:] = torch.cumsum(torch.bincount(receiver, minlength=n), 0)
    return first


def sorted_neighbours(edge_index: Tensor, directions: Tensor, radial: Tensor, max_ell: int, n_owned: int) -> Neighbours:
    """From edges sorted by receiver; ``directions`` ``(n_edges, 3)`` are r_ij / |r_ij|."""
    return Neighbours(
        edge_index[1], first_edges(edge_index[0], n_owned), spherical_harmonics(directions, max_ell), radial
    )


def no_neighbours(like: Tensor, n: int) -> Neighbours:
    """Tables without edges, for ``n`` atoms and of the kind of ``like``."""
    nothing = torch.zeros([0, 1], dtype=like.dtype, device=like.device)
    index = torch.zeros([n + 1], dtype=torch.int64, device=like.device)
    return Neighbours(index[:0], index, nothing, nothing)
