"""(1 - J)^-1 of affine maps from factorised matrices: what iterative solves of soft metals start with.

With the response -M (matrices of atoms, and bonds) and the Coulomb operator A of a structure as matrices,

    J = -M A - (dp/dμ) (dQ/du A) / R,

the last term at constant charge only. Structures on a mesh get A from a few waves (`PRECISION`), and all is in single
precision, so that F ≈ 1 - J is not the loop's own map; x + F^-1 (b + J x - x) takes digits from the error each time,
and the loop decides when it is done. A metal's loop takes fifty applications and more, an insulator's four: it is for
the former.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..electrostatics.boundary import padded_box
from ..electrostatics.matrix import dense_operators
from ..electrostatics.operator import ElectrostaticCache, Electrostatics
from ..electrostatics.reciprocal import open_cutoff, prepare_waves
from ..graph import Graph
from .density_map import DensityMap
from .jacobian import bond_matrix
from .problem import SCFProblem

#: what the sum over waves leaves out, relative
PRECISION = 1e-5
#: structures with more atoms are left to the iterations: the factors' work grows with the third power
LARGEST = 600
#: refinements at most, and by how much each has to lower the residual for another one
REFINEMENTS, LOWERED = 6, 0.2


class Factorised:
    """LU factors of F ≈ 1 - J of every structure of a batch, of linear updates and without gradients.

    Args:
        problem: without gradients.
        graph: its structures.
    """

    def __init__(self, density_map: DensityMap, problem: SCFProblem, graph: Graph) -> None:
        n_graphs = problem.atoms.shape[0]
        lo, hi = density_map.first_used, density_map.last_used
        cache = _without_meshes(density_map.electrostatics, problem.cache, graph)
        state = problem.state
        matrix, row, shift = state.matrix[:, :, lo:hi].float(), problem.charge_row[:, lo:hi].float(), problem.shift
        bonds = state.bonds._replace(own=state.bonds.own.float(), other=state.bonds.other.float())
        structure = problem.batch[bonds.atom]
        self.sizes: list[int] = []
        self.factors: list[tuple[Tensor, Tensor]] = []
        begin = 0
        for g, operator in enumerate(dense_operators(cache, problem.batch, n_graphs, lo, hi)):
            n = operator.shape[0]
            rows = slice(begin, begin + n)
            flat = operator.reshape(n, (hi - lo) * 4, 4 * n)
            system = -torch.bmm(matrix[rows].reshape(n, 4, -1), flat).reshape(4 * n, 4 * n)
            if bonds.atom.shape[0] > 0:
                through = bond_matrix(bonds, structure == g, begin, n)
                system += through @ operator[:, 0].reshape(4 * n, 4 * n)
            if problem.constant_charge:
                charge = row[rows].reshape(1, -1) @ flat.reshape(-1, 4 * n)
                system += (shift[rows].reshape(-1, 1) / problem.response[g]).float() @ charge
            system.diagonal().add_(1.0)
            self.sizes.append(n)
            self.factors.append(torch.linalg.lu_factor_ex(system)[:2])
            begin += n

    def refined(self, x: Tensor, residual: Callable[[Tensor], Tensor], transposed: bool) -> Tensor:
        """x ``(n, 4)`` with x + F^-1 r(x) in its place as often as that lowers r(x) = b + J x - x (J^T: transposed)."""
        left = residual(x)
        for _ in range(REFINEMENTS):
            better = x + self.solve(left, transposed)
            now = residual(better)
            if not bool(now.norm() < LOWERED * left.norm()):
                break
            x, left = better, now
        return x

    def solve(self, right: Tensor, transposed: bool) -> Tensor:
        """F^-1 b, or F^-T b, for b ``(n, 4)``; not finite where F is singular."""
        parts = []
        for part, (factor, pivots) in zip(right.split(self.sizes), self.factors, strict=True):
            flat = part.reshape(-1, 1).to(factor.dtype)
            parts.append(torch.linalg.lu_solve(factor, pivots, flat, adjoint=transposed).reshape(-1, 4))
        return torch.cat(parts).to(right.dtype)


def factorised(density_map: DensityMap, problem: SCFProblem, graph: Graph) -> Factorised | None:
    """Factors where all structures of the batch conduct and none is too large, of an update that tells metals apart."""
    if not (density_map.linear and density_map.shares_charge):
        return None
    if int(problem.atoms.max()) > LARGEST or not bool((problem.metallic < 0).all()):
        return None
    return Factorised(density_map, problem, graph)


def _without_meshes(electrostatics: Electrostatics, cache: ElectrostaticCache, graph: Graph) -> ElectrostaticCache:
    """The tables with waves in the place of meshes, in single precision."""
    waves = list(cache.waves)
    for mesh in cache.meshes:
        g = int(graph.batch[mesh.begin])
        here, widths = graph.positions[mesh.begin : mesh.end].detach(), electrostatics.combined
        open_axes = [not bool(axis) for axis in graph.pbc[g]]
        box = padded_box(here, graph.cell[g].detach(), open_axes, float(widths.max()), PRECISION, False)
        waves.append(prepare_waves(here, box, open_cutoff(float(widths.min()), PRECISION), widths, mesh.begin))
    single = [w._replace(cos=w.cos.float(), sin=w.sin.float(), k=w.k.float(), filters=w.filters.float()) for w in waves]
    return cache._replace(waves=single, meshes=[], own=cache.own.float(), pair_tensors=cache.pair_tensors.float())
