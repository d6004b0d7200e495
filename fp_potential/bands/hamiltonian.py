"""The one-electron Hamiltonian of a pseudopotential in plane waves.

With K = k + G, in Hartree,

    H(G, G') = delta_GG' |K|² / 2 + (1 / Omega) sum_a exp(i (G - G') · tau_a) v_a(|G - G'|) + H_so + H_nl

v is evaluated once per shell |G - G'|. The spin-orbit and non-local parts are those of `projectors`. Waves are
exp(-i K · r) where atoms are at +tau. With spin-orbit coupling a vector has the components (G, spin), spin fastest.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .basis import PlaneWaves
from .crystal import Crystal
from .parameters import Terms
from .projectors import Projectors
from .pseudopotential import Pseudopotential

#: imaginary parts of a local potential below this part of its largest value are rounding
REAL = 1e-14
#: k-points of which projectors are kept where they are cached, in bytes
CACHE_BYTES = 2**30


class Hamiltonian:
    """H(k) of a crystal in a basis, for any pseudopotential of its species.

    ``terms`` the terms taken, by default those of the pseudopotential; ``cache`` keeps the projectors of the k-points
    seen (up to 1 GiB), which do not depend on the pseudopotential's parameters.
    """

    def __init__(self, crystal: Crystal, basis: PlaneWaves, terms: Terms | None = None, cache: bool = False) -> None:
        self.crystal = crystal
        self.basis = basis if basis.crystal is crystal else basis.on(crystal)
        self.terms, self.cache = terms, cache
        phase = 2.0 * math.pi * self.basis.differences.to(torch.float64) @ crystal.positions.T
        waves = torch.polar(torch.ones_like(phase), phase) / crystal.volume
        structure = torch.zeros(len(phase), len(crystal.kinds), dtype=torch.complex128)
        #: sum over the atoms of a kind of exp(i (G - G') · tau) / Omega, (M, n_kinds)
        self.structure = structure.index_add_(1, crystal.kind_of_atom, waves)
        self._projectors: Projectors | None = None
        self._cached: OrderedDict[tuple[float, ...], Tensor] = OrderedDict()

    def on(self, crystal: Crystal) -> Hamiltonian:
        """The same with the same integers G on another, for example strained, cell."""
        return Hamiltonian(crystal, self.basis.on(crystal), self.terms, self.cache)

    def scaled(self, ratio: float) -> Hamiltonian:
        """The same with all lengths of the crystal multiplied by ``ratio`` and the same integers G."""
        return self.on(self.crystal.scaled(ratio))

    def terms_of(self, potential: Pseudopotential) -> Terms:
        """The terms taken of a pseudopotential."""
        return potential.terms if self.terms is None else self.terms

    def dimension(self, potential: Pseudopotential) -> int:
        """Number of components of a state: the waves, twice with spin-orbit coupling."""
        return len(self.basis) * (2 if self.terms_of(potential).spin_orbit else 1)

    def local_coefficients(self, potential: Pseudopotential) -> Tensor:
        """W(G - G') of every distinct difference, ``(M,)`` complex, differentiable in the potential's parameters."""
        rows = potential.rows(self.crystal)
        v = potential.local(self.basis.q, self.crystal, self.terms_of(potential))[:, rows]
        return (v[self.basis.shell] * self.structure).sum(1)

    def cartesian(self, k: Tensor) -> Tensor:
        """Fractions ``(…, 3)`` of the reciprocal vectors in 1/Bohr."""
        return torch.as_tensor(k, dtype=torch.float64) @ self.crystal.reciprocal

    @property
    def projectors(self) -> Projectors:
        """The projectors, made when first asked for; for k up to two reciprocal vectors in length."""
        if self._projectors is None:
            # k and k + q of the first zone
            reach = self.basis.vectors.norm(dim=1).max() + 2.0 * self.crystal.reciprocal.norm(dim=1).max()
            self._projectors = Projectors(self.basis, float(reach))
        return self._projectors

    def projectors_at(self, k: Tensor) -> Tensor:
        """B of `projectors` at ``k`` ``(3,)`` (fractions), ``(N, n_atoms, 3, m)``; from the cache where it is on."""
        key = tuple(float(x) for x in k)
        if key in self._cached:
            return self._cached[key]
        found = self.projectors.at(self.cartesian(k))
        if self.cache:
            self._cached[key] = found
            while len(self._cached) > 1 and len(self._cached) * found.nbytes > CACHE_BYTES:
                self._cached.popitem(last=False)
        return found

    def fixed(self, potential: Pseudopotential) -> FixedHamiltonian:
        """H of the potential's present parameters: what does not depend on k, without derivatives."""
        with torch.no_grad():
            terms = self.terms_of(potential)
            return self.with_values(self.local_coefficients(potential), potential.strengths(self.crystal, terms), terms)

    def with_values(self, coefficients: Tensor, strengths: Tensor, terms: Terms) -> FixedHamiltonian:
        """H of given W(G - G') ``(M,)`` and strengths of the projectors ``(3, n_kinds)``, without derivatives."""
        with torch.no_grad():
            coefficients = coefficients.detach()
            largest = coefficients.abs().max()
            if bool(coefficients.imag.abs().max() <= REAL * largest):
                coefficients = coefficients.real
            coupling = None
            if terms.spin_orbit or terms.nonlocal_:
                coupling = self.projectors.coupling(strengths.detach(), terms.spin_orbit)
            local = coefficients[self.basis.pair.reshape(-1)].reshape(self.basis.pair.shape)
            return FixedHamiltonian(self, local, coupling, terms.spin_orbit)

    def matrix(self, k: Tensor, potential: Pseudopotential) -> Tensor:
        """H ``(b, d, d)`` complex128 at ``k`` ``(b, 3)`` (fractions), differentiable in the potential's parameters.

        For energies take `eigenvalues.band_energies`, whose gradient does not go through this matrix.
        """
        terms = self.terms_of(potential)
        pair = self.basis.pair
        local = self.local_coefficients(potential)[pair.reshape(-1)].reshape(pair.shape)
        coupling = None
        if terms.spin_orbit or terms.nonlocal_:
            coupling = self.projectors.coupling(potential.strengths(self.crystal, terms), terms.spin_orbit)
        fixed = FixedHamiltonian(self, local, coupling, terms.spin_orbit)
        points = torch.as_tensor(k, dtype=torch.float64).reshape(-1, 3)
        return torch.stack([fixed.at(point).dense().to(torch.complex128) for point in points])


@dataclass(frozen=True)
class FixedHamiltonian:
    """H at given values of the potential: local matrix ``(N, N)``, coupling of the projectors (None: none), spin."""

    hamiltonian: Hamiltonian
    local: Tensor
    coupling: Tensor | None
    spin: bool

    def at(self, k: Tensor) -> KPoint:
        """H at ``k`` ``(3,)`` (fractions)."""
        vectors = self.hamiltonian.basis.vectors + self.hamiltonian.cartesian(k)
        projectors = None if self.coupling is None else self.hamiltonian.projectors_at(k)
        return KPoint(0.5 * (vectors * vectors).sum(1), self.local, projectors, self.coupling, 2 if self.spin else 1)

    def part(self, local: bool = False, projectors: bool = False) -> FixedHamiltonian:
        """Only the local, or only the projectors', part; the kinetic energy stays (`KPoint.kinetic`)."""
        return replace(
            self,
            local=self.local if local else torch.zeros_like(self.local),
            coupling=self.coupling if projectors else None,
        )


@dataclass(frozen=True)
class KPoint:
    """H at one k: kinetic energies ``(N,)``, local matrix ``(N, N)``, projectors, their coupling, spin components."""

    kinetic: Tensor
    local: Tensor
    projectors: Tensor | None
    coupling: Tensor | None
    n_spin: int

    @property
    def dimension(self) -> int:
        """Number of components of a state."""
        return len(self.kinetic) * self.n_spin

    def among(self, waves: Tensor) -> KPoint:
        """H among some of the waves, given by their indices."""
        projectors = None if self.projectors is None else self.projectors[waves]
        return replace(self, kinetic=self.kinetic[waves], local=self.local[waves][:, waves], projectors=projectors)

    def _coupling_matrices(self) -> Tensor:
        """Lambda as ``(n_atoms, P, P)``, P = 3 m or, with spin, 6 m."""
        assert self.coupling is not None
        n = math.isqrt(self.coupling[0].numel())
        return self.coupling.reshape(len(self.coupling), n, n)

    def apply(self, states: Tensor) -> Tensor:
        """H c of states ``(d, n)`` complex, without the matrix of the projectors' part."""
        x = states.reshape(len(self.kinetic), -1)
        if self.local.is_complex():
            result = self.local @ x
        else:
            result = torch.view_as_complex((self.local @ torch.view_as_real(x).flatten(1)).reshape(*x.shape, 2))
        result = result + self.kinetic.unsqueeze(1) * x
        result = result.reshape(states.shape)
        if self.projectors is not None:
            result = result + self.between(self.projectors, self.projectors, states)
        return result

    def between(self, left: Tensor, right: Tensor, states: Tensor) -> Tensor:
        """L Lambda R† c of projectors L and R ``(N, n_atoms, 3, m)`` and states ``(d, n)``."""
        n = len(self.kinetic)
        p = right.reshape(n, -1).conj().T @ states.reshape(n, -1)
        matrices = self._coupling_matrices().to(p.dtype)
        turned = torch.bmm(matrices, p.reshape(len(matrices), matrices.shape[1], -1))
        return (left.reshape(n, -1) @ turned.reshape(-1, p.shape[1])).reshape(states.shape)

    def dense(self) -> Tensor:
        """H as a Hermitian matrix ``(d, d)``: real where it is, or complex."""
        n = len(self.kinetic)
        matrix = self.local + torch.diag(self.kinetic)
        if self.projectors is None:
            return matrix
        b, coupling = self.projectors, self.coupling
        assert coupling is not None
        if self.n_spin == 1:
            left = torch.einsum("gaim,aimjn->gajn", b, coupling.to(b.dtype))
            full = matrix + left.reshape(n, -1) @ b.reshape(n, -1).conj().T
        else:
            left = torch.einsum("gaim,aimsjnt->gstajn", b, coupling)
            blocks = (left.reshape(4 * n, -1) @ b.reshape(n, -1).conj().T).reshape(n, 2, 2, n).transpose(2, 3)
            spin = torch.eye(2, dtype=torch.float64)
            full = (blocks + matrix[:, None, :, None] * spin[:, None]).reshape(2 * n, 2 * n)
        return 0.5 * (full + full.conj().T)

    def diagonal(self) -> Tensor:
        """The diagonal of H ``(d,)``, real."""
        result = self.kinetic + self.local.diagonal().real
        result = result.unsqueeze(1).expand(-1, self.n_spin)
        if self.projectors is not None:
            b, coupling = self.projectors, self.coupling
            assert coupling is not None
            if self.n_spin == 1:
                part = torch.einsum("gaim,aimjn,gajn->g", b, coupling.to(b.dtype), b.conj()).unsqueeze(1)
            else:
                part = torch.einsum("gaim,aimsjns,gajn->gs", b, coupling, b.conj())
            result = result + part.real
        return result.reshape(-1)
