"""What each term of the Hamiltonian contributes to the bands."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .eigenvalues import Eigenstates
from .pseudopotential import Pseudopotential


@dataclass(frozen=True)
class BandTerms:
    """Expectation values ``(b, n_bands)`` Ha: kinetic energy, local potential, non-local and spin-orbit terms."""

    kinetic: Tensor
    local: Tensor
    nonlocal_: Tensor
    spin_orbit: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum: the band energies."""
        return self.kinetic + self.local + self.nonlocal_ + self.spin_orbit


def decompose(states: Eigenstates, potential: Pseudopotential) -> BandTerms:
    """⟨T⟩, ⟨V_loc⟩, ⟨V_nl⟩ and ⟨V_so⟩ of every band; in a degenerate group the mean, which alone is defined."""
    hamiltonian = states.hamiltonian
    fixed = hamiltonian.fixed(potential)
    strengths = potential.strengths(hamiltonian.crystal, hamiltonian.terms_of(potential)).detach()
    parts = torch.zeros(4, *states.energies.shape, dtype=torch.float64)
    for i, k in enumerate(states.k):
        at, c = fixed.at(k), states.vectors[i]
        nothing = torch.zeros_like(at.kinetic)
        local = replace(at, kinetic=nothing, projectors=None, coupling=None)
        kinetic = replace(local, kinetic=at.kinetic, local=torch.zeros_like(at.local))
        parts[0, i], parts[1, i] = _expectation(c, kinetic.apply(c)), _expectation(c, local.apply(c))
        if at.projectors is None:
            continue
        for row, kept in ((2, [0.0, 1.0, 1.0]), (3, [1.0, 0.0, 0.0])):
            some = strengths * torch.tensor(kept, dtype=torch.float64).unsqueeze(1)
            term = replace(at, coupling=hamiltonian.projectors.coupling(some, fixed.spin))
            parts[row, i] = _expectation(c, term.between(at.projectors, at.projectors, c))
    return BandTerms(*(states.listed(states.traced(part)) for part in parts))


def _expectation(left: Tensor, right: Tensor) -> Tensor:
    return (left.conj() * right).sum(0).real
