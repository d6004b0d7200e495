"""The ends of the spectrum of the SCF map as functions of the parameters.

J = dG/dp is not symmetric. With a right and a left eigenvector, J x = λ x and J^T y = λ y,

    λ = y·J x / y·x,      dλ = y·dJ x / y·x,

so the quotient with x and y held fixed has the value and the derivative of the eigenvalue, with errors of second order
in those of the vectors. The vectors of the eigenvalues with the largest and the smallest real part come from Arnoldi's
method on J and on J^T, for all structures of a batch at once; y·J x comes from differentiating y·G(p).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..scf.problem import DensityMap, SCFProblem, graph_sum
from .linear import jacobian_product

#: applications of J and of J^T at most, and the relative error at which both ends count as found
LARGEST_BASIS, ACCURACY = 60, 1e-4
#: smallest y·x of unit vectors that is divided by: where it vanishes, the eigenvalue has no derivative
SMALLEST_OVERLAP = 1e-6


def spectrum_ends(
    density_map: DensityMap, fixed: SCFProblem, point: Tensor, update: Tensor, density: Tensor, training: bool
) -> Tensor:
    """Largest and smallest real part ``(B, 2)`` of the eigenvalues of J at ``density``.

    Args:
        fixed: the problem without gradients, linearised at the raw total field ``point`` of the density.
        update: G of ``density``, with a graph.
        density: ``(n, 4)``, a variable of that graph.
        training: keep the graph.
    """
    right = _arnoldi(lambda v: jacobian_product(density_map, fixed, point, v), fixed)
    left = _arnoldi(lambda v: density_map.transposed(fixed, v).detach(), fixed)
    n_graphs = fixed.atoms.shape[0]
    ends = []
    for largest in (True, False):
        y, x = _pair(left, right, fixed.batch, largest)
        products = []
        for part in (y.real, y.imag):
            weights = part.to(update.dtype)
            (pulled,) = torch.autograd.grad(update, density, weights, create_graph=training, retain_graph=True)
            products.append(pulled)
        # y·J x and y·x without complex conjugation
        real = graph_sum((products[0] * x.real - products[1] * x.imag).sum(1), fixed.batch, n_graphs, False)
        imaginary = graph_sum((products[0] * x.imag + products[1] * x.real).sum(1), fixed.batch, n_graphs, False)
        overlap = torch.zeros(n_graphs, dtype=y.dtype, device=y.device).index_add(0, fixed.batch, (y * x).sum(1))
        square = overlap.abs().square().clamp(min=SMALLEST_OVERLAP**2)
        ends.append((real * overlap.real + imaginary * overlap.imag) / square)
    return torch.stack(ends, dim=1)


class _Ritz:
    """Ritz values and vectors of every structure from an Arnoldi basis ``(k, n, 4)`` and the matrix of each."""

    def __init__(self, basis: Tensor, matrices: list[np.ndarray]) -> None:
        self.basis = basis
        self.values, self.vectors = zip(*(np.linalg.eig(matrix) for matrix in matrices), strict=True)

    def in_full(self, structure: int, rows: Tensor) -> Tensor:
        """All Ritz vectors of a structure ``(n_g, 4, k)``, complex."""
        vectors = torch.as_tensor(self.vectors[structure], device=self.basis.device).to(torch.complex128)
        own = self.basis[: len(vectors), rows].to(torch.complex128)
        return torch.einsum("kna,kv->nav", own, vectors)


def _arnoldi(apply: Callable[[Tensor], Tensor], problem: SCFProblem) -> _Ritz:
    batch, n_graphs = problem.batch, problem.atoms.shape[0]
    template = problem.external

    def dots(a: Tensor, b: Tensor) -> Tensor:
        return graph_sum((a * b).sum(-1).movedim(-1, 0), batch, n_graphs, False)

    # every structure by itself: its estimate does not depend on what it was batched with
    draws = [
        torch.randn(number, template.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for number in torch.bincount(batch).tolist()
    ]
    start = torch.cat(draws).to(template)
    basis = [start / dots(start, start).sqrt()[batch].unsqueeze(1)]
    columns: list[np.ndarray] = []
    sizes = torch.zeros(n_graphs, dtype=torch.int64)
    going = torch.ones(n_graphs, dtype=torch.bool)
    rounding = 10.0 * torch.finfo(template.dtype).eps * (4.0 * problem.atoms).sqrt()
    largest = min(LARGEST_BASIS, int(4 * problem.atoms.max()))
    for k in range(1, largest + 1):
        new = apply(basis[-1])
        scale = dots(new, new).sqrt()
        stacked = torch.stack(basis)
        column = torch.zeros(n_graphs, k + 1, dtype=torch.float64)
        # Gram–Schmidt twice: once loses orthogonality
        for _ in range(2):
            overlap = dots(stacked, new.expand_as(stacked))
            new = new - torch.einsum("nk,kna->na", overlap[batch], stacked)
            column[:, :k] += overlap.double().cpu()
        norm = dots(new, new).sqrt()
        sizes[going] = k
        # a structure whose space is exhausted, down to rounding, stays as it is
        further = (norm > rounding * scale) & going.to(norm.device)
        going = further.cpu()
        column[:, k] = torch.where(further, norm, 0.0).double().cpu()
        columns.append(column.numpy())
        if k == largest or not bool(further.any()) or (k % 5 == 0 and _found(columns)):
            break
        inverse = torch.where(further, 1.0 / norm.clamp(min=1e-300), 0.0)
        basis.append(new * inverse[batch].unsqueeze(1))
    matrices = [matrix[:size, :size] for matrix, size in zip(_hessenberg(columns), sizes.tolist(), strict=True)]
    return _Ritz(torch.stack(basis), matrices)


def _hessenberg(columns: list[np.ndarray]) -> np.ndarray:
    """The matrices ``(B, k+1, k)`` of which these are the columns ``(B, 2 … k+1)``."""
    k = len(columns)
    matrix = np.zeros((columns[0].shape[0], k + 1, k))
    for number, column in enumerate(columns):
        matrix[:, : number + 2, number] = column
    return matrix


def _found(columns: list[np.ndarray]) -> bool:
    """Whether the residuals of the Ritz pairs at both ends are small for every structure."""
    for matrix in _hessenberg(columns):
        values, vectors = np.linalg.eig(matrix[:-1])
        errors = abs(matrix[-1, -1]) * np.abs(vectors[-1])
        ends = [values.real.argmax(), values.real.argmin()]
        if any(errors[end] > ACCURACY * (1.0 + abs(values[end])) for end in ends):
            return False
    return True


def _pair(left: _Ritz, right: _Ritz, batch: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """Left and right vectors ``(n, 4)`` of one end of each structure, complex.

    The right one belongs to the same eigenvalue: it is the one that the left one is not orthogonal to.
    """
    ys, xs = [], []
    for structure, values in enumerate(left.values):
        rows = torch.nonzero(batch == structure).squeeze(1)
        end = values.real.argmax() if largest else values.real.argmin()
        y = left.in_full(structure, rows)[:, :, end]
        candidates = right.in_full(structure, rows)
        overlaps = torch.einsum("na,nav->v", y, candidates).abs() / candidates.abs().square().sum((0, 1)).sqrt()
        ys.append(y)
        x = candidates[:, :, int(overlaps.nan_to_num().argmax())]
        xs.append(x / x.abs().square().sum().sqrt())
    return torch.cat(ys), torch.cat(xs)
