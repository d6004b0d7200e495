"""Spin-orbit and non-local terms as separable projectors of l = 1.

Both terms rest on I_c(K, K') = ∫ r² j1(K r) w_c(r) j1(K' r) dr with the weights

    w_0 = exp(-(r / 0.7)²) (spin-orbit),  w_1 = exp(-r²),  w_2 = exp(-(r - 1.5)²) (non-local),   r in Bohr.

A quadrature in r makes each I_c a sum over products f_r(K) f_r(K'), and a singular value decomposition over the range
of K needed leaves few functions R_m common to all three: I_c = K K' sum_mm' R_m(K) D_c,mm' R_m'(K'), to rounding.
With the projectors B_{G, a i m} = exp(i G · tau_a) R_m(|K|) K_i, K = k + G,

    H_nl = (12 pi / Omega) sum_a B_a [(a6 D_1 + a7 D_2) ⊗ delta_ij] B_a†
    H_so = (12 pi / Omega) sum_a B_a [a5 D_0 ⊗ (-i eps_ijk sigma_k / 2)] B_a†

so that no matrix of plane waves is needed to apply them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from .basis import PlaneWaves

SPIN_ORBIT_WIDTH = 0.7
NONLOCAL_WIDTH = 1.0
NONLOCAL_SHIFT = 1.5
#: end (Bohr) and number of points of the quadrature in r: exact to rounding up to K = 12 /Bohr
LARGEST_RADIUS, N_RADII = 8.0, 100
#: radial functions whose singular values are below this part of the largest are left out
SMALLEST_SINGULAR_VALUE = 1e-11


def bessel_over_power(order: int, x: Tensor) -> Tensor:
    """j_l(x) / x^l of l = 0 … 4: the series below 1.5, upward recurrence above."""
    series, term = torch.zeros_like(x), torch.full_like(x, 1.0 / math.prod(range(1, 2 * order + 2, 2)))
    small = x.clamp(max=1.5)
    for n in range(14):
        series = series + term
        term = -term * small**2 / (2.0 * (n + 1) * (2 * order + 2 * n + 3))
    large = x.clamp(min=1.5)
    j = [torch.sin(large) / large, torch.sin(large) / large**2 - torch.cos(large) / large]
    for n in range(1, order):
        j.append((2 * n + 1) / large * j[n] - j[n - 1])
    return torch.where(x < 1.5, series, j[order] / large**order)


class RadialFunctions:
    """R_m(K) for K up to ``largest_k`` (1/Bohr), and ``weights`` ``(3, m, m)``: D_0 of spin-orbit, D_1 and D_2."""

    def __init__(self, largest_k: float) -> None:
        self.largest_k = largest_k
        nodes, weights = np.polynomial.legendre.leggauss(N_RADII)
        self.r = torch.from_numpy(0.5 * LARGEST_RADIUS * (nodes + 1.0))
        w = torch.from_numpy(0.5 * LARGEST_RADIUS * weights) * self.r**2
        channels = torch.stack(
            [
                torch.exp(-((self.r / SPIN_ORBIT_WIDTH) ** 2)),
                torch.exp(-((self.r / NONLOCAL_WIDTH) ** 2)),
                torch.exp(-(((self.r - NONLOCAL_SHIFT) / NONLOCAL_WIDTH) ** 2)),
            ]
        )
        total = channels.sum(0)
        self.root = torch.sqrt(w * total)
        grid = 0.5 * largest_k * (1.0 - torch.cos(math.pi * (torch.arange(80, dtype=torch.float64) + 0.5) / 80))
        u, s, _ = torch.linalg.svd(self._functions(grid).T * grid, full_matrices=False)
        self.rotation = u[:, s > SMALLEST_SINGULAR_VALUE * s[0]]
        self.weights = torch.einsum("rm,cr,rn->cmn", self.rotation, channels / total, self.rotation)

    def __len__(self) -> int:
        return self.rotation.shape[1]

    def _functions(self, k: Tensor, derivative: int = 0) -> Tensor:
        """The d-th derivative of sqrt(w) j1(K r) / K by K², ``(n, n_r)``: (-1/2)^d r^(2 d + 1) j_{1+d}(x) / x^(1+d)."""
        x = k.unsqueeze(1) * self.r
        factor = (-0.5) ** derivative * self.r ** (2 * derivative + 1) * self.root
        return bessel_over_power(1 + derivative, x) * factor

    def __call__(self, k: Tensor, derivative: int = 0) -> Tensor:
        """R_m(K), or its first or second derivative by K², ``(n,)`` -> ``(n, m)``."""
        return self._functions(k, derivative) @ self.rotation


@lru_cache(maxsize=16)
def radial_functions(largest_k: int) -> RadialFunctions:
    """Those up to ``largest_k`` (1/Bohr), made once."""
    return RadialFunctions(float(largest_k))


def spin_coupling() -> Tensor:
    """-i eps_ijk sigma_k / 2 as ``(3, 2, 3, 2)``: direction, spin; direction, spin."""
    sigma = torch.tensor([[[0, 1], [1, 0]], [[0, -1j], [1j, 0]], [[1, 0], [0, -1]]], dtype=torch.complex128)
    eps = torch.zeros(3, 3, 3, dtype=torch.complex128)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        eps[i, j, k], eps[j, i, k] = 1.0, -1.0
    return torch.einsum("ijk,kst->isjt", -0.5j * eps, sigma)


class Projectors:
    """The projectors of a crystal in a basis; ``(N, n_atoms, 3, m)`` at every k."""

    def __init__(self, basis: PlaneWaves, largest_k: float) -> None:
        crystal = basis.crystal
        self.basis = basis
        self.radial = radial_functions(math.ceil(largest_k))
        phase = 2.0 * math.pi * basis.integers.to(torch.float64) @ crystal.positions.T
        self.phases = torch.polar(torch.ones_like(phase), phase)
        self.kinds = crystal.kind_of_atom
        self.prefactor = 12.0 * math.pi / crystal.volume

    def at(self, k: Tensor) -> Tensor:
        """B ``(N, n_atoms, 3, m)`` complex at ``k`` ``(3,)`` (1/Bohr); ValueError where k + G leaves R_m's range."""
        vectors = self.basis.vectors + k
        size = vectors.norm(dim=1)
        if float(size.max()) > self.radial.largest_k:
            raise ValueError(
                f"the projectors reach to |k + G| = {self.radial.largest_k:g} /Bohr, k is {float(k.norm()):.3g} /Bohr: "
                "take the point of the first zone that differs from it by a reciprocal vector"
            )
        functions = vectors.unsqueeze(2) * self.radial(size).unsqueeze(1)
        return self.phases[:, :, None, None] * functions[:, None]

    def moving(self, k: Tensor, velocity: Tensor) -> tuple[Tensor, Tensor]:
        """First and second derivative of B where every K moves along ``velocity`` ``(N, 3)`` or ``(3,)``.

        With u = |K|², u' = 2 K · w and u'' = 2 w · w: B' = phase (R w_i + R' u' K_i),
        B'' = phase (2 R' u' w_i + (R'' u'² + R' u'') K_i); R', R'' are derivatives by u.
        """
        vectors = self.basis.vectors + k
        size, w = vectors.norm(dim=1), velocity.expand_as(vectors)
        r, r1, r2 = (self.radial(size, order).unsqueeze(1) for order in range(3))
        slope = 2.0 * (vectors * w).sum(1)[:, None, None]
        bend = 2.0 * (w * w).sum(1)[:, None, None]
        direction, along = vectors.unsqueeze(2), w.unsqueeze(2)
        first = r * along + r1 * slope * direction
        second = 2.0 * r1 * slope * along + (r2 * slope**2 + r1 * bend) * direction
        phases = self.phases[:, :, None, None]
        return phases * first[:, None], phases * second[:, None]

    def coupling(self, strengths: Tensor, spin: bool) -> Tensor:
        """Lambda of H = sum_a B_a Lambda_a B_a† of strengths ``(3, n_kinds)``.

        ``(n_atoms, 3, m, 3, m)`` without spin; with it ``(n_atoms, 3, m, 2, 3, m, 2)``, complex.
        """
        a = self.prefactor * strengths[:, self.kinds]
        d = self.radial.weights
        same = torch.eye(3, dtype=torch.float64)
        nonlocal_ = torch.einsum("ca,cmn,ij->aimjn", a[1:], d[1:], same)
        if not spin:
            return nonlocal_
        both = torch.einsum("aimjn,st->aimsjnt", nonlocal_, torch.eye(2, dtype=torch.float64)).to(torch.complex128)
        spin_orbit = torch.einsum("a,mn->amn", a[0], d[0]).to(torch.complex128)
        return both + torch.einsum("amn,isjt->aimsjnt", spin_orbit, spin_coupling())

    def expectations(self, projections: Tensor, weights: Tensor) -> Tensor:
        """sum_n w_n ⟨n| dH / d strength |n⟩, ``(3, n_kinds)``: of a5 (0 without spin), a6 and a7.

        projections B† c ``(n_atoms, 3, m, spin, n)``, weights ``(n,)``.
        """
        p, d = projections, self.radial.weights
        weighted = p.conj() * weights
        found = p.real.new_zeros(3, p.shape[0])
        gram = torch.einsum("aimsn,aiksn->amk", weighted, p).real
        found[1:] = torch.einsum("amk,cmk->ca", gram, d[1:])
        if p.shape[3] == 2:
            turned = torch.einsum("isjt,ajktn->aiksn", spin_coupling(), p)
            found[0] = torch.einsum("aimsn,aiksn,mk->a", weighted, turned, d[0] + 0j).real
        by_kind = found.new_zeros(3, int(self.kinds.max()) + 1)
        return by_kind.index_add_(1, self.kinds, self.prefactor * found)
