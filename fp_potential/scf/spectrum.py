"""Spectrum of the map's Jacobian J = dG/dp: how fast a loop can converge, and whether its solution is stable.

The error of linear mixing with parameter α is multiplied by 1 - α (1 - λ) in every application, for each eigenvalue λ
of J.  So

    linear mixing needs max |1 - α (1 - λ)| < 1; the negative end of the spectrum limits α, the positive end the speed,
    a real part ≥ 1 is a solution that no amount of mixing finds: a change of the density feeds back more than itself.

At constant charge J is that of the map on the charge surface.  Both ends come from Arnoldi's method on J^T, which has
the same eigenvalues and is there for every update (`DensityMap.transposed`); power iteration would find the larger
modulus only, usually the harmless negative end.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .problem import SCFProblem

#: relative error at which an end of the spectrum counts as found, and applications of J^T spent on it at most
ACCURACY, LARGEST_BASIS = 1e-3, 150
#: reduction of the residual that Krylov methods are followed to
REDUCTION = 1e-9


@dataclass(frozen=True)
class Spectrum:
    """Ends of the spectrum of J, and what follows from them for solvers."""

    values: np.ndarray  #: (k,) complex Ritz values: converged ones at the ends, a picture of the rest
    errors: np.ndarray  #: (k,) estimated error of each
    krylov: np.ndarray  #: (k+1,) residual after 0 … k steps of GMRES for (1 - J^T) x = random, relative
    converged: bool  #: whether both ends are found to the accuracy asked for

    @property
    def largest(self) -> float:
        """Largest real part."""
        return float(self.values.real.max())

    @property
    def largest_error(self) -> float:
        """Estimated error of `largest`."""
        return float(self.errors[self.values.real.argmax()])

    @property
    def smallest(self) -> float:
        """Smallest real part."""
        return float(self.values.real.min())

    @property
    def smallest_error(self) -> float:
        """Estimated error of `smallest`."""
        return float(self.errors[self.values.real.argmin()])

    @property
    def modulus(self) -> float:
        """Largest modulus."""
        return float(np.abs(self.values).max())

    @property
    def applications(self) -> int:
        """Applications of J^T this took."""
        return len(self.krylov) - 1

    @property
    def unstable(self) -> bool:
        """Whether an eigenvalue has a real part ≥ 1: more mixing steps lead away from this solution."""
        return self.largest >= 1.0

    def linear_factor(self, mixing: float) -> float:
        """max |1 - α (1 - λ)|: what linear mixing with α multiplies the residual by per application, at length."""
        return float(np.abs(1.0 - mixing * (1.0 - self.values)).max())

    def largest_stable_mixing(self) -> float:
        """The α at which linear mixing begins to diverge: min 2 Re(1 - λ) / |1 - λ|²; 0 where none converges."""
        z = 1.0 - self.values
        square = np.maximum(np.abs(z) ** 2, 1e-300)
        return max(0.0, float((2.0 * z.real / square).min()))

    def best_linear_mixing(self) -> tuple[float, float] | None:
        """The α in (0, 1] with the smallest `linear_factor`, and that factor; None where none converges."""
        upper = min(1.0, self.largest_stable_mixing())
        if upper <= 0.0:
            return None
        # convex in α: golden section
        golden = (math.sqrt(5.0) - 1.0) / 2.0
        low, high = 0.0, upper
        for _ in range(60):
            left, right = high - golden * (high - low), low + golden * (high - low)
            if self.linear_factor(left) <= self.linear_factor(right):
                high = right
            else:
                low = left
        alpha = 0.5 * (low + high)
        return alpha, self.linear_factor(alpha)

    def krylov_applications(self, reduction: float) -> int | None:
        """Applications of the map that full-history Anderson mixing (GMRES) needs to reduce the residual by a factor.

        For a random right-hand side, the first application included; None where more are needed than were made here.
        """
        reached = np.flatnonzero(self.krylov <= reduction)
        return int(reached[0]) + 1 if len(reached) else None


def linear_applications(factor: float, reduction: float) -> float:
    """Applications that reduce the residual by ``reduction`` at ``factor`` per application; inf if factor >= 1."""
    if reduction >= 1.0:
        return 1.0
    if factor >= 1.0:
        return math.inf
    return 1.0 + math.ceil(math.log(reduction) / math.log(max(factor, 1e-300)))


def jacobian_spectrum(
    density_map: Any,
    problem: SCFProblem,
    accuracy: float = ACCURACY,
    largest_basis: int = LARGEST_BASIS,
    reduction: float = REDUCTION,
    seed: int = 0,
) -> Spectrum:
    """Spectrum of J of one structure by Arnoldi's method on J^T.

    Args:
        density_map: a `DensityMap`, or the scripted one of an archive (``module.model.solver.density_map``).
        problem: without gradients, linearised at the density wanted (`DensityMap.linearised`); J depends on the density
            only where the update is not affine.
        accuracy: error, relative to 1 + |λ|, at which both ends count as found.
        largest_basis: applications of J^T at most; the basis takes as many vectors of the size of the density.
        reduction: Krylov methods are followed until they have reduced a random residual by this factor.
        seed: of the random start.

    Raises:
        ValueError: a batch of several structures, or a charge that does not respond to the Fermi level.
    """
    if problem.atoms.shape[0] != 1:
        raise ValueError(f"the spectrum is that of one structure; got a batch of {problem.atoms.shape[0]}")
    if problem.constant_charge and not bool(density_map.responds(problem).all()):
        raise ValueError("the charge does not respond to the Fermi level: no map at constant charge")
    template = problem.external
    precision = float(torch.finfo(template.dtype).eps)
    accuracy, reduction = max(accuracy, 1e3 * precision), max(reduction, 1e2 * precision)
    size = template.numel() - (1 if problem.constant_charge else 0)
    steps = min(largest_basis, size)
    generator = np.random.default_rng(seed)
    start = torch.tensor(generator.standard_normal(tuple(template.shape)), dtype=template.dtype, device=template.device)
    start = _on_surface(start, problem)
    basis = [start / start.norm()]
    hessenberg = np.zeros((steps + 1, steps))
    for k in range(steps):
        new = _on_surface(density_map.transposed(problem, basis[k]).detach(), problem)
        scale = float(new.norm())
        if not math.isfinite(scale):
            raise ValueError("the map's derivative is not finite at this density")
        # Gram–Schmidt twice: once loses orthogonality, and with it the small eigenvalues
        stacked = torch.stack(basis).reshape(k + 1, -1)
        for _ in range(2):
            overlap = stacked @ new.reshape(-1)
            new = new - (overlap @ stacked).reshape(new.shape)
            hessenberg[: k + 1, k] += overlap.cpu().numpy()
        norm = float(new.norm())
        hessenberg[k + 1, k] = norm
        invariant = norm <= 10.0 * precision * max(scale, 1e-300) * math.sqrt(size)
        if invariant or k + 1 == steps or k % 5 == 4:
            result = _spectrum(hessenberg[: k + 2, : k + 1], accuracy)
            if invariant or k + 1 == steps or (result.converged and result.krylov[-1] <= reduction):
                break
        basis.append(new / norm)
    return result


def _on_surface(x: torch.Tensor, problem: SCFProblem) -> torch.Tensor:
    """Without the component along the total charge, which is J^T's left-over zero eigenvalue at constant charge."""
    if not problem.constant_charge:
        return x
    return torch.cat([x[:, :1] - x[:, :1].mean(), x[:, 1:]], dim=1)


def _spectrum(hessenberg: np.ndarray, accuracy: float) -> Spectrum:
    """Ritz values with errors, and GMRES residuals, from the ``(k+1, k)`` Hessenberg matrix of k Arnoldi steps."""
    k = hessenberg.shape[1]
    square, below = hessenberg[:k], hessenberg[k, k - 1]
    values, right = np.linalg.eig(square)
    # residual of a Ritz pair times the condition of the eigenvalue, 1 / |y* x| with left vectors y from the inverse
    try:
        left = np.linalg.inv(right)
        condition = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=0)
    except np.linalg.LinAlgError:
        condition = np.full(k, np.inf)
    errors = np.abs(below * right[k - 1]) / np.linalg.norm(right, axis=0) * np.minimum(condition, 1e8)
    ends = [values.real.argmax(), values.real.argmin()]
    converged = all(errors[i] <= accuracy * (1.0 + abs(values[i])) for i in ends)
    return Spectrum(values, errors, _gmres_residuals(hessenberg), bool(converged))


def _gmres_residuals(hessenberg: np.ndarray) -> np.ndarray:
    """min |e_1 - (1 - H) y| over the first 0 … k columns, by Givens rotations."""
    rows, k = hessenberg.shape
    matrix = np.eye(rows, k) - hessenberg
    residuals = np.ones(k + 1)
    for j in range(k):
        c, s = matrix[j, j], matrix[j + 1, j]
        length = math.hypot(c, s)
        if length == 0.0:
            residuals[j + 1] = residuals[j]
            continue
        c, s = c / length, s / length
        upper, lower = matrix[j].copy(), matrix[j + 1].copy()
        matrix[j], matrix[j + 1] = c * upper + s * lower, c * lower - s * upper
        residuals[j + 1] = residuals[j] * abs(s)
    return residuals
