"""What goes into which batch: a function of the sizes of the structures, the options and (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

#: batches per window of ``group_by_size``
WINDOW = 16


def plan(
    atoms: Sequence[int],
    size: int,
    seed: int | None = None,
    max_atoms: int | None = None,
    neighbours: Sequence[int] | None = None,
) -> list[list[int]]:
    """The places of the structures of each batch.

    Args:
        atoms: number of atoms of each structure.
        size: structures per batch, unless ``max_atoms`` is given.
        seed: of a random order; None: as they are.
        max_atoms: batches are filled, in that order, up to this number of atoms; a structure with more is alone.
        neighbours: length of the longest neighbour list of each structure. With it (and a seed) structures with similar
            ones share a batch: they are sorted within random windows of ``WINDOW`` batches, then the batches are
            shuffled.
    """
    order = list(range(len(atoms)))
    if seed is None:
        return list(_cut(order, atoms, size, max_atoms))
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(atoms), generator=generator).tolist()
    if neighbours is None:
        return list(_cut(order, atoms, size, max_atoms))
    per_batch = size if max_atoms is None else max(1, max_atoms * len(atoms) // max(1, sum(atoms)))
    window = WINDOW * per_batch
    order = [
        index
        for begin in range(0, len(order), window)
        for index in sorted(order[begin : begin + window], key=neighbours.__getitem__)
    ]
    chunks = list(_cut(order, atoms, size, max_atoms))
    return [chunks[place] for place in torch.randperm(len(chunks), generator=generator).tolist()]


def deal(indices: Sequence[int], costs: Sequence[int], parts: int) -> list[list[int]]:
    """``indices`` dealt out to at most ``parts`` lists: the dearest first, each to the list with the least to do.

    Args:
        indices: what is dealt out.
        costs: of every index, in any unit.
        parts: largest number of lists; none is empty.
    """
    chunks: list[list[int]] = [[] for _ in range(min(parts, len(indices)))]
    totals = [0] * len(chunks)
    for place in sorted(range(len(indices)), key=costs.__getitem__, reverse=True):
        # a part without a structure comes first: structures may cost nothing
        chosen = min(range(len(chunks)), key=lambda k: (len(chunks[k]) > 0, totals[k]))
        chunks[chosen].append(indices[place])
        totals[chosen] += costs[place]
    return chunks


def _cut(order: Sequence[int], atoms: Sequence[int], size: int, max_atoms: int | None) -> Iterator[list[int]]:
    if max_atoms is None:
        yield from (list(order[begin : begin + size]) for begin in range(0, len(order), size))
        return
    chunk: list[int] = []
    filled = 0
    for index in order:
        if chunk and filled + atoms[index] > max_atoms:
            yield chunk
            chunk, filled = [], 0
        chunk.append(index)
        filled += atoms[index]
    if chunk:
        yield chunk
