"""Blocks of receivers: what an evaluation of the backbone that holds one block at a time needs."""

from typing import List, NamedTuple, Optional

import torch
from torch import Tensor

from .neighbours import first_edges

#: edges in a block: small enough for the caches of a processor, large enough to keep a GPU busy
CPU_EDGES, CUDA_EDGES = 8192, 1 << 18


class Blocks(NamedTuple):
    """Consecutive owned atoms with their edges, and the rows that their neighbours take among all atoms.

    Block k has the atoms atoms[k] … atoms[k+1]-1, and likewise edges and rows.  What is kept of all blocks lies in one
    array each: many small ones that live long leave holes, in which later allocations search.
    """

    atoms: list[int]
    edges: list[int]
    rows: list[int]
    first: Tensor  #: (n_owned + 1,) as in `Neighbours`, counting all edges
    neighbours: Tensor  #: for every block, the atoms that are neighbours in it, sorted
    places: Tensor  #: (n_edges,) index into the neighbours of the edge's block


class BlockedPass(NamedTuple):
    """A forward pass without gradients, and what its derivatives are made from."""

    features: list[Tensor]  #: (n_owned, (max_L+1)², C) of each layer
    inputs: list[Tensor]  #: features of all atoms that each layer reads
    harmonics: Tensor  #: as in `Neighbours`
    radial: Tensor
    blocks: Blocks


def receiver_blocks(edge_index: Tensor, n_owned: int, n_edges: int) -> Blocks:
    """Blocks of about ``n_edges`` edges of ``n_owned`` atoms, from edges sorted by receiver."""
    first = first_edges(edge_index[0], n_owned)
    size = max(1, n_edges * n_owned // max(1, edge_index.shape[1]))
    atoms, edges, rows = [0], [0], [0]
    neighbours: list[Tensor] = [edge_index[1, :0]]
    places = torch.empty_like(edge_index[1])
    while atoms[len(atoms) - 1] < n_owned:
        hi = min(n_owned, atoms[len(atoms) - 1] + size)
        begin, end = edges[len(edges) - 1], int(first[hi].item())
        own, place = torch.unique(edge_index[1, begin:end], return_inverse=True)
        atoms.append(hi)
        edges.append(end)
        rows.append(rows[len(rows) - 1] + own.shape[0])
        neighbours.append(own)
        places[begin:end] = place
    return Blocks(atoms, edges, rows, first, torch.cat(neighbours), places)


def first_of(blocks: Blocks, k: int) -> Tensor:
    """`Neighbours.first` of block ``k``."""
    return blocks.first[blocks.atoms[k] : blocks.atoms[k + 1] + 1] - blocks.edges[k]


def no_pass() -> BlockedPass:
    """A pass of no layers."""
    nothing, index = torch.zeros([0, 1]), torch.zeros([0], dtype=torch.int64)
    tensors: list[Tensor] = []
    return BlockedPass(tensors, tensors, nothing, nothing, Blocks([0], [0], [0], index, index, index))


def pulled_back(outputs: list[Tensor], inputs: list[Tensor], gradients: list[Tensor]) -> list[Tensor]:
    """sum_k gradients_k · d outputs_k / d inputs, one array for each input; zeros where nothing depends on it."""
    weights: List[Optional[Tensor]] = []
    for gradient in gradients:
        weights.append(gradient)
    parts: list[Tensor] = []
    for part, leaf in zip(torch.autograd.grad(outputs, inputs, weights, allow_unused=True), inputs):
        parts.append(torch.zeros_like(leaf) if part is None else part)
    return parts
