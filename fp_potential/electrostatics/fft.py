"""Convolution of a mesh with filters, by the discrete Fourier transform of a mesh that may be spread over ranks.

Filters are zero above some wave number along every axis: the other waves are neither transformed further, nor
exchanged, nor stored.  Of axes 1 and 2 all N waves are kept, or the 2 m + 1 waves 0 … m, -m … -1; of axis 3, along
which the transform is real, 0 … m.

One process holds everything: there the compiled `mesh_convolve` does all at once, transforming plane by plane and row
by row with the filters in between, while they are in the cache.  Over ranks the mesh of N1 x N2 x N3 points is divided
into pencils among P1 x P2 of them (slabs where P2 = 1): first along axis 3, then 2, then 1.  Between the transforms of
one axis, which torch makes locally, `redistribute` turns the pencils.
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
    """The waves of a real mesh, all of them."""
    return [shape[0], shape[1], shape[2] // 2 + 1]


def waves_up_to(shape: List[int], most: List[int]) -> List[int]:
    """The waves kept along each axis for the largest wave numbers ``most`` of filters that are not zero."""
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


def _padded(x: Tensor) -> Tensor:
    """``x`` with at least one row along every axis: FFT libraries refuse empty arrays."""
    pad = [0, 0, 0, 0, 0, 0]
    for axis in range(3):
        if x.shape[axis + 1] == 0:
            pad[2 * (2 - axis) + 1] = 1
    return torch.nn.functional.pad(x, pad)


def _kept(x: Tensor, axis: int, waves: int) -> Tensor:
    """The first ``waves`` wave numbers by size of a spectrum that holds all of them along ``axis``, 1 or 2."""
    n, high = x.shape[axis], waves // 2
    if waves == n:
        return x
    return torch.cat([x.narrow(axis, 0, waves - high), x.narrow(axis, n - high, high)], dim=axis)


def _completed(x: Tensor, axis: int, n: int) -> Tensor:
    """A spectrum with all ``n`` waves along ``axis``, zero where `_kept` has left them out."""
    high = x.shape[axis] // 2
    low = x.shape[axis] - high
    if low + high == n:
        return x
    shape = list(x.shape)
    shape[axis] = n - low - high
    nothing = torch.zeros(shape, dtype=x.dtype, device=x.device)
    return torch.cat([x.narrow(axis, 0, low), nothing, x.narrow(axis, low, high)], dim=axis)


def _fft(x: Tensor, axis: int, waves: int) -> Tensor:
    """The kept ``waves`` of complex pencils along ``axis``."""
    y = torch.fft.fft(_padded(x), dim=axis)[:, : x.shape[1], : x.shape[2], : x.shape[3]]
    return _kept(y, axis, waves)


def _fft_back(y: Tensor, axis: int, n: int) -> Tensor:
    """Complex pencils of ``n`` points along ``axis`` from the waves that were kept."""
    y = _completed(y, axis, n)
    x = torch.fft.ifft(_padded(y), dim=axis, norm="forward")
    return x[:, : y.shape[1], : y.shape[2], : y.shape[3]]


def transform(grids: Tensor, layout: Layout) -> Tensor:
    """Bricks ``(c, …)`` of real grids, summed, to this process's part of sum_m grid[m] exp(-2 pi i k·m / N)."""
    shape, waves = layout.shape, layout.waves
    x = redistribute(grids, layout.bricks, layout.along3, shape)
    y = torch.fft.rfft(_padded(x), n=shape[2], dim=3)[:, : x.shape[1], : x.shape[2], : waves[2]]
    if x.shape[1] == 0 or x.shape[2] == 0:
        y = y[:, :, :, :0]
    y = redistribute(y, layout.along3_waves, layout.along2, [shape[0], shape[1], waves[2]])
    y = _fft(y, 2, min(waves[1], y.shape[2]))
    y = redistribute(y, layout.along2_waves, layout.along1, [shape[0], waves[1], waves[2]])
    return _fft(y, 1, min(waves[0], y.shape[1]))


def transform_back(spectrum: Tensor, layout: Layout) -> Tensor:
    """sum_k spectrum[k] exp(2 pi i k·m / N) at the points of this process's brick."""
    shape, waves = layout.shape, layout.waves
    y = _fft_back(spectrum, 1, shape[0] if spectrum.shape[1] > 0 else 0)
    y = redistribute(y, layout.along1, layout.along2_waves, [shape[0], waves[1], waves[2]])
    y = _fft_back(y, 2, shape[1] if y.shape[2] > 0 else 0)
    y = redistribute(y, layout.along2, layout.along3_waves, [shape[0], shape[1], waves[2]])
    x = torch.fft.irfft(_padded(y), n=shape[2], dim=3, norm="forward")[:, : y.shape[1], : y.shape[2]]
    if y.shape[1] == 0 or y.shape[2] == 0:
        x = x[:, :, :, :0]
    return redistribute(x, layout.along3, layout.bricks, shape)


def convolve(grid: Tensor, filters: Tensor, layout: Layout) -> Tensor:
    """The brick ``(1, …)`` of a grid, summed over ranks, with each of ``filters`` ``(c, …)``: bricks ``(c, …)``.

    Filters are real and given at the waves that this process filters (`spectrum_box`).
    """
    if layout.rank < 0:
        return torch.ops.fixedpoint.mesh_convolve(grid, filters)
    return transform_back(transform(grid, layout) * filters, layout)


def convolve_transposed(grids: Tensor, filters: Tensor, layout: Layout) -> Tensor:
    """The adjoint of `convolve`: bricks ``(c, …)``, each with its own filter, summed to ``(1, …)``."""
    if layout.rank < 0:
        return torch.ops.fixedpoint.mesh_convolve_transposed(grids, filters)
    return transform_back((transform(grids, layout) * filters).sum(0, keepdim=True), layout)


def _define_in_python() -> None:
    """The operators of a single process in torch, for a package without compiled parts."""
    global _python_library
    library = torch.library.Library("fixedpoint", "FRAGMENT")
    axes = [1, 2, 3]

    def there(grids: Tensor, filters: Tensor) -> Tensor:
        spectra = torch.fft.rfftn(grids, dim=axes)
        spectra = _kept(_kept(spectra, 1, filters.shape[1]), 2, filters.shape[2])
        return spectra[:, :, :, : filters.shape[3]] * filters

    def back(spectra: Tensor, like: Tensor) -> Tensor:
        spectra = _completed(_completed(spectra, 1, like.shape[1]), 2, like.shape[2])
        # the waves that the last axis lacks are zero
        return torch.fft.irfftn(spectra, s=like.shape[1:], dim=axes, norm="forward")

    def mesh_convolve(grid: Tensor, filters: Tensor) -> Tensor:
        return back(there(grid, filters), grid)

    def mesh_convolve_transposed(grids: Tensor, filters: Tensor) -> Tensor:
        return back(there(grids, filters).sum(0, keepdim=True), grids)

    for name, function in (
        ("mesh_convolve", mesh_convolve),
        ("mesh_convolve_transposed", mesh_convolve_transposed),
    ):
        library.define(f"{name}(Tensor x, Tensor filters) -> Tensor")
        library.impl(name, function, "CompositeImplicitAutograd")
    _python_library = library


_python_library: torch.library.Library | None = None
load_operators()
if not torch._C._dispatch_has_kernel("fixedpoint::mesh_convolve"):
    _define_in_python()
