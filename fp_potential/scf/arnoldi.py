"""Arnoldi's method: the ends of the spectrum of a linear map."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..communication import graph_sum
from ..density.problem import SCFProblem

#: applications of J and of J^T at most, and the relative error at which both ends count as found
LARGEST_BASIS, ACCURACY = 60, 1e-4


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
