"""One linear operator A: density -> averaged potentials and gradients, for batches of periodic and open structures.

The raw result per atom and receiver n is (<v>_n, <d_y v>_n, <d_z v>_n, <d_x v>_n) in V and V/Å; field features are
these times sqrt(4 pi) and pi sqrt(3/2) sigma_n.  `prepare` makes everything that depends on the geometry once;
`field`, `apply_transposed` and `atomic_energies` use it many times.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..units import COULOMB
from .open_boundary import all_pairs, apply_pairs, apply_pairs_transposed, pair_tensors, self_kernels
from .reciprocal import gaussian_filters, potentials_from_factors, prepare_phases, structure_factors


class ElectrostaticCache(NamedTuple):
    """Geometry-dependent tables; the last receiver is the density's own width (for the energy)."""

    pair_i: Tensor  #: (P,) atoms of open structures
    pair_j: Tensor  #: (P,)
    pair_tensors: Tensor  #: (P, m+1, 4, 4)
    first: list[Tensor]  #: per periodic structure: first and last+1 atom
    cos: list[Tensor]  #: per periodic structure (n_g, K_g)
    sin: list[Tensor]
    k: list[Tensor]  #: (K_g, 3), order (y, z, x)
    filters: list[Tensor]  #: (K_g, m+1)
    own: Tensor  #: (n, m+1, 4) what an atom's own Gaussian adds per unit of its density component


class Electrostatics(nn.Module):
    """Coulomb operator of Gaussian multipoles of width sigma, received by Gaussians of several widths.

    Periodic structures (TTT) use the k-sum up to ``kspace_cutoff_factor`` · 2.25 · (l_max + 1)^0.3 / sigma_min (1/Å),
    open ones (FFF) the erf kernels; ``l_max`` is the largest l of densities and features.  An atom's own, free-space
    part is left out of the features unless ``include_field_si`` and kept in the energy if ``include_self_energy``.
    """

    combined: Tensor
    own_kernel: Tensor

    def __init__(
        self,
        sigma: float,
        widths: list[float],
        kspace_cutoff_factor: float,
        include_field_si: bool,
        include_self_energy: bool,
        l_max: int = 1,
    ) -> None:
        super().__init__()
        self.n_widths = len(widths)
        self.kspace_cutoff = kspace_cutoff_factor * 0.75 * 3.0 * (l_max + 1.0) ** 0.3 / min([sigma, *widths])
        self.include_field_si = include_field_si
        self.include_self_energy = include_self_energy
        receivers = torch.tensor([*widths, sigma], dtype=torch.float64)
        combined = torch.sqrt(sigma**2 + receivers**2)
        self.register_buffer("combined", combined, persistent=False)
        b0, b1 = self_kernels(combined)
        own = COULOMB * torch.stack([b0, b1, b1, b1], dim=1)
        self.register_buffer("own_kernel", own, persistent=False)

    def prepare(self, positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor) -> ElectrostaticCache:
        """Tables for owned atoms at ``positions`` ``(n, 3)`` (strained, with gradient if wanted)."""
        dtype = positions.dtype
        periodic = pbc.all(dim=1)
        n_receivers = self.n_widths + 1
        if bool(periodic.all()):
            pair_i = torch.zeros([0], dtype=torch.int64, device=positions.device)
            pair_j = pair_i
            tensors = torch.zeros([0, n_receivers, 4, 4], dtype=dtype, device=positions.device)
        else:
            pair_i, pair_j = all_pairs(batch, torch.logical_not(periodic))
            tensors = pair_tensors(positions, pair_i, pair_j, self.combined)

        first: list[Tensor] = []
        cos: list[Tensor] = []
        sin: list[Tensor] = []
        k: list[Tensor] = []
        filters: list[Tensor] = []
        # own part: features subtract it where the k-sum contains it, add it where pair sums lack it
        sign = torch.zeros([batch.shape[0], n_receivers, 1], dtype=dtype, device=positions.device)
        in_sum = periodic.to(dtype)[batch]
        wanted_field = 1.0 if self.include_field_si else 0.0
        wanted_energy = 1.0 if self.include_self_energy else 0.0
        sign[:, : self.n_widths, 0] = (wanted_field - in_sum).unsqueeze(1)
        sign[:, self.n_widths, 0] = wanted_energy - in_sum
        counts = torch.bincount(batch, minlength=cell.shape[0])
        ends = torch.cumsum(counts, 0)
        for g in range(cell.shape[0]):
            if bool(periodic[g]):
                lo, hi = int((ends[g] - counts[g]).item()), int(ends[g].item())
                c, s, kg, weight = prepare_phases(positions[lo:hi], cell[g], self.kspace_cutoff)
                first.append(torch.tensor([lo, hi]))
                cos.append(c)
                sin.append(s)
                k.append(kg)
                filters.append(gaussian_filters(kg, weight, self.combined.to(dtype)))
        return ElectrostaticCache(
            pair_i, pair_j, tensors, first, cos, sin, k, filters, sign * self.own_kernel.to(dtype)
        )

    @torch.jit.unused
    def left_out(self, receiver: int) -> Tensor:
        """What an atom's own Gaussian would add to the features of a receiver, per component of its density ``(4,)``.

        Zeros where the features hold it.
        """
        own = self.own_kernel[receiver]
        return torch.zeros_like(own) if self.include_field_si else own.clone()

    def detached(self, cache: ElectrostaticCache) -> ElectrostaticCache:
        """The same tables without their gradient."""
        return ElectrostaticCache(
            cache.pair_i,
            cache.pair_j,
            cache.pair_tensors.detach(),
            cache.first,
            [x.detach() for x in cache.cos],
            [x.detach() for x in cache.sin],
            [x.detach() for x in cache.k],
            [x.detach() for x in cache.filters],
            cache.own.detach(),
        )

    def _receive(self, cache: ElectrostaticCache, density: Tensor, lo: int, hi: int, distributed: bool) -> Tensor:
        """Receivers lo … hi-1 of A p: ``(n, hi-lo, 4)``."""
        out = cache.own[:, lo:hi] * density.unsqueeze(1)
        if cache.pair_i.shape[0] > 0:
            out = out + apply_pairs(cache.pair_tensors[:, lo:hi], cache.pair_i, cache.pair_j, density)
        parts: list[Tensor] = []
        row = 0
        for g in range(len(cache.cos)):
            begin, end = int(cache.first[g][0].item()), int(cache.first[g][1].item())
            factors = structure_factors(
                density[begin:end].unsqueeze(1), cache.cos[g], cache.sin[g], cache.k[g], distributed
            )
            factors = factors * cache.filters[g][:, lo:hi]
            field = potentials_from_factors(factors, cache.cos[g], cache.sin[g], cache.k[g])
            if begin > row:
                parts.append(torch.zeros([begin - row, hi - lo, 4], dtype=out.dtype, device=out.device))
            parts.append(field)
            row = end
        if len(parts) > 0:
            if density.shape[0] > row:
                parts.append(torch.zeros([density.shape[0] - row, hi - lo, 4], dtype=out.dtype, device=out.device))
            out = out + torch.cat(parts)
        return out

    def field(self, cache: ElectrostaticCache, density: Tensor, distributed: bool) -> Tensor:
        """A p: density ``(n, 4)`` -> (<v>, <grad v>) ``(n, n_widths, 4)``."""
        return self._receive(cache, density, 0, self.n_widths, distributed)

    def potentials(self, cache: ElectrostaticCache, density: Tensor, distributed: bool) -> Tensor:
        """(<v>, <grad v>) received with the density's own width ``(n, 4)``; includes what the energy includes."""
        return self._receive(cache, density, self.n_widths, self.n_widths + 1, distributed)[:, 0]

    def apply_transposed(self, cache: ElectrostaticCache, weights: Tensor, distributed: bool) -> Tensor:
        """A^T w: ``(n, n_widths, 4)`` -> ``(n, 4)``; the field of sources of the receivers' widths."""
        m = self.n_widths
        out = (cache.own[:, :m] * weights).sum(1)
        if cache.pair_i.shape[0] > 0:
            out = out + apply_pairs_transposed(cache.pair_tensors[:, :m], cache.pair_i, cache.pair_j, weights)
        for g in range(len(cache.cos)):
            begin, end = int(cache.first[g][0].item()), int(cache.first[g][1].item())
            factors = structure_factors(weights[begin:end], cache.cos[g], cache.sin[g], cache.k[g], distributed)
            factors = (factors * cache.filters[g][:, :m]).sum(2, keepdim=True)
            out[begin:end] += potentials_from_factors(factors, cache.cos[g], cache.sin[g], cache.k[g])[:, 0]
        return out
