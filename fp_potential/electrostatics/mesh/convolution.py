"""Convolution of a mesh with filters, by the discrete Fourier transform of a mesh that may be spread over ranks.

    out_c[m] = sum_k filter_c[k] exp(2 pi i k·m / N) sum_m' grid[m'] exp(-2 pi i k·m' / N).

Filters are zero above some wave number along every axis: the other waves are neither transformed further, nor
exchanged, nor stored.  Of axes 1 and 2 all N waves are kept, or the 2 m + 1 waves 0 … m, -m … -1; of axis 3, along
which the transform is real, 0 … m.

One process holds everything: there the compiled `mesh_convolve` does all at once, transforming plane by plane and row
by row with the filters in between, while they are in the cache.  Over ranks the mesh of N1 x N2 x N3 points is divided
into pencils among P1 x P2 of them (slabs where P2 = 1): first along axis 3, then 2, then 1.  Between the transforms of
one axis, which torch makes locally, `redistribute` turns the pencils.
"""

import torch
from torch import Tensor

from ...communication import load_operators, redistribute
from .layout import Layout

_python_library: torch.library.Library | None = None


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
    """This process's part ``(c, …)`` of sum_m grid[m] exp(-2 pi i k·m / N), from bricks ``(c, …)`` of real grids."""
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
    """sum_k spectrum[k] exp(2 pi i k·m / N) at the points of this process's brick ``(c, …)``."""
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


load_operators()
if not torch._C._dispatch_has_kernel("fixedpoint::mesh_convolve"):
    _define_in_python()
