"""One linear operator A: density -> averaged potentials and gradients, for structures of any periodicity and size.

The raw result per atom and receiver n is (<v>_n, <d_y v>_n, <d_z v>_n, <d_x v>_n) in V and V/Å; field features are
these times sqrt(4 pi) and pi sqrt(3/2) sigma_n.  `prepare` makes everything that depends on the geometry once;
`field`, `apply_transposed` and `potentials` use it many times.
"""

from typing import List, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ..communication import gather_ranks, sum_ranks, this_rank
from ..options.kspace import DEFAULT, LOOSEST, TIGHTEST, KSpaceMethod
from ..units import COULOMB
from . import reciprocal
from .boundary import count, padded_box
from .cost import MethodTimes, Work
from .jellium import Jellium, apply_jellium, apply_jellium_transposed, detached_jellium, prepare_jellium, receivers
from .mesh import particle_mesh as mesh
from .mesh.accuracy import TIGHTEST_SINGLE
from .mesh.particle_mesh import Mesh, MeshTables, detach_mesh
from .pairs import all_pairs, apply_pairs, apply_pairs_transposed, pair_tensors, self_kernels
from .reciprocal import WaveTables, detach_waves, open_cutoff, prepare_waves


class ElectrostaticCache(NamedTuple):
    """Geometry-dependent tables; the last receiver is the density's own width (for the energy)."""

    pair_i: Tensor  #: (P,) atoms of this process in structures without periodic axes
    pair_j: Tensor  #: (P,) their partners, rows of all atoms where other ranks own some
    pair_tensors: Tensor  #: (P, m+1, 4, 4)
    first_of_all: int  #: row of this process's first atom among the ``all_atoms`` of all ranks; -1: one process
    all_atoms: int
    waves: List[WaveTables]
    meshes: List[MeshTables]
    rows: Tensor  #: atoms of the waves, then those of the meshes
    own: Tensor  #: (n, m+1, 4) what an atom's own Gaussian adds per unit of its density component
    jellium: List[Jellium]  #: of the only structure, or none
    chosen: Tensor  #: (B, 4) int64, index of the method in `KSpaceMethod` and the points of the mesh, zero without one


def with_parts(x: Tensor, rows: Tensor, parts: List[Tensor]) -> Tensor:
    """``x`` ``(n, …)`` with the rows ``rows`` of several structures added, whose values are ``parts``."""
    if len(parts) == 0:
        return x
    if len(parts) == 1 and parts[0].shape[0] == x.shape[0]:
        return x + parts[0]
    return x.index_add(0, rows, torch.cat(parts))


class Electrostatics(nn.Module):
    """Coulomb operator of Gaussian multipoles of width sigma, received by Gaussians of several widths.

    rho(r) = sum_i (q_i - d_i·grad) g_sigma(r - r_i),   <.>_n the average over g_sigma_n at an atom,
    g_s(r) = (2 pi s²)^(-3/2) exp(-r²/2s²).

    Structures without periodic axes use the erf kernels (`open`), others the sum over waves (`reciprocal`) or, when
    that takes less time, a particle mesh (`mesh`), both with kernels truncated along open axes.  Fully periodic ones
    have waves up to ``kspace_cutoff_factor`` · 2.25 · (l_max + 1)^0.3 / sigma_min (1/Å), ``l_max`` being the largest l
    of densities and features.  An atom's own, free-space part is left out of the features unless ``include_field_si``
    and kept in the energy if ``include_self_energy``.

    Args:
        sigma: width of the density, Å.
        widths: sigma_n of the receivers of features, Å; one more has the width of the density, for the energy.
    """

    combined: Tensor
    own_kernel: Tensor
    jellium: List[float]  #: heights of the faces of a compensating slab, Å; none: []

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
        self.open_cutoff = open_cutoff(float(combined.min()))
        self.exact = reciprocal.PRECISION
        self.times = MethodTimes(len(widths))
        self.mesh = Mesh(combined.tolist(), self.kspace_cutoff, self.times)
        self.methods = list(get_args(KSpaceMethod))
        self.tightest_single = TIGHTEST_SINGLE
        self.tightest_double = TIGHTEST
        self.loosest = LOOSEST
        self.method = "auto"
        self.accuracy = DEFAULT
        self.remove_net_force = False
        self.jellium = []

    def set_kspace(self, method: str, accuracy: float, remove_net_force: bool = False) -> None:
        """How the long range is computed, until it is called again.

        Args:
            method: auto (the fastest), reciprocal, mesh or open (structures without periodic axes only).
            accuracy: relative rms error of the forces of the mesh, and of open axes on it.
            remove_net_force: take the sum of the long range's forces, which a mesh leaves, from all atoms in equal
                parts; they are no longer the gradient of the energy then.

        Raises:
            ValueError: no such method, or an accuracy that no mesh has.
        """
        if method not in self.methods:
            raise ValueError(f"kspace method {method}: expected one of auto, reciprocal, mesh, open")
        if not (self.tightest_double <= accuracy <= self.loosest):
            raise ValueError(
                f"kspace_accuracy {accuracy}: expected a relative force error between {self.tightest_double} and "
                f"{self.loosest}"
            )
        self.method = method
        self.accuracy = accuracy
        self.remove_net_force = remove_net_force

    def set_jellium(self, bounds: List[float]) -> None:
        """A uniform slab between two heights (Å) that carries minus the total charge (`jellium`); [] takes it away.

        Heights are those of `jellium.slab_normal`.  For one structure at a time, with two periodic axes.
        """
        self.jellium = bounds

    def prepare(
        self, positions: Tensor, cell: Tensor, pbc: Tensor, batch: Tensor, distributed: bool = False
    ) -> ElectrostaticCache:
        """Tables for owned atoms at ``positions`` ``(n, 3)`` (strained, with gradient if wanted).

        ``cell`` ``(B, 3, 3)``; vectors along axes without ``pbc`` ``(B, 3)`` do not matter.

        Raises:
            ValueError: a cell that spans nothing along its periodic axes, non-finite positions, or a method or an
                accuracy that this structure or precision cannot have.
        """
        accuracy = self._attainable(positions.dtype)
        counts = torch.bincount(batch, minlength=cell.shape[0])
        ends = torch.cumsum(counts, 0)
        totals, processes = counts, 1.0
        if distributed:
            everyone = gather_ranks(counts)
            totals, processes = everyone.sum(0), float(everyone.shape[0])
        in_pairs = torch.zeros([cell.shape[0]], dtype=torch.bool, device=positions.device)
        waves: List[WaveTables] = []
        meshes: List[MeshTables] = []
        chosen = torch.zeros([cell.shape[0], 4], dtype=torch.int64)
        for g in range(cell.shape[0]):
            open_axes = [not bool(pbc[g, 0]), not bool(pbc[g, 1]), not bool(pbc[g, 2])]
            atoms = float(totals[g])
            if self.times.by_pairs(self.method, count(open_axes) == 3, atoms):
                in_pairs[g] = True
                chosen[g, 0] = self.methods.index("open")
                continue
            begin, end = int(ends[g] - counts[g]), int(ends[g])
            here = positions[begin:end]
            box = padded_box(here, cell[g], open_axes, self.mesh.widest, self.exact, distributed)
            work = Work(atoms, processes, box, self.open_cutoff if box.n_open > 0 else self.kspace_cutoff)
            by_mesh = False
            if self.times.mesh_is_tried(self.method, work):
                coarse = self.mesh.box(here, cell[g], open_axes, accuracy, distributed)
                choice = self.mesh.choose(coarse, accuracy, atoms, processes)
                by_mesh = self.times.by_mesh(self.method, work, choice.time)
                if by_mesh:
                    chosen[g] = torch.tensor([self.methods.index("mesh")] + choice.shape)
                    meshes.append(self.mesh.prepare(here, coarse, choice, accuracy, begin, distributed))
            if not by_mesh:
                self.times.check_waves(work)
                chosen[g, 0] = self.methods.index("reciprocal")
                waves.append(prepare_waves(here, box, work.cutoff, self.combined, begin))
        rows = [torch.arange(w.begin, w.end, device=positions.device) for w in waves]
        for t in meshes:
            rows.append(torch.arange(t.begin, t.end, device=positions.device))
        rows.append(batch[:0])
        pair_i, pair_j, tensors, first, total = self._pair_tables(positions, batch, in_pairs, distributed)
        own = self._own(torch.logical_not(in_pairs).to(positions.dtype)[batch])
        slabs = self._slabs(positions, cell, pbc)
        return ElectrostaticCache(
            pair_i, pair_j, tensors, first, total, waves, meshes, torch.cat(rows), own, slabs, chosen
        )

    def _pair_tables(
        self, positions: Tensor, batch: Tensor, in_pairs: Tensor, distributed: bool
    ) -> tuple[Tensor, Tensor, Tensor, int, int]:
        """The first five fields of `ElectrostaticCache`, for the structures that ``in_pairs`` ``(B,)`` marks."""
        first, total = -1, 0
        pair_i, pair_j = batch[:0], batch[:0]
        tensors = torch.zeros([0, self.n_widths + 1, 4, 4], dtype=positions.dtype, device=positions.device)
        if bool(in_pairs.any()):
            sources = positions
            if distributed:
                owned = torch.full([1], batch.shape[0], dtype=torch.int64, device=batch.device)
                ranks = gather_ranks(owned)[:, 0]
                first, total = int(ranks[: this_rank()].sum()), int(ranks.sum())
                sources = self._everyones(positions, first, total)
            pair_i, pair_j = self._pairs(batch, in_pairs, first, total)
            tensors = pair_tensors(positions, sources, pair_i, pair_j, self.combined)
        return pair_i, pair_j, tensors, first, total

    def _slabs(self, positions: Tensor, cell: Tensor, pbc: Tensor) -> List[Jellium]:
        slabs: List[Jellium] = []
        if len(self.jellium) > 0:
            if cell.shape[0] != 1 or int(pbc.sum()) != 2:
                raise ValueError("a compensating jellium is for one structure with two periodic axes at a time")
            slabs.append(prepare_jellium(positions, cell[0], pbc[0], self.jellium, self.combined))
        return slabs

    def _attainable(self, dtype: torch.dtype) -> float:
        """The accuracy asked for; with the method left open, not beyond that of single precision."""
        if dtype == torch.float32 and self.accuracy < self.tightest_single:
            if self.method == "mesh":
                raise ValueError(
                    f"kspace_accuracy {self.accuracy} is beyond single precision; ask for {self.tightest_single} or "
                    "more, or use the model in double precision"
                )
            return self.tightest_single
        return self.accuracy

    def _own(self, in_sum: Tensor) -> Tensor:
        """What is added for an atom's own Gaussian ``(n, m+1, 4)``.

        Features and energy subtract it where the sum contains it, ``in_sum`` ``(n,)`` 1, and add it where pair sums
        lack it.
        """
        wanted_field = 1.0 if self.include_field_si else 0.0
        wanted_energy = 1.0 if self.include_self_energy else 0.0
        signs = [wanted_field - in_sum for _ in range(self.n_widths)]
        signs.append(wanted_energy - in_sum)
        return torch.stack(signs, dim=1).unsqueeze(2) * self.own_kernel.to(in_sum.dtype)

    def _everyones(self, x: Tensor, first: int, total: int) -> Tensor:
        """Rows of the atoms of all ranks ``(total, …)``; its derivative goes back to the owners."""
        if first < 0:
            return x
        before = torch.zeros([first] + list(x.shape[1:]), dtype=x.dtype, device=x.device)
        after = torch.zeros([total - first - x.shape[0]] + list(x.shape[1:]), dtype=x.dtype, device=x.device)
        return sum_ranks(torch.cat([before, x, after]))

    def _pairs(self, batch: Tensor, in_pairs: Tensor, first: int, total: int) -> tuple[Tensor, Tensor]:
        """Receivers (rows of this process) and sources of structures ``in_pairs``; ``first`` as in the cache."""
        if first < 0:
            return all_pairs(batch, in_pairs)
        n = batch.shape[0]
        i = torch.arange(n, device=batch.device).repeat_interleave(total)
        j = torch.arange(total, device=batch.device).repeat(n)
        others = i + first != j
        return i[others], j[others]

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
            cache.first_of_all,
            cache.all_atoms,
            [detach_waves(x) for x in cache.waves],
            [detach_mesh(x) for x in cache.meshes],
            cache.rows,
            cache.own.detach(),
            [detached_jellium(x) for x in cache.jellium],
            cache.chosen,
        )

    def _receive(self, cache: ElectrostaticCache, density: Tensor, lo: int, hi: int, distributed: bool) -> Tensor:
        """Receivers lo … hi-1 of A p: ``(n, hi-lo, 4)``."""
        n = density.shape[0]
        out = cache.own[:, lo:hi] * density.unsqueeze(1)
        if cache.pair_i.shape[0] > 0 or cache.first_of_all >= 0:
            everyones = self._everyones(density, cache.first_of_all, cache.all_atoms)
            out = out + apply_pairs(cache.pair_tensors[:, lo:hi], cache.pair_i, cache.pair_j, everyones, n)
        for slab in cache.jellium:
            out = out + apply_jellium(receivers(slab, lo, hi), density, distributed)
        parts = [reciprocal.receive(w, density[w.begin : w.end], lo, hi, distributed) for w in cache.waves]
        for t in cache.meshes:
            parts.append(mesh.receive(t, density[t.begin : t.end], lo, hi))
        return with_parts(out, cache.rows, parts)

    def field(self, cache: ElectrostaticCache, density: Tensor, distributed: bool) -> Tensor:
        """A p: density ``(n, 4)`` -> (<v>, <grad v>) ``(n, n_widths, 4)``."""
        return self._receive(cache, density, 0, self.n_widths, distributed)

    def potentials(self, cache: ElectrostaticCache, density: Tensor, distributed: bool) -> Tensor:
        """(<v>, <grad v>) received with the density's own width ``(n, 4)``; includes what the energy includes."""
        return self._receive(cache, density, self.n_widths, self.n_widths + 1, distributed)[:, 0]

    def field_in(self, cache: ElectrostaticCache, density: Tensor, lo: int, hi: int, distributed: bool) -> Tensor:
        """`field` with receivers lo … hi-1 alone, zeros in the place of the others."""
        out = self._receive(cache, density, lo, hi, distributed)
        if lo == 0 and hi == self.n_widths:
            return out
        return torch.nn.functional.pad(out, [0, 0, lo, self.n_widths - hi])

    def apply_transposed(self, cache: ElectrostaticCache, weights: Tensor, distributed: bool) -> Tensor:
        """A^T w: ``(n, n_widths, 4)`` -> ``(n, 4)``; the field of sources of the receivers' widths."""
        return self.transposed_in(cache, weights, 0, self.n_widths, distributed)

    def transposed_in(self, cache: ElectrostaticCache, weights: Tensor, lo: int, hi: int, distributed: bool) -> Tensor:
        """`apply_transposed` of weights that are zero but for receivers lo … hi-1."""
        n, w = weights.shape[0], weights[:, lo:hi]
        out = (cache.own[:, lo:hi] * w).sum(1)
        if cache.pair_i.shape[0] > 0 or cache.first_of_all >= 0:
            total = cache.all_atoms if cache.first_of_all >= 0 else n
            sums = apply_pairs_transposed(cache.pair_tensors[:, lo:hi], cache.pair_i, cache.pair_j, w, total)
            if cache.first_of_all >= 0:
                sums = sum_ranks(sums)[cache.first_of_all : cache.first_of_all + n]
            out = out + sums
        for slab in cache.jellium:
            out = out + apply_jellium_transposed(receivers(slab, lo, hi), w, distributed)
        parts = [reciprocal.receive_transposed(t, w[t.begin : t.end], lo, hi, distributed) for t in cache.waves]
        for m in cache.meshes:
            parts.append(mesh.receive_transposed(m, w[m.begin : m.end], lo, hi))
        return with_parts(out, cache.rows, parts)
