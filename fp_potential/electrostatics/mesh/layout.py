"""Which rank holds which part of a mesh and of its transform, and which waves are kept.

Over P ranks a mesh is divided three times: into the bricks that hold the stencils of each rank's atoms, which overlap;
into pencils P1 x P2 of points, whole along the axis that is transformed next; and into the waves that are left of them.
`convolution` moves between these; here is where each of them begins and ends.
"""

import math
from typing import List, NamedTuple

import torch
from torch import Tensor

#: points of the busiest rank over the average that is good enough: fewer turns matter more
BALANCED = 1.25


class Layout(NamedTuple):
    """Who holds which part; boxes ``(P, 6)`` int64 are [begin, end) along the three axes for every rank."""

    shape: List[int]  #: points of the mesh
    waves: List[int]  #: kept along each axis
    bricks: Tensor  #: parts that hold the stencils of the atoms of every rank, unwrapped
    along3: Tensor  #: pencils of real points along axis 3 ...
    along3_waves: Tensor  #: ... and of their transform
    along2: Tensor  #: pencils of axis 2, before its transform ...
    along2_waves: Tensor  #: ... and after it
    along1: Tensor  #: likewise of axis 1
    along1_waves: Tensor  #: where the spectrum is filtered
    rank: int  #: -1: a single process, without pencils


def all_waves(shape: List[int]) -> List[int]:
    """All waves of a real mesh: N1, N2 and N3 / 2 + 1."""
    return [shape[0], shape[1], shape[2] // 2 + 1]


def waves_up_to(shape: List[int], most: List[int]) -> List[int]:
    """The waves kept along each axis where filters are zero above the wave numbers ``most``."""
    return [
        min(shape[0], 2 * most[0] + 1),
        min(shape[1], 2 * most[1] + 1),
        min(shape[2] // 2 + 1, most[2] + 1),
    ]


def wave_numbers(waves: int, begin: int, end: int) -> Tensor:
    """Signed numbers of the waves ``begin`` … ``end - 1`` of those kept of axis 1 or 2 ``(end - begin,)`` int64."""
    index = torch.arange(begin, end)
    return torch.where(2 * index > waves, index - waves, index)


def single_process(shape: List[int], waves: List[int], device: torch.device) -> Layout:
    """All of the mesh in this process."""
    nothing = torch.zeros([0, 6], dtype=torch.int64, device=device)
    return Layout(shape, waves, nothing, nothing, nothing, nothing, nothing, nothing, nothing, -1)


def _boxes(parts1: int, parts2: int, ranks: int, sizes: List[int], axis1: int, axis2: int) -> Tensor:
    """Boxes that divide ``axis1`` in ``parts1`` and ``axis2`` in ``parts2``; ranks that are left over have nothing."""
    rows: List[List[int]] = []
    for rank in range(ranks):
        box = [0, sizes[0], 0, sizes[1], 0, sizes[2]]
        i, j = rank // parts2, rank % parts2
        if i < parts1:
            box[2 * axis1], box[2 * axis1 + 1] = sizes[axis1] * i // parts1, sizes[axis1] * (i + 1) // parts1
            box[2 * axis2], box[2 * axis2 + 1] = sizes[axis2] * j // parts2, sizes[axis2] * (j + 1) // parts2
        else:
            box = [0, 0, 0, 0, 0, 0]
        rows.append(box)
    return torch.tensor(rows, dtype=torch.int64)


def _excess(n: int, parts: int) -> float:
    """The largest of ``parts`` parts of ``n`` planes over the average."""
    return float(math.ceil(n / parts) * parts) / float(n)


def pencils(shape: List[int], waves: List[int], bricks: Tensor, rank: int, balanced: float = BALANCED) -> Layout:
    """The layout of a mesh among as many ranks as there are ``bricks`` ``(P, 6)``: slabs if they divide it evenly.

    Ranks beyond the number of pencils hold no waves.
    """
    ranks = bricks.shape[0]
    most1, most2 = min(shape[0], waves[1]), min(shape[1], waves[2])
    best1, best2, lowest = 1, 1, float("inf")
    for parts2 in range(1, min(ranks, most2) + 1):
        parts1 = min(ranks // parts2, most1)
        axis1 = max(_excess(shape[0], parts1), _excess(waves[1], parts1))
        axis2 = max(_excess(shape[1], parts2), _excess(waves[2], parts2))
        load = axis1 * axis2 * float(ranks) / float(parts1 * parts2)
        if load < lowest:
            best1, best2, lowest = parts1, parts2, load
        if load <= balanced:
            break
    return divided(shape, waves, bricks, rank, best1, best2)


def divided(shape: List[int], waves: List[int], bricks: Tensor, rank: int, parts1: int, parts2: int) -> Layout:
    """The layout with ``parts1`` x ``parts2`` pencils; slabs with ``parts2`` = 1."""
    ranks = bricks.shape[0]
    after3, after2 = [shape[0], shape[1], waves[2]], [shape[0], waves[1], waves[2]]
    return Layout(
        shape,
        waves,
        bricks,
        _boxes(parts1, parts2, ranks, shape, 0, 1),
        _boxes(parts1, parts2, ranks, after3, 0, 1),
        _boxes(parts1, parts2, ranks, after3, 0, 2),
        _boxes(parts1, parts2, ranks, after2, 0, 2),
        _boxes(parts1, parts2, ranks, after2, 1, 2),
        _boxes(parts1, parts2, ranks, waves, 1, 2),
        rank,
    )


def spectrum_box(layout: Layout) -> List[int]:
    """[begin, end) along the three axes of the waves that this process filters, among those that are kept."""
    if layout.rank < 0:
        return [0, layout.waves[0], 0, layout.waves[1], 0, layout.waves[2]]
    box: List[int] = layout.along1_waves[layout.rank].tolist()
    return box
