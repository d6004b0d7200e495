"""The lowest bands at some k, with derivatives by Hellmann–Feynman.

d E_n / d theta = ⟨n| dH / d theta |n⟩, never the backward of a diagonalisation. By shells |G - G'|,

    d E_n / d v_s(q) = sum_{|G - G'| = q} conj(c_G) c_G' S_s(G - G') / Omega

which for all k and bands with their weights is one matrix product and one sum by differences; one backward through the
local form follows.

**Degenerate bands.** Single states of a degenerate group are arbitrary; only the trace over the group has a derivative.
Here every band of a group has the derivative of the group's mean energy, also where fewer bands were asked for than the
group has. This is exact for what is symmetric in the bands of a group (all of them with the same weight and reference),
and the mean of the one-sided derivatives otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import scipy.linalg
import torch
from torch import Tensor

from .davidson import NEAR, TOLERANCE, davidson, first_guess
from .hamiltonian import Hamiltonian, KPoint
from .pseudopotential import Pseudopotential

Method = Literal["auto", "dense", "iterative"]
#: bands closer than this (Ha) are a degenerate group
DEGENERATE = 1e-8
#: states computed beyond those asked for, so that the last group is complete: by LAPACK, and in a block at least
GUARD, MIN_BLOCK_GUARD = 2, 4
#: "auto" diagonalises matrices up to this size, and larger ones of which more than one in so many states is asked for
DENSE_UP_TO, DENSE_FROM_PART = 1000, 16


@dataclass(frozen=True)
class Eigenstates:
    """The lowest states at each k ``(b, 3)`` (fractions).

    energies ``(b, n)`` Ha ascending and vectors ``(b, d, n)``, of which the first ``n_listed`` were asked for and the
    others complete the last degenerate group (or guard it). Without spin-orbit coupling each of them is two bands:
    ``n_bands`` counts spin. ``residuals`` ``(b, n)`` Ha: |H c - E c|. coefficients and strengths are the values of the
    pseudopotential that the states belong to, with their derivatives by its parameters.
    """

    hamiltonian: Hamiltonian
    k: Tensor
    energies: Tensor
    vectors: Tensor
    residuals: Tensor
    n_bands: int
    n_listed: int
    coefficients: Tensor
    strengths: Tensor

    @property
    def doubled(self) -> bool:
        """Whether each state is two bands (no spin-orbit coupling)."""
        return self.vectors.shape[1] == len(self.hamiltonian.basis)

    def listed(self, per_state: Tensor) -> Tensor:
        """What each state has, ``(b, n, …)``, for each of the bands asked for, ``(b, n_bands, …)``."""
        listed = per_state[:, : self.n_listed]
        return listed.repeat_interleave(2, dim=1)[:, : self.n_bands] if self.doubled else listed

    def bands(self, potential: Pseudopotential | None = None) -> Tensor:
        """Energies ``(b, n_bands)`` Ha, differentiable in the parameters of the potential that the states belong to.

        The derivatives go through the evaluation of v(q) that gave the states (once: they are kept by it), or, if the
        ``potential`` is given again, through another one.
        """
        coefficients, strengths = self.coefficients, self.strengths
        if potential is not None:
            coefficients = self.hamiltonian.local_coefficients(potential)
            strengths = potential.strengths(self.hamiltonian.crystal, self.hamiltonian.terms_of(potential))
        return self.listed(_HellmannFeynman.apply(coefficients, strengths, self))

    def group_of(self) -> list[list[slice]]:
        """The degenerate groups of each k, as slices of the states."""
        groups = []
        for energies in self.energies:
            finite = energies[energies.isfinite()]
            ends = [0, *(np.flatnonzero(np.diff(finite.numpy()) > DEGENERATE) + 1).tolist(), len(finite)]
            groups.append([slice(a, b) for a, b in pairwise(ends) if a < self.n_listed])
        return groups

    def traced(self, weights: Tensor) -> Tensor:
        """Weights of states ``(b, n)`` in which every state of a degenerate group has the group's mean."""
        result = torch.zeros_like(weights)
        for i, groups in enumerate(self.group_of()):
            for group in groups:
                result[i, group] = weights[i, group].mean()
        return result


class _HellmannFeynman(torch.autograd.Function):
    """Energies of states ``(b, n)`` as functions of W(G - G') ``(M,)`` and the strengths ``(3, n_kinds)``."""

    @staticmethod
    def forward(ctx: Any, coefficients: Tensor, strengths: Tensor, states: Eigenstates) -> Tensor:
        ctx.states = states
        return states.energies.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        states: Eigenstates = ctx.states
        weights = states.traced(gradient)
        by_coefficient = local_derivative(states, weights) if ctx.needs_input_grad[0] else None
        by_strength = strength_derivative(states, weights) if ctx.needs_input_grad[1] else None
        return by_coefficient, by_strength, None


def local_derivative(states: Eigenstates, weights: Tensor) -> Tensor:
    """The derivative of sum_kn w_kn E_kn by W(G - G'), ``(M,)`` complex as torch counts it: dE/d Re W + i dE/d Im W."""
    basis = states.hamiltonian.basis
    n, spin = len(basis), states.vectors.shape[1] // len(basis)
    matrix = torch.zeros(n, n, dtype=torch.complex128)
    for vectors, w in zip(states.vectors, weights):
        used = w != 0.0
        if not bool(used.any()):
            continue
        c = vectors[:, used].reshape(n, spin, -1)
        left, right = (c * w[used]).reshape(n, -1), c.reshape(n, -1)
        matrix += left @ right.conj().T
    pair, size = basis.pair.reshape(-1).numpy(), len(basis.differences)
    flat = matrix.reshape(-1).numpy()
    real, imaginary = (np.bincount(pair, weights=part, minlength=size) for part in (flat.real, flat.imag))
    return torch.from_numpy(real + 1j * imaginary)


def strength_derivative(states: Eigenstates, weights: Tensor) -> Tensor:
    """The derivative of sum_kn w_kn E_kn by the strengths (a5, a6, a7) of each kind, ``(3, n_kinds)``."""
    hamiltonian = states.hamiltonian
    n, total = len(hamiltonian.basis), torch.zeros(3, len(hamiltonian.crystal.kinds), dtype=torch.float64)
    for k, vectors, w in zip(states.k, states.vectors, weights):
        used = w != 0.0
        if not bool(used.any()):
            continue
        b = hamiltonian.projectors_at(k)
        flat = b.reshape(n, -1).conj().T @ vectors[:, used].reshape(n, -1)
        spin = vectors.shape[0] // n
        total += hamiltonian.projectors.expectations(flat.reshape(*b.shape[1:], spin, -1), w[used])
    return total


def band_energies(
    hamiltonian: Hamiltonian,
    potential: Pseudopotential,
    k: Tensor,
    n_bands: int,
    method: Method = "auto",
    start: Eigenstates | None = None,
) -> Tensor:
    """The lowest ``n_bands`` bands (spin counted) at ``k`` ``(b, 3)`` (fractions), ``(b, n_bands)`` Ha.

    Differentiable in the potential's parameters; the arguments are those of `solve`, whose result also has the states.
    """
    return solve(hamiltonian, potential, k, n_bands, method, start).bands()


def solve(
    hamiltonian: Hamiltonian,
    potential: Pseudopotential,
    k: Tensor,
    n_bands: int,
    method: Method = "auto",
    start: Eigenstates | None = None,
    tolerance: float = TOLERANCE,
) -> Eigenstates:
    """The states of the lowest ``n_bands`` bands (spin counted) at ``k`` ``(b, 3)``.

    ``method`` "dense" diagonalises the matrix (LAPACK, only the states asked for), "iterative" applies it to a block of
    states until their residuals are below ``tolerance`` (Ha), "auto" takes what is faster for this size. ``start`` are
    states of the same basis from which an iterative solution begins: those of the same k of an earlier call, or of
    others, of which the nearest k is taken. Without them each k begins with the states of the nearest one solved.

    Where the potential is not finite, as the Zunger form with a vanishing denominator, no energy is a number.

    Raises ValueError if more bands are asked for than the basis has; `davidson.NotConverged`.
    """
    k = torch.as_tensor(k, dtype=torch.float64).reshape(-1, 3)
    terms = hamiltonian.terms_of(potential)
    coefficients = hamiltonian.local_coefficients(potential)
    strengths = potential.strengths(hamiltonian.crystal, terms)
    fixed = hamiltonian.with_values(coefficients, strengths, terms)
    n_listed = n_bands if fixed.spin else (n_bands + 1) // 2
    dimension = hamiltonian.dimension(potential)
    if not 0 < n_listed <= dimension:
        raise ValueError(
            f"{n_bands} bands of {len(hamiltonian.basis)} plane waves were asked for; "
            "take a number of bands from 1 to twice that of the waves, or raise the cutoff"
        )
    if not (bool(coefficients.isfinite().all()) and bool(strengths.isfinite().all())):
        found = [_nowhere(dimension, n_listed)] * len(k)
        return Eigenstates(hamiltonian, k, *_stack(found), n_bands, n_listed, coefficients, strengths)
    if method == "auto":
        method = "dense" if dimension <= DENSE_UP_TO or n_listed > dimension // DENSE_FROM_PART else "iterative"
    if method == "dense":
        found = [_dense(fixed.at(point), n_listed) for point in k]
    else:
        found = []
        for i, point in enumerate(k):
            vectors = _nearest(k[:i], [v for _, v, _ in found], start, point, dimension)
            found.append(_iterative(fixed.at(point), n_listed, vectors, tolerance))
    return Eigenstates(hamiltonian, k, *_stack(found), n_bands, n_listed, coefficients, strengths)


Found = tuple[Tensor, Tensor, Tensor]


def _nowhere(dimension: int, n: int) -> Found:
    """States of a potential that is not finite: energies that are not numbers, no components."""
    energies = torch.full((n,), torch.nan, dtype=torch.float64)
    return energies, torch.zeros(dimension, n, dtype=torch.complex128), torch.zeros_like(energies)


def _dense(at: KPoint, n_listed: int) -> Found:
    """Energies, vectors and residuals (zeros) of one k, the last degenerate group complete."""
    matrix, n = at.dense(), n_listed + GUARD
    while True:
        n = min(n, at.dimension)
        energies, vectors = lowest(matrix, n)
        if n == at.dimension or energies[-1] - energies[n_listed - 1] > DEGENERATE:
            return energies, vectors, torch.zeros_like(energies)
        n = 2 * n


def _iterative(at: KPoint, n_listed: int, start: Tensor | None, tolerance: float) -> Found:
    """The same by `davidson`, with more states until one of them is above the last degenerate group.

    Of more than half of all states LAPACK's are taken.
    """
    n = n_listed + max(MIN_BLOCK_GUARD, n_listed // 8)
    while True:
        if 2 * n > at.dimension:
            return _dense(at, n_listed)
        first = first_guess(at, n) if start is None else _with_columns(start, n)
        energies, vectors, residuals = davidson(at, n_listed, first, tolerance)
        if energies[-1] - energies[n_listed - 1] > NEAR:
            return energies, vectors, residuals
        start, n = vectors, 2 * n


def _with_columns(vectors: Tensor, n: int) -> Tensor:
    """``n`` columns ``(d, n)``: the first ones, or all and random ones."""
    missing = n - vectors.shape[1]
    if missing <= 0:
        return vectors[:, :n]
    generator = torch.Generator().manual_seed(1)
    random = torch.randn(len(vectors), missing, 2, dtype=torch.float64, generator=generator)
    return torch.cat([vectors, torch.view_as_complex(random) / len(vectors) ** 0.5], 1)


def _nearest(
    solved: Tensor, vectors: list[Tensor], start: Eigenstates | None, point: Tensor, dimension: int
) -> Tensor | None:
    """The vectors of the k nearest to ``point`` of those solved before and of ``start``."""
    if start is not None and start.vectors.shape[1] != dimension:
        raise ValueError(
            f"`start` has vectors of {start.vectors.shape[1]} components, the basis has {dimension}: "
            "begin with states of the same basis and spin"
        )
    candidates = [(float((point - k).norm()), v) for k, v in zip(solved, vectors)]
    if start is not None:
        for k, e, v in zip(start.k, start.energies, start.vectors):
            candidates.append((float((point - k).norm()), v[:, e.isfinite()]))
    return min(candidates, key=lambda c: c[0])[1] if candidates else None


def _stack(found: list[Found]) -> Found:
    """One array for all k; where a k has fewer states, some of infinite energy and without components follow."""
    b, d, n = len(found), found[0][1].shape[0], max(len(e) for e, _, _ in found)
    energies = torch.full((b, n), torch.inf, dtype=torch.float64)
    residuals = torch.zeros(b, n, dtype=torch.float64)
    vectors = torch.zeros(b, d, n, dtype=torch.complex128)
    for i, (e, v, r) in enumerate(found):
        m = len(e)
        energies[i, :m], vectors[i, :, :m], residuals[i, :m] = e, v.to(torch.complex128), r
    return energies, vectors, residuals


def lowest(matrix: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` lowest energies and orthonormal vectors ``(d, n)`` of a Hermitian matrix."""
    size = len(matrix)
    subset = None if n == size else (0, n - 1)
    # LAPACK reads columns first: the transpose, of which it makes no copy, is the conjugate of a Hermitian matrix
    e, v = scipy.linalg.eigh(matrix.numpy().T, lower=False, subset_by_index=subset, driver="evr", check_finite=False)
    return torch.from_numpy(e), torch.from_numpy(v.conj())
