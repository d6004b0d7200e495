"""Spectrum of the map's Jacobian J = dG/dp: how fast a loop can converge, and whether its solution is stable.

The error of linear mixing with parameter α is multiplied by 1 - α (1 - λ) in every application, for each eigenvalue λ
of J.  So

    linear mixing needs max |1 - α (1 - λ)| < 1; the negative end of the spectrum limits α, the positive end the speed,
    a real part ≥ 1 is a solution that no amount of mixing finds: a change of the density feeds back more than itself.

Where the map has a constraint, J is that of the map on the constraint's surface.  Both ends come from Arnoldi's method
(`scf.arnoldi`) on J or on J^T, which has the same eigenvalues.
"""

import math
from dataclasses import dataclass

import numpy as np

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


def spectrum_of(hessenberg: np.ndarray, accuracy: float) -> Spectrum:
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
