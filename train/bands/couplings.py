"""Electron–phonon couplings of the band edges: matrix elements of the derivative by the position of an atom.

Between the edge at k and that at k + q,

    g² = 1/d Σ_ij |⟨j, k + q| ∂H/∂R_aα |i, k⟩|²,

with i and j in the degenerate groups of the edge and d the number of the i, so that g does not depend on the choice of
states in a group. With K = k + q + G and K' = k + G', ∂H/∂R multiplies each element of the atom's part of H by
i (K - K')_α, up to a phase of the atom that g does not see.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ...bands import HARTREE, Hamiltonian, Pseudopotential, solve
from ...bands.eigenvalues import DEGENERATE
from .data import Coupling
from .targets import System, edges

#: added to g² (Ha²/Bohr²): the root of a coupling that symmetry forbids has a derivative
TINY = 1e-24
#: lengths |q + G - G'| that are the same to this many 1/Bohr are evaluated once
SAME = 1e-9


def couplings_cost(system: System, potential: Pseudopotential) -> Tensor:
    """Σ_q w_q (g - g_ref)², eV²/Bohr²."""
    rows = system.data.couplings
    targets = torch.tensor([row.target for row in rows], dtype=torch.float64)
    weights = torch.from_numpy(system.data.q_weights)[[row.q for row in rows]]
    return (weights * (couplings(system, potential) - targets).square()).sum()


def couplings(system: System, potential: Pseudopotential) -> Tensor:
    """g (n,) eV/Bohr of the rows of the system's table; differentiable, by a full diagonalisation, if gradients are."""
    place, valence, conduction = edges(system)
    k = system.k[place]
    qpoints = torch.from_numpy(system.data.qpoints)
    states: dict[tuple[int, str], Tensor] = {}

    def edge(number: int, which: str) -> Tensor:
        if (number, which) not in states:
            at = k if number < 0 else k + qpoints[number]
            states[number, which] = _edge(system, potential, at, {"valence": valence, "conduction": conduction}[which])
        return states[number, which]

    found = []
    for row in system.data.couplings:
        before, after = edge(-1, row.edge), edge(row.q, row.edge)
        elements = _element(system.hamiltonian, potential, k, qpoints[row.q], row, before, after)
        found.append(HARTREE * (elements.abs().square().sum() / before.shape[1] + TINY).sqrt())
    return torch.stack(found) if found else torch.zeros(0, dtype=torch.float64)


def _edge(system: System, potential: Pseudopotential, k: Tensor, band: int) -> Tensor:
    """States (d, n) of the degenerate group of ``band`` at ``k`` (3,)."""
    hamiltonian = system.hamiltonian
    doubled = not hamiltonian.terms_of(potential).spin_orbit
    place = band // 2 if doubled else band
    if torch.is_grad_enabled():
        found: Tensor = _Group.apply(hamiltonian.matrix(k[None], potential)[0], place)
        return found
    states = solve(hamiltonian, potential, k[None], system.data.n_bands)
    return states.vectors[0][:, _group(states.energies[0], place)]


def _group(energies: Tensor, place: int) -> Tensor:
    """Places of the states that are degenerate with one, by steps of at most `DEGENERATE`."""
    number = (energies.diff() > DEGENERATE).cumsum(0)
    number = torch.cat([torch.zeros_like(number[:1]), number])
    return (number == number[place]).nonzero().flatten()


class _Group(torch.autograd.Function):
    """The states of a degenerate group of a Hermitian matrix, with the derivative to states outside of it.

    Rotations within the group are left out: what is differentiated must not depend on them.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, place: int) -> Tensor:
        energies, vectors = torch.linalg.eigh(matrix)
        group = _group(energies, place)
        ctx.save_for_backward(energies, vectors, group)
        return vectors[:, group]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        energies, vectors, group = ctx.saved_tensors
        difference = energies[group] - energies[:, None]
        outside = torch.ones(len(energies), dtype=torch.bool)
        outside[group] = False
        mixing = torch.zeros_like(difference)
        mixing[outside] = 1.0 / difference[outside]
        by_matrix = vectors @ (mixing * (vectors.conj().T @ gradient)) @ vectors[:, group].conj().T
        return 0.5 * (by_matrix + by_matrix.conj().T), None


def _element(
    hamiltonian: Hamiltonian,
    potential: Pseudopotential,
    k: Tensor,
    q: Tensor,
    row: Coupling,
    before: Tensor,
    after: Tensor,
) -> Tensor:
    """⟨after| ∂H/∂R_aα |before⟩ (n_after, n_before), Ha/Bohr."""
    basis, crystal = hamiltonian.basis, hamiltonian.crystal
    n, terms = len(basis), hamiltonian.terms_of(potential)
    spin = before.shape[0] // n
    left = basis.vectors + hamiltonian.cartesian(k + q)
    right = basis.vectors + hamiltonian.cartesian(k)
    transfer = left[:, None] - right[None]
    rounded, shell = (transfer.norm(dim=2) / SAME).round().unique(return_inverse=True)
    kind = potential.rows(crystal)[int(crystal.kind_of_atom[row.atom])]
    v = potential.local(rounded * SAME, crystal, terms)[:, kind][shell.reshape(-1)].reshape(shell.shape)
    place = crystal.positions[row.atom] @ crystal.cell
    phase = transfer @ place
    moved = 1j * transfer[:, :, row.axis] * torch.polar(torch.ones_like(phase), phase) * v / crystal.volume
    right_states = before.reshape(n, -1)
    acting = (moved @ right_states).reshape(before.shape)
    if terms.spin_orbit or terms.nonlocal_:
        strengths = potential.strengths(crystal, terms)
        coupling = hamiltonian.projectors.coupling(strengths, terms.spin_orbit)[row.atom].to(torch.complex128)
        # the projectors' phases are those of G alone: the phase of q belongs to the transfer, as in the local part
        turn = torch.polar(
            torch.ones(()).double(), hamiltonian.cartesian(q) @ (crystal.positions[row.atom] @ crystal.cell)
        )
        b_left, b_right = (hamiltonian.projectors_at(point)[:, row.atom] for point in (k + q, k))
        for sign, by_left, by_right in ((1.0, left, None), (-1.0, None, right)):
            bl = b_left if by_left is None else b_left * by_left[:, None, None, row.axis]
            br = b_right if by_right is None else b_right * by_right[:, None, None, row.axis]
            projected = (br.reshape(n, -1).conj().T @ right_states).reshape(-1, before.shape[1])
            size = projected.shape[0]
            turned = coupling.reshape(size, size) @ projected
            back = bl.reshape(n, -1) @ turned.reshape(bl.shape[1] * bl.shape[2], -1)
            acting = acting + sign * 1j * turn * back.reshape(n * spin, -1)
    return after.conj().T @ acting
