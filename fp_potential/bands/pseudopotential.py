"""A pseudopotential of some species: a local form and the analytic terms of nine parameters each."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from . import parameters as slots
from .crystal import Crystal
from .local_forms import LocalForm, zunger
from .parameters import Terms

#: Attenuation of the long-range term, 1/Bohr (`LRgamma` of published files)
LONG_RANGE_GAMMA = 0.2
#: below this q (1/Bohr) the long-range term is left out
SMALLEST_Q = 1e-4


class Pseudopotential(nn.Module):
    """v_s(q) of the species of one or more crystals, and the strengths of their spin-orbit and non-local projectors.

    ``form`` the learned local form, ``parameters_by_species`` ``(n_species, 9)`` the analytic parameters
    (`parameters.SLOTS`), ``terms`` the terms that are switched on, ``gamma`` the attenuation of the long-range term,
    ``slaved`` the species whose long-range charge is that which makes a crystal neutral.

    The local potential is v = (form(q) + zunger(q; a0 … a3)) (1 + a8 (Omega / Omega_0 - 1))
    - a4 (4 pi / q²) exp(-q² / 4 gamma²). Strain scales the short-range part only: the long-range charges stay neutral.
    """

    def __init__(
        self,
        species: Sequence[str],
        form: LocalForm,
        parameters: Tensor | None = None,
        terms: Terms | None = None,
        gamma: float = LONG_RANGE_GAMMA,
        slaved: str | None = None,
    ) -> None:
        super().__init__()
        self.species = tuple(species)
        if len(set(self.species)) != len(self.species) or form.n_species != len(self.species):
            raise ValueError(f"a form of {form.n_species} species does not fit to the species {self.species}")
        if slaved is not None and slaved not in self.species:
            raise ValueError(f"`slaved` must be one of {self.species}, not {slaved!r}")
        if not (math.isfinite(gamma) and gamma > 0.0):
            raise ValueError(f"`gamma` must be a positive attenuation in 1/Bohr, not {gamma}")
        values = torch.zeros(len(self.species), slots.N_SLOTS) if parameters is None else parameters
        if values.shape != (len(self.species), slots.N_SLOTS):
            raise ValueError(
                f"`parameters` must be ({len(self.species)}, {slots.N_SLOTS}), nine of each species, "
                f"not {tuple(values.shape)}"
            )
        self.form = form
        self.parameters_by_species = nn.Parameter(values.detach().to(torch.float64).clone())
        self.terms = Terms() if terms is None else terms
        self.gamma, self.slaved = float(gamma), slaved

    def rows(self, crystal: Crystal) -> list[int]:
        """The index here of each of the crystal's kinds; a ValueError names those that are missing."""
        missing = [kind for kind in crystal.kinds if kind not in self.species]
        if missing:
            raise ValueError(f"the pseudopotential knows the species {self.species}, the crystal has {missing}")
        return [self.species.index(kind) for kind in crystal.kinds]

    def local(self, q: Tensor, crystal: Crystal | None = None, terms: Terms | None = None) -> Tensor:
        """v ``(m, n_species)`` Ha Bohr³ at ``q`` ``(m,)`` 1/Bohr; ``crystal`` gives strain and neutrality."""
        terms = self.terms if terms is None else terms
        v = self._unstrained(q, terms)
        if terms.strain and crystal is not None:
            v = v * (1.0 + self.parameters_by_species[:, slots.STRAIN] * (crystal.volume_ratio - 1.0))
        if terms.long_range:
            far = q.clamp(min=SMALLEST_Q)
            tail = 4.0 * math.pi / far**2 * torch.exp(-(far**2) / (4.0 * self.gamma**2)) * (q >= SMALLEST_Q)
            v = v - tail.unsqueeze(1) * self.charges(crystal)
        return v

    def volume_derivative(self, q: Tensor, crystal: Crystal, terms: Terms | None = None) -> Tensor:
        """dv / d ln Omega at fixed ``q`` ``(m, n_species)``: a8 (Omega / Omega_0) v_short with strain term, or 0."""
        terms = self.terms if terms is None else terms
        slope = self.parameters_by_species[:, slots.STRAIN] * crystal.volume_ratio * float(terms.strain)
        return slope * self._unstrained(q, terms)

    def _unstrained(self, q: Tensor, terms: Terms) -> Tensor:
        """The short-range local potential of the unstrained crystal."""
        v = self.form(q)
        if terms.analytic:
            v = v + zunger(q, self.parameters_by_species[:, slots.LOCAL])
        return v

    def charges(self, crystal: Crystal | None = None) -> Tensor:
        """Long-range charges a4 ``(n_species,)``; that of the slaved species is -sum_s n_s a4_s / n_slaved."""
        charges = self.parameters_by_species[:, slots.LONG_RANGE]
        if self.slaved is None or crystal is None or self.slaved not in crystal.species:
            return charges
        counts = torch.tensor([float(crystal.species.count(s)) for s in self.species], dtype=charges.dtype)
        free = torch.tensor([s != self.slaved for s in self.species])
        slaved = -(counts * free * charges).sum() / counts[~free].sum()
        return torch.where(free, charges, slaved)

    def strengths(self, crystal: Crystal, terms: Terms | None = None) -> Tensor:
        """(a5, a6, a7) of each of the crystal's kinds, ``(3, n_kinds)`` Ha; zero where the term is off."""
        terms = self.terms if terms is None else terms
        a = self.parameters_by_species[self.rows(crystal)]
        zero = torch.zeros_like(a[:, 0])
        soc = a[:, slots.SPIN_ORBIT] if terms.spin_orbit else zero
        nonlocal_ = a[:, slots.NONLOCAL] if terms.nonlocal_ else torch.zeros_like(a[:, slots.NONLOCAL])
        return torch.stack([soc, nonlocal_[:, 0], nonlocal_[:, 1]])
