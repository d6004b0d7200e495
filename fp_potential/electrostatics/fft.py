"""The discrete Fourier transform of a mesh that is spread over ranks, and back.

The mesh of N1 x N2 x N3 points is divided into pencils among P1 x P2 ranks (slabs where P2 = 1): first along axis 3,
then 2, then 1.  Between the transforms of one axis, which torch makes locally, `redistribute`
turns the pencils.  One process holds everything: there the compiled `mesh_convolve` does all at once, transforming
plane by plane and row by row with the filters in between, while they are in the cache.
"""

import math
from typing import List, NamedTuple

import torch
from torch import Tensor

from ..communication import load_operators, redistribute

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
    half = [layout.shape[0], layout.shape[1], layout.shape[2] // 2 + 1]
    x = redistribute(grids, layout.bricks, layout.along3, layout.shape)
    y = torch.fft.rfft(_padded(x), n=layout.shape[2], dim=3)[:, : x.shape[1], : x.shape[2]]
    if x.shape[1] == 0 or x.shape[2] == 0:
        y = y[:, :, :, :0]
    y = _fft(redistribute(y, layout.along3_spectrum, layout.along2, half), 2, False)
    return _fft(redistribute(y, layout.along2, layout.along1, half), 1, False)


def transform_back(spectrum: Tensor, layout: Layout) -> Tensor:
    """sum_k spectrum[k] exp(2 pi i k·m / N) at the points of this process's brick."""
    half = [layout.shape[0], layout.shape[1], layout.shape[2] // 2 + 1]
    y = redistribute(_fft(spectrum, 1, True), layout.along1, layout.along2, half)
    y = redistribute(_fft(y, 2, True), layout.along2, layout.along3_spectrum, half)
    x = torch.fft.irfft(_padded(y), n=layout.shape[2], dim=3, norm="forward")[:, : y.shape[1], : y.shape[2]]
    if y.shape[1] == 0 or y.shape[2] == 0:
        x = x[:, :, :, :0]
    return redistribute(x, layout.along3, layout.bricks, layout.shape)


def convolve(grid: Tensor, filters: Tensor, most: List[int], layout: Layout) -> Tensor:
    """The brick ``(1, …)`` of a grid, summed over ranks, with each of ``filters`` ``(c, …)``: bricks ``(c, …)``.

    Filters are real, given at the waves that this process filters (`spectrum_box`), and zero at wave numbers above
    ``most`` along any axis: what need not be computed.
    """
    if layout.rank < 0:
        return torch.ops.fixedpoint.mesh_convolve(grid, filters, most)
    return transform_back(transform(grid, layout) * filters, layout)


def convolve_transposed(grids: Tensor, filters: Tensor, most: List[int], layout: Layout) -> Tensor:
    """The adjoint of `convolve`: bricks ``(c, …)``, each with its own filter, summed to ``(1, …)``."""
    if layout.rank < 0:
        return torch.ops.fixedpoint.mesh_convolve_transposed(grids, filters, most)
    return transform_back((transform(grids, layout) * filters).sum(0, keepdim=True), layout)


def _define_in_python() -> None:
    """The operators of a single process in torch, for a package without compiled parts."""
    global _python_library
    library = torch.library.Library("fixedpoint", "FRAGMENT")
    axes = [1, 2, 3]

    def back(spectrum: Tensor, like: Tensor) -> Tensor:
        return torch.fft.irfftn(spectrum, s=like.shape[1:], dim=axes, norm="forward")

    def kept(filters: Tensor, shape: List[int], most: List[int]) -> Tensor:
        for axis in range(3):
            wave = torch.arange(filters.shape[axis + 1], device=filters.device)
            view = [1, 1, 1]
            view[axis] = -1
            filters = filters * (torch.minimum(wave, shape[axis] - wave) <= most[axis]).reshape(view)
        return filters

    def mesh_convolve(grid: Tensor, filters: Tensor, most: List[int]) -> Tensor:
        return back(torch.fft.rfftn(grid, dim=axes) * kept(filters, grid.shape[1:], most), grid)

    def mesh_convolve_transposed(grids: Tensor, filters: Tensor, most: List[int]) -> Tensor:
        spectra = torch.fft.rfftn(grids, dim=axes) * kept(filters, grids.shape[1:], most)
        return back(spectra.sum(0, keepdim=True), grids)

    for name, function in (
        ("mesh_convolve", mesh_convolve),
        ("mesh_convolve_transposed", mesh_convolve_transposed),
    ):
        library.define(f"{name}(Tensor x, Tensor filters, int[] most) -> Tensor")
        library.impl(name, function, "CompositeImplicitAutograd")
    _python_library = library


_python_library: torch.library.Library | None = None
load_operators()
if not torch._C._dispatch_has_kernel("fixedpoint::mesh_convolve"):
    _define_in_python()
