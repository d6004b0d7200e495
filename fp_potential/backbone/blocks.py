"""Blocks of receivers: what an evaluation of the backbone that holds one block at a time needs."""

from typing import List, NamedTuple, Optional

import torch
from torch import Tensor

from .neighbours import first_edges

#: edges in a block: small enough for the caches of a processor, large enough to keep a GPU busy
CPU_EDGES, CUDA_EDGES = 8192, 1 << 18


class Blocks(NamedTuple):
    """Consecutive owned atoms with their edges, and the rows that their neighbours take among all atoms."""

    atoms: list[int]  #: first atom of each block, and the number of atoms
    edges: list[int]  #: likewise of edges
    first: list[Tensor]  #: per block: `Neighbours.first`
    rows: list[Tensor]  #: per block: atoms that are neighbours in it, sorted
    places: list[Tensor]  #: per block: (edges,) index into these rows


class BlockedPass(NamedTuple):
    """A forward pass without gradients, and what its derivatives are made from."""

    features: list[Tensor]  #: (n_owned, (max_L+1)², C) of each layer
    inputs: list[Tensor]  #: features of all atoms that each layer reads
    harmonics: list[Tensor]  #: per block, as in `Neighbours`
    radial: list[Tensor]
    blocks: Blocks


def receiver_blocks(edge_index: Tensor, n_owned: int, n_edges: int) -> Blocks:
    """Blocks of about ``n_edges`` edges of ``n_owned`` atoms, from edges sorted by receiver."""
    offsets = first_edges(edge_index[0], n_owned)
    size = max(1, n_edges * n_owned // max(1, edge_index.shape[1]))
    atoms = [0]
    edges = [0]
    first: list[Tensor] = []
    rows: list[Tensor] = []
    places: list[Tensor] = []
    while atoms[len(atoms) - 1] < n_owned:
        lo = atoms[len(atoms) - 1]
        hi = min(n_owned, lo + size)
        begin, end = edges[len(edges) - 1], int(offsets[hi].item())
        row, place = torch.unique(edge_index[1, begin:end], return_inverse=True)
        atoms.append(hi)
        edges.append(end)
        first.append(offsets[lo : hi + 1] - begin)
        rows.append(row)
        places.append(place)
    return Blocks(atoms, edges, first, rows, places)


def no_pass() -> BlockedPass:
    """A pass of no layers."""
    tensors: list[Tensor] = []
    return BlockedPass(tensors, tensors, tensors, tensors, Blocks([0], [0], tensors, tensors, tensors))


def pulled_back(outputs: list[Tensor], inputs: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """sum_k gradients_k · d outputs_k / d inputs, one array for each input; zeros where nothing depends on it."""
    weights: List[Optional[Tensor]] = []
    for gradient in gradients:
        weights.append(gradient)
    parts: list[Tensor] = []
    for part, leaf in zip(torch.autograd.grad(outputs, inputs, weights, allow_unused=True), inputs):
        parts.append(torch.zeros_like(leaf) if part is None else part)
    return parts
