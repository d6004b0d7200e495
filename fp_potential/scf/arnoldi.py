"""Arnoldi's method for a linear map of unknowns ``(n, c)``, for all structures of a batch at once.

With the orthonormal basis V_k of span{b, A b, …, A^(k-1) b} of each structure,

    A V_k = V_(k+1) H_k,

and the eigenvalues of the upper square of the Hessenberg matrix H_k (Ritz values) approach those of A, the outer ones
first, with the residual h_(k+1,k) |y_k| for a unit eigenvector y (Arnoldi, Q. Appl. Math. 9, 17 (1951); Saad, Numerical
Methods for Large Eigenvalue Problems, ch. 6).  Power iteration would find the eigenvalue of largest modulus only,
usually the harmless negative end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..communication import graph_sum
from .settings import Groups

#: applications of the map at most, and the error relative to 1 + |λ| at which both ends count as found
LARGEST_BASIS, ACCURACY = 60, 1e-4
#: steps between two looks at the spectrum
LOOK_EVERY = 5


class Krylov(NamedTuple):
    """Arnoldi bases of all structures."""

    basis: Tensor  #: (k, n, c), zero for structures whose space is exhausted before
    hessenberg: list[np.ndarray]  #: H of each structure, (k_g + 1, k_g)


def arnoldi(
    apply: Callable[[Tensor], Tensor],
    start: Tensor,
    groups: Groups,
    largest: int,
    found: Callable[[Sequence[np.ndarray]], bool],
) -> Krylov:
    """Bases from ``start`` ``(n, c)`` with up to ``largest`` applications of the map.

    Args:
        apply: the map, without gradients.
        groups: rows of the structures; their vectors do not depend on what they were batched with.
        found: whether the matrices are enough, asked now and then.
    """
    batch, number = groups.batch, groups.number

    def dots(a: Tensor, b: Tensor) -> Tensor:
        return graph_sum((a * b).sum(-1).movedim(-1, 0), batch, number, groups.distributed)

    basis = [start / dots(start, start).sqrt()[batch].unsqueeze(1)]
    columns: list[np.ndarray] = []
    sizes = np.zeros(number, dtype=int)
    going = torch.ones(number, dtype=torch.bool, device=start.device)
    rounding = 10.0 * torch.finfo(start.dtype).eps * (float(start.shape[1]) * groups.rows).sqrt()
    for k in range(1, largest + 1):
        new = apply(basis[-1])
        scale = dots(new, new).sqrt()
        stacked = torch.stack(basis)
        column = torch.zeros(number, k + 1, dtype=torch.float64)
        # Gram–Schmidt twice: once loses orthogonality, and with it the small eigenvalues
        for _ in range(2):
            overlap = dots(stacked, new.expand_as(stacked))
            new = new - torch.einsum("nk,kna->na", overlap[batch], stacked)
            column[:, :k] += overlap.double().cpu()
        norm = dots(new, new).sqrt()
        sizes[going.cpu().numpy()] = k
        # a structure whose space is exhausted, down to rounding, stays as it is
        going = (norm > rounding * scale) & going
        column[:, k] = torch.where(going, norm, 0.0).double().cpu()
        columns.append(column.numpy())
        if k == largest or not bool(going.any()) or (k % LOOK_EVERY == 0 and found(_hessenberg(columns, sizes))):
            break
        inverse = torch.where(going, 1.0 / norm.clamp(min=1e-300), 0.0)
        basis.append(new * inverse[batch].unsqueeze(1))
    return Krylov(torch.stack(basis), _hessenberg(columns, sizes))


def _hessenberg(columns: list[np.ndarray], sizes: np.ndarray) -> list[np.ndarray]:
    """The matrices ``(k_g + 1, k_g)`` of which these are the columns ``(B, 2 … k+1)``."""
    k = len(columns)
    matrix = np.zeros((columns[0].shape[0], k + 1, k))
    for number, column in enumerate(columns):
        matrix[:, : number + 2, number] = column
    return [own[: size + 1, :size] for own, size in zip(matrix, sizes, strict=True)]


def ends_found(matrices: Sequence[np.ndarray]) -> bool:
    """Whether the residuals of the Ritz pairs at both ends are within `ACCURACY` for every structure."""
    for matrix in matrices:
        values, vectors = np.linalg.eig(matrix[:-1])
        errors = abs(matrix[-1, -1]) * np.abs(vectors[-1])
        ends = [values.real.argmax(), values.real.argmin()]
        if any(errors[end] > ACCURACY * (1.0 + abs(values[end])) for end in ends):
            return False
    return True


class Ritz:
    """Ritz values and vectors of every structure."""

    def __init__(self, krylov: Krylov) -> None:
        self.basis = krylov.basis
        self.values, self.vectors = zip(*(np.linalg.eig(matrix[:-1]) for matrix in krylov.hessenberg), strict=True)

    def in_full(self, structure: int, rows: Tensor) -> Tensor:
        """All Ritz vectors of a structure ``(n_g, c, k_g)``, complex; ``rows`` are the structure's."""
        vectors = torch.as_tensor(self.vectors[structure], device=self.basis.device).to(torch.complex128)
        own = self.basis[: len(vectors), rows].to(torch.complex128)
        return torch.einsum("kna,kv->nav", own, vectors)
