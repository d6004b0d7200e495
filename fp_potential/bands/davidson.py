"""The lowest states of one k by a block Davidson method: H is only applied to states, never diagonalised.

The subspace V holds approximations and their preconditioned residuals; every round diagonalises V† H V, and appends

    t_n = P_n (H - E_n) x_n,   P_n = (27 + 18 y + 12 y² + 8 y³) / (27 + 18 y + 12 y² + 8 y³ + 16 y⁴),
    y = (|K|² / 2) / (1.5 ⟨x_n| T |x_n⟩)

of the states that have not converged, made orthogonal to V. The preconditioner is that of M. P. Teter, M. C. Payne and
D. C. Allan, Phys. Rev. B 40, 12255 (1989); the method that of E. R. Davidson, J. Comput. Phys. 17, 87 (1975).
"""

from __future__ import annotations

import torch
from torch import Tensor

from .hamiltonian import KPoint

#: residual |H x - E x| (Ha) at which a state has converged; its energy then has an error of about its square
TOLERANCE = 1e-8
MAX_ROUNDS = 100
#: the subspace begins anew from the approximations when it has this many times as many vectors
LARGEST_SUBSPACE = 5
#: random part of the first approximations, which finds states of a symmetry that none of them has
NOISE = 1e-5
#: states this close (Ha) to the last one asked for may belong to its degenerate group, and must converge with it
NEAR = 1e-5
#: a cautious distance (Ha) of states from each other
DISTANCE = 0.05
#: waves per state of the small matrix that gives the first approximations
FIRST_WAVES = 8


class NotConverged(RuntimeError):
    """The iterative solution ended without the states asked for."""


def davidson(at: KPoint, n_wanted: int, start: Tensor, tolerance: float = TOLERANCE) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest ``n_wanted`` states, and those that complete the last degenerate group.

    ``start`` ``(d, n)``, n_wanted < n <= d / 2, are first approximations; those beyond n_wanted guard the others.
    Returns energies ``(n,)``, vectors ``(d, n)`` and residuals ``(n,)`` of all, of which the last may be rough.

    Raises NotConverged after 100 rounds.
    """
    n = start.shape[1]
    v = _orthonormal(_noisy(start), None)
    hv = at.apply(v)
    small = v.conj().T @ hv
    for _ in range(MAX_ROUNDS):
        energies, rotation = torch.linalg.eigh(small)
        energies, rotation = energies[:n], rotation[:, :n].contiguous()
        x, hx = v @ rotation, hv @ rotation
        residual = hx - x * energies
        norms = residual.norm(dim=0)
        # an energy may still fall by about the square of the residual over the distance of other states
        lowest = energies - torch.minimum(norms, norms**2 / DISTANCE)
        needed = (torch.arange(n) < n_wanted) | (lowest < energies[n_wanted - 1] + NEAR)
        if bool((norms[needed] < tolerance).all()):
            return energies, x, norms
        active = needed & (norms >= tolerance)
        if v.shape[1] + int(active.sum()) > min(LARGEST_SUBSPACE * n, at.dimension):
            v, hv, small = x, hx, torch.diag(energies).to(small.dtype)
        t = _orthonormal(precondition(at, x[:, active], residual[:, active]), v)
        ht = at.apply(t)
        corner = v.conj().T @ ht
        small = torch.cat([torch.cat([small, corner], 1), torch.cat([corner.conj().T, t.conj().T @ ht], 1)])
        small = 0.5 * (small + small.conj().T)
        v, hv = torch.cat([v, t], 1), torch.cat([hv, ht], 1)
    raise NotConverged(
        f"{int((norms[needed] >= tolerance).sum())} of {n_wanted} states have residuals up to "
        f"{float(norms[needed].max()):.1e} Ha after {MAX_ROUNDS} rounds, more than {tolerance:.0e}; "
        "take the method 'dense', or a larger tolerance"
    )


def first_guess(at: KPoint, n: int) -> Tensor:
    """Approximations ``(d, n)``: the lowest states of H among the `FIRST_WAVES` n waves of least kinetic energy."""
    chosen = at.kinetic.argsort()[: FIRST_WAVES * n]
    _, vectors = torch.linalg.eigh(at.among(chosen).dense())
    result = torch.zeros(len(at.kinetic), at.n_spin, n, dtype=torch.complex128)
    result[chosen] = vectors[:, :n].reshape(len(chosen), at.n_spin, n).to(torch.complex128)
    return result.reshape(at.dimension, n)


def _noisy(start: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(*start.shape, 2, dtype=torch.float64, generator=generator)
    return start + NOISE / start.shape[0] ** 0.5 * torch.view_as_complex(noise)


def precondition(at: KPoint, x: Tensor, residual: Tensor) -> Tensor:
    """P ``residual`` ``(d, n)``, for states ``x`` ``(d, n)`` or one for all ``(d, 1)``."""
    kinetic = at.kinetic.unsqueeze(1).expand(-1, at.n_spin).reshape(-1, 1)
    mean = (kinetic * (x.real**2 + x.imag**2)).sum(0).clamp(min=1e-3)
    y = kinetic / (1.5 * mean)
    top = 27.0 + y * (18.0 + y * (12.0 + 8.0 * y))
    return residual * (top / (top + 16.0 * y**4))


def _orthonormal(t: Tensor, v: Tensor | None) -> Tensor:
    """An orthonormal basis of what the columns ``t`` add to the orthonormal ``v``; twice, for rounding."""
    t = t / t.norm(dim=0)
    for _ in range(2):
        if v is not None:
            t = t - v @ (v.conj().T @ t)
        t, _ = torch.linalg.qr(t)
    return t
