"""The discrete Fourier transform of a mesh that is spread over ranks, and back.

The mesh of N1 x N2 x N3 points is divided into pencils among P1 x P2 ranks (slabs where P2 = 1): first along axis 3,
then 2, then 1.  Between the transforms of one axis, which torch makes locally, `redistribute`
turns the pencils.  One process holds everything and transforms at once.
"""

import math
from typing import List, NamedTuple

import torch
from torch import Tensor

from ..communication import redistribute

#: points of the busiest rank over the average that is good enough: fewer turns matter more
BALANCED = 1.25


class Layout(NamedTuple):
    """Who holds which part; boxes ``(P, 6)`` int64 are [begin, end) along the three axes for every rank."""

    shape: List[int]  #: points of the mesh
    bricks: Tensor  #: parts that hold the stencils of the atoms of every rank, unwrapped
    along3: Tensor  #: pencils of real points along axis 3 ...
    along3_spectrum: Tensor  #: ... and of their transform, of N3/2 + 1 waves
    along2: Tensor
    along1: Tensor  #: where the spectrum is filtered
    rank: int  #: -1: a single process, without pencils


def single_process(shape: List[int], device: torch.device) -> Layout:
    """All of the mesh in this process."""
    nothing = torch.zeros([0, 6], dtype=torch.int64, device=device)
    return Layout(shape, nothing, nothing, nothing, nothing, nothing, -1)


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


def pencils(shape: List[int], bricks: Tensor, rank: int, balanced: float = BALANCED) -> Layout:
    """The layout of a mesh among as many ranks as there are ``bricks`` ``(P, 6)``: slabs if they divide it evenly.

    Ranks beyond the number of pencils hold no waves.
    """
    ranks = bricks.shape[0]
    half = shape[2] // 2 + 1
    most1, most2 = min(shape[0], shape[1]), min(shape[1], half)
    best1, best2, lowest = 1, 1, float("inf")
    for parts2 in range(1, min(ranks, most2) + 1):
        parts1 = min(ranks // parts2, most1)
        axis1 = max(_excess(shape[0], parts1), _excess(shape[1], parts1))
        axis2 = max(_excess(shape[1], parts2), _excess(half, parts2))
        load = axis1 * axis2 * float(ranks) / float(parts1 * parts2)
        if load < lowest:
            best1, best2, lowest = parts1, parts2, load
        if load <= balanced:
            break
    return divided(shape, bricks, rank, best1, best2)


def divided(shape: List[int], bricks: Tensor, rank: int, parts1: int, parts2: int) -> Layout:
    """The layout with ``parts1`` x ``parts2`` pencils; slabs with ``parts2`` = 1."""
    ranks, half = bricks.shape[0], [shape[0], shape[1], shape[2] // 2 + 1]
    return Layout(
        shape,
        bricks,
        _boxes(parts1, parts2, ranks, shape, 0, 1),
        _boxes(parts1, parts2, ranks, half, 0, 1),
        _boxes(parts1, parts2, ranks, half, 0, 2),
        _boxes(parts1, parts2, ranks, half, 1, 2),
        rank,
    )


def spectrum_box(layout: Layout) -> List[int]:
    """[begin, end) along the three axes of the waves that this process filters."""
    if layout.rank < 0:
        return [0, layout.shape[0], 0, layout.shape[1], 0, layout.shape[2] // 2 + 1]
    box: List[int] = layout.along1[layout.rank].tolist()
    return box


def _padded(x: Tensor) -> Tensor:
    """``x`` with at least one row along every axis: FFT libraries refuse empty arrays."""
    pad = [0, 0, 0, 0, 0, 0]
    for axis in range(3):
        if x.shape[axis + 1] == 0:
            pad[2 * (2 - axis) + 1] = 1
    return torch.nn.functional.pad(x, pad)


def _fft(x: Tensor, axis: int, back: bool) -> Tensor:
    y = _padded(x)
    y = torch.fft.ifft(y, dim=axis, norm="forward") if back else torch.fft.fft(y, dim=axis)
    return y[:, : x.shape[1], : x.shape[2], : x.shape[3]]


def transform(grids: Tensor, layout: Layout) -> Tensor:
    """Bricks ``(c, …)`` of real grids, summed, to this process's part of sum_m grid[m] exp(-2 pi i k·m / N)."""
    if layout.rank < 0:
        return torch.fft.rfftn(grids, dim=[1, 2, 3])
    half = [layout.shape[0], layout.shape[1], layout.shape[2] // 2 + 1]
    x = redistribute(grids, layout.bricks, layout.along3, layout.shape)
    y = torch.fft.rfft(_padded(x), n=layout.shape[2], dim=3)[:, : x.shape[1], : x.shape[2]]
    if x.shape[1] == 0 or x.shape[2] == 0:
        y = y[:, :, :, :0]
    y = _fft(redistribute(y, layout.along3_spectrum, layout.along2, half), 2, False)
    return _fft(redistribute(y, layout.along2, layout.along1, half), 1, False)


def transform_back(spectrum: Tensor, layout: Layout) -> Tensor:
    """sum_k spectrum[k] exp(2 pi i k·m / N) at the points of this process's brick."""
    if layout.rank < 0:
        return torch.fft.irfftn(spectrum, s=layout.shape, dim=[1, 2, 3], norm="forward")
    half = [layout.shape[0], layout.shape[1], layout.shape[2] // 2 + 1]
    y = redistribute(_fft(spectrum, 1, True), layout.along1, layout.along2, half)
    y = redistribute(_fft(y, 2, True), layout.along2, layout.along3_spectrum, half)
    x = torch.fft.irfft(_padded(y), n=layout.shape[2], dim=3, norm="forward")[:, : y.shape[1], : y.shape[2]]
    if y.shape[1] == 0 or y.shape[2] == 0:
        x = x[:, :, :, :0]
    return redistribute(x, layout.along3, layout.bricks, layout.shape)
