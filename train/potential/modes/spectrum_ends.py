"""The ends of the spectrum of the SCF map as functions of the parameters.

J = dG/dp is not symmetric. With a right and a left eigenvector, J x = λ x and J^T y = λ y,

    λ = y·J x / y·x,      dλ = y·dJ x / y·x,

so the quotient with x and y held fixed has the value and the derivative of the eigenvalue, with errors of second order
in those of the vectors. The vectors of the eigenvalues with the largest and the smallest real part come from Arnoldi's
method on J and on J^T, for all structures of a batch at once; y·J x comes from differentiating y·G(p).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ....communication import graph_sum
from ....density.density_map import DensityMap
from ....density.jacobian import jacobian_product
from ....density.problem import SCFProblem, groups_of
from ....scf.arnoldi import LARGEST_BASIS, Ritz, arnoldi, ends_found

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
    right = _ritz(lambda v: jacobian_product(density_map, fixed, point, v), fixed)
    left = _ritz(lambda v: density_map.transposed(fixed, v).detach(), fixed)
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


def _ritz(product: Callable[[Tensor], Tensor], fixed: SCFProblem) -> Ritz:
    """Ritz vectors of every structure, which do not depend on what it was batched with."""
    groups, columns = groups_of(fixed), fixed.external.shape[1]
    draws = [
        torch.randn(number, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        for number in torch.bincount(fixed.batch).tolist()
    ]
    largest = min(LARGEST_BASIS, columns * int(fixed.atoms.max()))
    return Ritz(arnoldi(product, torch.cat(draws).to(fixed.external), groups, largest, ends_found))


def _pair(left: Ritz, right: Ritz, batch: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
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
