"""Coupling coefficients of O(3), made when a model is built (the only use of e3nn).

Components of angular momentum l follow m = -l … l of real spherical harmonics with z as polar axis, so l = 1 is
(y, z, x); vectors enter as r[[1, 2, 0]].  Normalisation: "component", sum_m Y_lm² = 2l + 1, as in MACE.

Sources: e3nn (Geiger and Smidt, arXiv:2207.09453); Batatia et al., NeurIPS 2022, arXiv:2206.07697; Dusson et al.,
J. Comput. Phys. 454, 110946 (2022), doi:10.1016/j.jcp.2022.110946 (coupling of symmetric products).
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor


@lru_cache(maxsize=1)
def _o3():
    # e3nn reads its table of constants with torch.load; the table holds slices, which must be allowed by name
    with torch.serialization.safe_globals([slice]):
        from e3nn import o3
    return o3


def clebsch_gordan(l1: int, l2: int, l3: int) -> Tensor:
    """sqrt(2 l3 + 1) · Wigner 3j symbol of real harmonics, ``(2 l1 + 1, 2 l2 + 1, 2 l3 + 1)``, float64.

    sum_{m1 m2} C_{m1 m2 m3} a_{m1} b_{m2} rotates as l3 where a and b do as l1 and l2; DLMF, §34.2, for the symbol of
    complex harmonics.
    """
    return _o3().wigner_3j(l1, l2, l3, dtype=torch.float64) * (2 * l3 + 1) ** 0.5


@lru_cache(maxsize=1)
def silu_norm() -> float:
    """1 / sqrt(E[silu(x)²]), x ~ N(0, 1): the second-moment normalisation of silu used by MACE's networks."""
    with torch.serialization.safe_globals([slice]):
        from e3nn.math import normalize2mom
    return float(normalize2mom(torch.nn.functional.silu).cst)


def _coupled(l_max: int, correlation: int) -> list[tuple[int, int, np.ndarray]]:
    """All left-to-right couplings of ``correlation`` copies of l = 0 … l_max: (l, parity, tensor).

    Factors are coupled one at a time, ((A A)_l A)_l' …, through every intermediate l.  The tensor has shape
    ``(2l+1, n, …, n)``, n = (l_max+1)².  At every level the list is sorted (stably) by (l, parity), the order that
    numbers the parameters of MACE's symmetric contraction.
    """
    n = (l_max + 1) ** 2
    eye = np.eye(n)
    single = [(ell, (-1) ** ell, eye[ell * ell : (ell + 1) ** 2]) for ell in range(l_max + 1)]
    if correlation == 1:
        return single
    result = []
    for l_left, parity_left, left in _coupled(l_max, correlation - 1):
        for l_right in range(l_max + 1):
            for l_out in range(abs(l_left - l_right), l_left + l_right + 1):
                w = clebsch_gordan(l_out, l_left, l_right).numpy() / (2 * l_right + 1) ** 0.5 * (2 * l_out + 1) ** 0.5
                tensor = np.zeros((2 * l_out + 1,) + left.shape[1:] + (n,))
                tensor[..., l_right * l_right : (l_right + 1) ** 2] = np.einsum("j...,kji->k...i", left, w)
                result.append((l_out, parity_left * (-1) ** l_right, tensor))
    return sorted(result, key=lambda item: (item[0], item[1]))


@lru_cache(maxsize=32)
def symmetric_basis(l_max: int, l_out: int, correlation: int) -> tuple[np.ndarray, np.ndarray]:
    """Basis of equivariant homogeneous polynomials A^nu -> l_out, over symmetric monomials.

    out_m = sum_k w_k sum_mono U_{mono, m, k} prod_{s in mono} A_s.

    Returns monomials ``(n_mono, correlation)`` (sorted index tuples) and U ``(n_mono, 2 l_out + 1, K)``.  K counts
    couplings, also those that vanish by symmetry, so that parameters keep MACE's numbering.
    """
    parity = (-1) ** l_out
    stack = np.stack([t for ell, p, t in _coupled(l_max, correlation) if (ell, p) == (l_out, parity)], axis=-1)
    return over_monomials(stack, correlation)


def over_monomials(polynomials: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Homogeneous polynomials given by tensors ``(d, n, …, n, K)``, n repeated ``order`` times, over monomials.

    Returns the monomials as in `symmetric_basis` and the coefficients ``(n_mono, d, K)``: each is the sum over the
    permutations of a monomial's indices.
    """
    n = polynomials.shape[1]
    index = np.stack(np.meshgrid(*[np.arange(n)] * order, indexing="ij"), axis=-1).reshape(-1, order)
    flat = np.moveaxis(polynomials, 0, -2).reshape(n**order, polynomials.shape[0], polynomials.shape[-1])
    monomials, inverse = np.unique(np.sort(index, axis=1), axis=0, return_inverse=True)
    coefficients = np.zeros((len(monomials),) + flat.shape[1:])
    np.add.at(coefficients, inverse.reshape(-1), flat)
    return monomials, coefficients
