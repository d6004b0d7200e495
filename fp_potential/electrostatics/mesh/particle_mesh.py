"""Gaussian charges and dipoles on a B-spline particle mesh (`mesh`), for any periodicity.

The k-sum of `reciprocal` with exp(-i k·r) replaced by sum_m W_m(r) exp(-2 pi i k·m / N), W_m products of B-splines: the
density is smooth, so that no part of it is left for real space.  One application of the operator is

    spread q + d·grad, transform, multiply by g(k) exp(-k² W_n²/2) / V for every receiver, transform back, gather,

with a factor in the filter that undoes the smoothing of the splines (`splines.least_squares_factor`).  Spreading and
gathering are adjoint, hence the forces, with the splines' own derivatives, are the exact gradient of the mesh's energy;
their sum does not vanish exactly.

Sources: Essmann et al., J. Chem. Phys. 103, 8577 (1995), doi:10.1063/1.470117 (B-splines, gradients); Toukmaji et al.,
J. Chem. Phys. 113, 10913 (2000), doi:10.1063/1.1324708 (dipoles).
"""

import math
from typing import List, NamedTuple, Tuple

import torch
from torch import Tensor, nn

from ...communication import gather_ranks, this_rank
from ...units import COULOMB
from ..boundary import Box, padded_box, padded_cell
from ..cost import MethodTimes
from ..kernels import coulomb_kernel
from . import accuracy as model
from .accuracy import smooth_size
from .convolution import convolve, convolve_transposed
from .layout import Layout, all_waves, pencils, single_process, spectrum_box, wave_numbers, waves_up_to
from .splines import gather, least_squares_factor, spread, stencil


class MeshTables(NamedTuple):
    """What the geometry of a structure decides."""

    begin: int  #: first and last+1 atom
    end: int
    coordinates: Tensor  #: (n, 3) float64, in mesh spacings
    sequence: Tensor  #: work list and table of `splines.stencil`
    table: Tensor
    components: Tensor  #: (4, 4) density (q, d_y, d_z, d_x) -> weights of (1, d/du_1, d/du_2, d/du_3)
    filters: Tensor  #: (m+1, …) of the waves held here, with the factor 1/V
    order: int
    part: List[int]  #: of the mesh, held for the atoms of this process
    layout: Layout


class MeshChoice(NamedTuple):
    """Order and shape of a mesh, and the time an application takes (ns)."""

    order: int
    shape: List[int]
    time: float


def detach_mesh(tables: MeshTables) -> MeshTables:
    """The same without gradients."""
    return MeshTables(
        tables.begin,
        tables.end,
        tables.coordinates.detach(),
        tables.sequence,
        tables.table,
        tables.components.detach(),
        tables.filters.detach(),
        tables.order,
        tables.part,
        tables.layout,
    )


class Mesh(nn.Module):
    """Chooses meshes and prepares their tables for receivers of several widths.

    Args:
        combined: W_n of every receiver, Å.
        cutoff: largest k of fully periodic structures, 1/Å: as in the k-sum, so that the two agree.
        times: what decides between fine meshes with small and coarse ones with large stencils.
    """

    def __init__(self, combined: List[float], cutoff: float, times: MethodTimes) -> None:
        super().__init__()
        self.combined = combined
        self.narrowest, self.widest = min(combined), max(combined)
        self.cutoff = cutoff
        self.orders = list(model.ERROR_MODEL)
        self.errors = list(model.ERROR_MODEL.values())
        self.padding, self.largest, self.safety = model.PADDING, model.LARGEST, model.SAFETY
        self.constant = COULOMB
        self.most_points = model.MOST_POINTS
        self.times = times

    def box(self, positions: Tensor, cell: Tensor, open_axes: List[bool], accuracy: float, distributed: bool) -> Box:
        """The padded cell for atoms at ``positions``; what it leaves out is small beside the error of the splines."""
        return padded_box(positions, cell, open_axes, self.widest, self.padding * accuracy, distributed)

    def choose(self, box: Box, accuracy: float, atoms: float, processes: float) -> MeshChoice:
        """The mesh that takes the least time for so many ``atoms`` and reaches the accuracy.

        Its time is infinite if it has more points than so many ``processes`` hold.
        """
        best = MeshChoice(0, [0, 0, 0], float("inf"))
        for order, error in zip(self.orders, self.errors):
            h = self.spacing(error, accuracy)
            shape = [max(smooth_size(math.ceil(length / h)), order) for length in box.lengths]
            points = float(shape[0]) * float(shape[1]) * float(shape[2])
            time = self.times.mesh(atoms, float(order**3), points)
            if points > self.most_points * processes:
                time = float("inf")
            if time < best.time or best.order == 0:
                best = MeshChoice(order, shape, time)
        return best

    def spacing(self, error: Tuple[float, float], accuracy: float) -> float:
        """Largest spacing (Å) of splines with an ``error`` model (coefficient, exponent)."""
        x = min(self.largest, (accuracy / self.safety / error[0]) ** (1.0 / error[1]))
        return x * self.narrowest / math.sqrt(2.0)

    def prepare(
        self,
        positions: Tensor,
        box: Box,
        choice: MeshChoice,
        accuracy: float,
        begin: int,
        distributed: bool,
    ) -> MeshTables:
        """Tables of the atoms at ``positions`` ``(n, 3)``, with their gradient.

        Args:
            box: `box` of these atoms.
            choice: `choose` for that box.
            begin: row of the first of these atoms in the batch.

        Raises:
            ValueError: the mesh has too many points.
        """
        order, shape = choice.order, choice.shape
        if math.isinf(choice.time):
            raise ValueError(
                f"kspace_accuracy {accuracy} needs a mesh of {shape[0]} x {shape[1]} x {shape[2]} points with splines "
                f"of order {order}, more than the {self.most_points} points of a process; ask for less accuracy, use "
                "more processes, or, where the cell is mostly empty, open axes, which need no vacuum"
            )
        h = self.spacing(self.errors[self.orders.index(order)], accuracy)
        lengths = [float(shape[a]) * h if box.open_axes[a] else box.lengths[a] for a in range(3)]
        cell = padded_cell(box, lengths)
        inverse = torch.linalg.inv(cell)
        scale = torch.tensor([float(shape[0]), float(shape[1]), float(shape[2])], dtype=torch.float64)
        by_position = inverse * scale.to(cell.device)
        u = torch.matmul(positions.to(torch.float64), by_position)
        dtype = positions.dtype
        corner = torch.ones([1, 1], dtype=dtype, device=positions.device)
        components = torch.block_diag(corner, by_position[[1, 2, 0]].to(dtype))
        layout, part = self._layout(u.detach(), shape, self.waves(shape, cell, box), order, distributed)
        sequence, table = stencil(u, order, part, dtype == torch.float32)
        end = begin + positions.shape[0]
        filters = self._filters(inverse, lengths, box, order, layout).to(dtype)
        return MeshTables(begin, end, u, sequence, table, components, filters, order, part, layout)

    def waves(self, shape: List[int], cell: Tensor, box: Box) -> List[int]:
        """How many waves of a mesh are not beyond the cutoff, which holds for fully periodic structures."""
        if box.n_open > 0:
            return all_waves(shape)
        # |k| <= k_c only where |n_a| = |k·a_a| / 2 pi <= k_c |a_a| / 2 pi
        lengths = torch.linalg.vector_norm(cell.detach(), dim=1) * (self.cutoff / (2.0 * math.pi))
        most = [math.floor(float(lengths[a]) + 1e-9) for a in range(3)]
        return waves_up_to(shape, most)

    def _layout(
        self, u: Tensor, shape: List[int], waves: List[int], order: int, distributed: bool
    ) -> Tuple[Layout, List[int]]:
        """The layout, and the part of the mesh that holds the stencils of the atoms at ``u`` (see `splines`)."""
        lower, size = [0, 0, 0], [shape[0], shape[1], shape[2]]
        if not distributed:
            return single_process(shape, waves, u.device), lower + size + shape
        box = torch.zeros([6], dtype=torch.int64)
        if u.shape[0] > 0:
            first, last = torch.floor(u.min(dim=0)[0]), torch.floor(u.max(dim=0)[0])
            for a in range(3):
                begin, end = int(first[a].item()) - order // 2 + 1, int(last[a].item()) + order // 2 + 1
                if end - begin < shape[a]:
                    lower[a], size[a] = begin, end - begin
                box[2 * a], box[2 * a + 1] = lower[a], lower[a] + size[a]
        else:
            size = [0, 0, 0]
        bricks = gather_ranks(box)
        if bricks.shape[0] == 1:
            return single_process(shape, waves, u.device), [0, 0, 0] + shape + shape
        return pencils(shape, waves, bricks, this_rank()), lower + size + shape

    def _filters(self, inverse: Tensor, lengths: List[float], box: Box, order: int, layout: Layout) -> Tensor:
        """k_e g(k) exp(-k² W²/2) / V and what undoes the smoothing, for the waves held here: ``(m+1, …)`` float64."""
        shape, device = layout.shape, inverse.device
        waves = spectrum_box(layout)
        numbers: List[Tensor] = []
        factor = torch.ones([1, 1, 1], dtype=torch.float64, device=device)
        periodic = torch.zeros([1, 1, 1], dtype=torch.float64, device=device)
        open_ = torch.zeros([1, 1, 1], dtype=torch.float64, device=device)
        metric = 4.0 * math.pi * math.pi * torch.matmul(inverse.t(), inverse)
        for a in range(3):
            # the last axis has no negative waves
            begin, end = waves[2 * a], waves[2 * a + 1]
            signed = wave_numbers(layout.waves[a], begin, end) if a < 2 else torch.arange(begin, end)
            own = least_squares_factor(shape[a], order)[torch.remainder(signed, shape[a])]
            view = [1, 1, 1]
            view[a] = -1
            number = signed.to(device, torch.float64).reshape(view)
            factor = factor * own.to(device).reshape(view)
            numbers.append(number)
            if box.open_axes[a]:
                open_ = open_ + (number * (2.0 * math.pi / lengths[a])) ** 2
            else:
                periodic = periodic + metric[a, a] * number * number
        for a in range(3):
            for c in range(a + 1, 3):
                if not (box.open_axes[a] or box.open_axes[c]):
                    periodic = periodic + (2.0 * metric[a, c]) * (numbers[a] * numbers[c])
        k2 = periodic + open_
        base = coulomb_kernel(periodic, open_, box.n_open, box.radius) * factor
        base = base * (self.constant * torch.linalg.det(inverse).abs())
        if box.n_open == 0:
            base = torch.where(k2.detach() <= self.cutoff * self.cutoff, base, torch.zeros_like(base))
        return torch.stack([base * torch.exp(k2 * (-0.5 * w * w)) for w in self.combined])


def receive(tables: MeshTables, density: Tensor, lo: int, hi: int) -> Tensor:
    """Receivers lo … hi-1 ``(n, hi-lo, 4)`` of the field of ``density`` ``(n, 4)``."""
    t = tables
    values = torch.matmul(density, t.components).unsqueeze(1)
    grid = spread(t.coordinates, t.sequence, t.table, values, t.order, 1, t.part)
    grids = convolve(grid, t.filters[lo:hi], t.layout)
    field = gather(t.coordinates, t.sequence, t.table, grids, t.order, 1, t.part)
    return torch.matmul(field, t.components.t())


def receive_transposed(tables: MeshTables, weights: Tensor, lo: int, hi: int) -> Tensor:
    """Adjoint of `receive`: ``(n, hi-lo, 4)`` -> ``(n, 4)``."""
    t = tables
    values = torch.matmul(weights, t.components)
    grids = spread(t.coordinates, t.sequence, t.table, values, t.order, 1, t.part)
    grid = convolve_transposed(grids, t.filters[lo:hi], t.layout)
    field = gather(t.coordinates, t.sequence, t.table, grid, t.order, 1, t.part)
    return torch.matmul(field, t.components.t())[:, 0]
