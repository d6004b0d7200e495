"""Derivatives of bands by strain and by k: deformation potentials and effective masses.

Both are perturbation theory with the states of one solution: of a degenerate group, the perturbation's matrix is
diagonalised. Energies are in Hartree, lengths in Bohr, masses in electron masses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .davidson import precondition
from .eigenvalues import Eigenstates
from .hamiltonian import Hamiltonian, KPoint
from .pseudopotential import Pseudopotential

#: velocities in a degenerate group that differ by less (Ha Bohr) are equal
SAME_VELOCITY = 1e-6
#: residual of the linear equations of the second order, in units of the right-hand side, and the most steps
LINEAR_TOLERANCE, LINEAR_STEPS = 1e-10, 500


def deformation_potential(energies: Tensor, scaled: Tensor, ratio: float) -> Tensor:
    """The published form (E - E_s) / 2 · (1 + s³) / (1 - s³) ~ dE / d ln Omega of energies at lattice ratio 1 and s.

    E_s are energies of the same bands of `Hamiltonian.scaled`: the same integers G. Differentiable.
    """
    if ratio <= 0.0 or ratio == 1.0:
        raise ValueError(f"`ratio` must be a positive ratio of lattice constants other than 1, not {ratio}")
    return 0.5 * (energies - scaled) * (1.0 + ratio**3) / (1.0 - ratio**3)


def deformation_potentials(states: Eigenstates, potential: Pseudopotential) -> Tensor:
    """dE / d ln Omega of every band, ``(b, n_bands)`` Ha: the strain derivative along a third of the unit matrix."""
    return strain_derivative(states, potential, torch.eye(3, dtype=torch.float64) / 3.0)


def strain_derivative(states: Eigenstates, potential: Pseudopotential, strain: Tensor) -> Tensor:
    """dE / d lambda of every band where vectors r go to (1 + lambda strain) r, ``(b, n_bands)`` Ha.

    ``strain`` is ``(3, 3)``; atoms and k keep their fractions, G their integers. With dK = -strain^T K, t = tr strain,

        dH = K · dK + sum_a S_a (v'(q) dq - t v + t dv / d ln Omega) + (12 pi / Omega) (dB L B† + B L dB† - t B L B†)

    In a degenerate group the derivatives are the eigenvalues of dH, ascending. Not differentiable further.
    """
    strain = torch.as_tensor(strain, dtype=torch.float64)
    fixed = states.hamiltonian.fixed(potential)
    local = _strained_local(states.hamiltonian, potential, strain)
    found = torch.zeros_like(states.energies)
    for i, groups in enumerate(states.group_of()):
        at = _strained(fixed.at(states.k[i]), states.hamiltonian, states.k[i], local, strain)
        for group in groups:
            vectors = states.vectors[i, :, group]
            found[i, group] = torch.linalg.eigvalsh(_inner(vectors, at.apply(vectors)))
    return states.listed(found)


def _strained_local(hamiltonian: Hamiltonian, potential: Pseudopotential, strain: Tensor) -> Tensor:
    """dW / d lambda of the local matrix, ``(N, N)`` complex."""
    basis, terms = hamiltonian.basis, hamiltonian.terms_of(potential)
    rows, trace = potential.rows(hamiltonian.crystal), strain.trace()
    q = basis.q.clone().requires_grad_()
    with torch.enable_grad():
        v = potential.local(q, hamiltonian.crystal, terms)[:, rows]
        slopes = [torch.autograd.grad(column.sum(), q, retain_graph=True)[0] for column in v.unbind(1)]
    with torch.no_grad():
        g = basis.difference_vectors
        dq = -((g @ strain) * g).sum(1) / g.norm(dim=1).clamp(min=1e-12)
        change = potential.volume_derivative(basis.q, hamiltonian.crystal, terms)[:, rows] - v.detach()
        dv = torch.stack(slopes, 1)[basis.shell] * dq.unsqueeze(1) + trace * change[basis.shell]
        coefficients = (dv * hamiltonian.structure).sum(1)
        return coefficients[basis.pair.reshape(-1)].reshape(basis.pair.shape)


def _strained(at: KPoint, hamiltonian: Hamiltonian, k: Tensor, local: Tensor, strain: Tensor) -> Change:
    """dH / d lambda at one k."""
    vectors = hamiltonian.basis.vectors + hamiltonian.cartesian(k)
    velocity = -vectors @ strain
    here = replace(at, kinetic=(vectors * velocity).sum(1), local=local)
    if at.projectors is None or at.coupling is None:
        return Change(here, None)
    first, _ = hamiltonian.projectors.moving(hamiltonian.cartesian(k), velocity)
    return Change(replace(here, coupling=-strain.trace() * at.coupling), [(at, first, None)])


@dataclass(frozen=True)
class Change:
    """A derivative of H at one k: ``here`` what has the form of H, and pairs (left, right) of moved projectors.

    Every entry (at, L, R) adds L Lambda R† and its adjoint; None stands for the projectors of ``at`` themselves.
    """

    here: KPoint
    moved: list[tuple[KPoint, Tensor, Tensor | None]] | None

    def apply(self, states: Tensor) -> Tensor:
        """dH c of states ``(d, n)``."""
        result = self.here.apply(states)
        for at, left, right in self.moved or []:
            other = at.projectors if right is None else right
            assert other is not None
            result = result + at.between(left, other, states) + at.between(other, left, states)
        return result


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """⟨a|b⟩ ``(n, m)``."""
    return left.conj().T @ right


def inverse_masses(states: Eigenstates, potential: Pseudopotential, direction: Tensor) -> Tensor:
    """Second derivatives of the bands along ``direction`` ``(3,)`` (Cartesian), 1 / m in units of 1 / electron mass.

    ``(b, n_bands)``; by k·p perturbation theory of second order,

        1 / m_n = ⟨n|H''|n⟩ + 2 sum_m |⟨m|H'|n⟩|² / (E_n - E_m),   H' = n · (K + dV_nl/dk),

    where m are the states outside of n's degenerate group: those known explicitly, all others by conjugate gradients in
    their complement. In a group the velocities are diagonalised first, then the second order among equal velocities,
    ascending; so a degenerate edge has the masses of its branches along the direction.
    """
    n = torch.as_tensor(direction, dtype=torch.float64)
    n = n / n.norm()
    fixed, found = states.hamiltonian.fixed(potential), torch.zeros_like(states.energies)
    for i, groups in enumerate(states.group_of()):
        at = fixed.at(states.k[i])
        first, second = _along(at, states.hamiltonian, states.k[i], n)
        solved = (states.residuals[i] < 1e-6) & states.energies[i].isfinite()
        known = _Known(at, states.energies[i, solved], states.vectors[i][:, solved])
        for group in groups:
            found[i, group] = _curvatures(known, states.vectors[i][:, group], states.energies[i, group], first, second)
    return states.listed(found)


def inverse_mass_tensor(states: Eigenstates, potential: Pseudopotential) -> Tensor:
    """d²E / dk_i dk_j ``(b, n_bands, 3, 3)`` (1 / electron mass) of bands that are not degenerate but for spin.

    From `inverse_masses` along three axes and three diagonals; meaningless for a degenerate edge, whose masses depend
    on the direction in another way: take `inverse_masses` there.
    """
    axes = torch.eye(3, dtype=torch.float64)
    along = [inverse_masses(states, potential, axis) for axis in axes]
    tensor = torch.zeros(*along[0].shape, 3, 3, dtype=torch.float64)
    for i in range(3):
        tensor[..., i, i] = along[i]
        for j in range(i):
            diagonal = inverse_masses(states, potential, axes[i] + axes[j])
            tensor[..., i, j] = tensor[..., j, i] = diagonal - 0.5 * (along[i] + along[j])
    return tensor


def _along(at: KPoint, hamiltonian: Hamiltonian, k: Tensor, n: Tensor) -> tuple[Change, Change]:
    """First and second derivative of H along the unit vector ``n``."""
    vectors = hamiltonian.basis.vectors + hamiltonian.cartesian(k)
    nothing, speed = torch.zeros_like(at.local), vectors @ n
    first = replace(at, kinetic=speed, local=nothing, projectors=None, coupling=None)
    second = replace(first, kinetic=torch.ones_like(speed))
    if at.projectors is None:
        return Change(first, None), Change(second, None)
    b1, b2 = hamiltonian.projectors.moving(hamiltonian.cartesian(k), n)
    return Change(first, [(at, b1, None)]), Change(second, [(at, b2, None), (at, b1, b1)])


@dataclass(frozen=True)
class _Known:
    """Energies and vectors of the states solved at one k."""

    at: KPoint
    energies: Tensor
    vectors: Tensor


def _curvatures(known: _Known, group: Tensor, energies: Tensor, first: Change, second: Change) -> Tensor:
    """Second derivatives of a degenerate group's energies ``(g,)``, ascending by velocity, then by themselves."""
    energy = float(energies.mean())
    moved = first.apply(group)
    velocities, turn = torch.linalg.eigh(_inner(group, moved))
    group, moved = group @ turn, moved @ turn
    response = _response(known, energies, energy, moved)
    matrix = _inner(group, second.apply(group)) + 2.0 * _inner(moved, response)
    matrix = 0.5 * (matrix + matrix.conj().T)
    result, a = torch.zeros(len(velocities), dtype=torch.float64), 0
    for b in range(1, len(velocities) + 1):
        if b == len(velocities) or velocities[b] - velocities[a] > SAME_VELOCITY:
            result[a:b] = torch.linalg.eigvalsh(matrix[a:b, a:b])
            a = b
    return result


def _response(known: _Known, energies: Tensor, energy: float, moved: Tensor) -> Tensor:
    """sum_m |m⟩⟨m| moved / (E - E_m) over all states m but the group's."""
    other = (known.energies < energies.min() - 1e-12) | (known.energies > energies.max() + 1e-12)
    m = known.vectors[:, other]
    explicit = m @ (_inner(m, moved) / (energy - known.energies[other]).unsqueeze(1))

    def outside(x: Tensor) -> Tensor:
        return x - known.vectors @ _inner(known.vectors, x)

    def operator(x: Tensor) -> Tensor:
        return outside(known.at.apply(x) - energy * x)

    return explicit - _conjugate_gradients(operator, known, outside(moved), outside)


def _conjugate_gradients(
    operator: Callable[[Tensor], Tensor], known: _Known, right: Tensor, outside: Callable[[Tensor], Tensor]
) -> Tensor:
    """x of operator(x) = right in the complement of the known states, where the operator is positive."""
    x, r = torch.zeros_like(right), right
    size = right.norm(dim=0).clamp(min=1e-300)
    direction, before = torch.zeros_like(r), torch.ones(r.shape[1], dtype=torch.float64)
    for _ in range(LINEAR_STEPS):
        if bool((r.norm(dim=0) <= LINEAR_TOLERANCE * size + 1e-14).all()):
            return x
        z = outside(precondition(known.at, known.vectors[:, -1:], r))
        now = (r.conj() * z).sum(0).real
        direction = z + direction * (now / before)
        image = operator(direction)
        step = now / (direction.conj() * image).sum(0).real.clamp(min=1e-300)
        x, r, before = x + direction * step, r - image * step, now.clamp(min=1e-300)
    raise RuntimeError(
        f"the linear equations of the effective masses have a residual of {float((r.norm(dim=0) / size).max()):.1e} "
        f"after {LINEAR_STEPS} steps; solve for a few bands more"
    )
