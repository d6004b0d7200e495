"""Cardinal B-splines on a periodic mesh: spreading, gathering, and the factor that undoes their smoothing.

With W_m(u) = prod_a M(u_a - m_a), M the centred B-spline of an even order and u a position in mesh spacings,

    gather: value[i, c, abc] = sum_m d^abc W_m(u_i) grid[c, m],
    spread: grid[c, m] = sum_i sum_abc value[i, c, abc] d^abc W_m(u_i),

for all derivatives abc up to a total ``degree``, in the order 1, x, y, z, xx, xy, xz, yy, yz, zz, …  One is the adjoint
of the other.  The compiled operators differentiate a gather by a gather of one degree more; where nothing is compiled
the same is written in torch here.

A ``part`` of the mesh is nine numbers: lower, size and period along the three axes; it holds the points m with
(m - lower) mod period < size.

Sources: Essmann et al., J. Chem. Phys. 103, 8577 (1995), doi:10.1063/1.470117 (splines on a mesh); de Boor, J. Approx.
Theory 6, 50 (1972), doi:10.1016/0021-9045(72)90080-9 (the recursion); Hockney and Eastwood, Computer Simulation Using
Particles, ch. 8 (1988), doi:10.1201/9780367806934 (the factor).
"""

from typing import List, Tuple

import torch
from torch import Tensor

from ...communication import load_operators

_python_library: torch.library.Library | None = None


def stencil(u: Tensor, order: int, part: List[int], single: bool) -> Tuple[Tensor, Tensor]:
    """Work list of the atoms at ``u`` ``(n, 3)`` float64 and table of their splines, for `gather` and `spread`.

    No derivative.

    Raises:
        ValueError: non-finite positions, or atoms outside the part.
    """
    return torch.ops.fixedpoint.mesh_stencil(u.detach(), order, part, single)


def gather(
    u: Tensor, sequence: Tensor, table: Tensor, grid: Tensor, order: int, degree: int, part: List[int]
) -> Tensor:
    """sum_m d^abc W_m(u_i) grid[c, m]: ``(n, c, J)`` of grids ``(c, s0, s1, s2)``; J = 1, 4, 10, 20 for degree 0 … 3.

    ``sequence`` and ``table`` are those of `stencil` for the same ``u``, ``order`` and ``part``.
    """
    return torch.ops.fixedpoint.mesh_gather(u, sequence, table, grid, order, degree, part)


def spread(
    u: Tensor, sequence: Tensor, table: Tensor, values: Tensor, order: int, degree: int, part: List[int]
) -> Tensor:
    """sum_i sum_abc value[i, c, abc] d^abc W_m(u_i): grids ``(c, s0, s1, s2)`` of values ``(n, c, J)``; as `gather`."""
    return torch.ops.fixedpoint.mesh_spread(u, sequence, table, values, order, degree, part)


def basis(f: Tensor, order: int, derivative: int) -> Tensor:
    """Derivative of M at f - j + order/2 - 1, j = 0 … order-1: ``(..., order)`` of fractions ``f`` ``(...)``.

    By M_k(x) = [x M_{k-1}(x) + (k - x) M_{k-1}(x - 1)] / (k - 1) and M_k' = M_{k-1}(x) - M_{k-1}(x - 1), where M_k is
    the spline on 0 … k (de Boor 1972; Essmann et al. 1995).
    """
    x = f.unsqueeze(-1)
    v = torch.ones_like(x)
    if derivative >= order:
        return torch.zeros_like(x).expand(list(f.shape) + [order])
    for k in range(2, order - derivative + 1):
        t = torch.arange(k, dtype=x.dtype, device=x.device)
        here = torch.nn.functional.pad(v, [0, 1])
        before = torch.nn.functional.pad(v, [1, 0])
        v = ((x + t) * here + (k - t - x) * before) / (k - 1)
    for _ in range(derivative):
        v = torch.nn.functional.pad(v, [0, 1]) - torch.nn.functional.pad(v, [1, 0])
    return v.flip(-1)


def least_squares_factor(n: int, order: int) -> Tensor:
    """What a filter is multiplied with along an axis of ``n`` points, for wave numbers 0 … n-1 ``(n,)``.

    Spreading and gathering multiply a wave of angle theta per point by M(theta) = (sin(theta/2) / (theta/2))^order each
    and mix in its aliases theta + 2 pi m.  The convolution with the least mean square error at points anywhere has

        M(theta)² / [sum_m M(theta + 2 pi m)²]²

    for a kernel that is small at the aliases: the optimal influence function of Hockney and Eastwood, ch. 8, without
    the aliases in its numerator (see Ballenegger, Cerdà and Holm, J. Chem. Theory Comput. 8, 936 (2012),
    doi:10.1021/ct2001792).  The sum is that of the B-spline of twice the order at whole numbers, as cosines.
    """
    k = torch.arange(n, dtype=torch.float64)
    theta = torch.where(2 * k > n, k - n, k) * (2.0 * torch.pi / n)
    m = torch.arange(2 * order, dtype=torch.float64) - (order - 1)
    at_points = basis(torch.zeros([1], dtype=torch.float64), 2 * order, 0)[0]
    sums = (torch.cos(theta.unsqueeze(1) * m) * at_points).sum(1)
    return torch.sinc(theta / (2.0 * torch.pi)) ** (2 * order) / (sums * sums)


def _derivatives(degree: int) -> List[Tuple[int, int, int]]:
    return [(a, b, d - a - b) for d in range(degree + 1) for a in range(d, -1, -1) for b in range(d - a, -1, -1)]


def _define_in_python() -> None:
    """The operators in torch, differentiable as it is, for a package without compiled parts."""
    global _python_library
    library = torch.library.Library("fixedpoint", "FRAGMENT")
    arguments = "(Tensor u, Tensor sequence, Tensor table, Tensor x, int order, int degree, int[] part) -> Tensor"
    library.define("mesh_stencil(Tensor u, int order, int[] part, bool single) -> (Tensor, Tensor)")
    library.define("mesh_gather" + arguments)
    library.define("mesh_spread" + arguments)

    def weights_and_points(u: Tensor, order: int, degree: int, part: List[int]) -> Tuple[List[List[Tensor]], Tensor]:
        whole = u.detach().floor()
        weights = [[basis((u - whole)[:, a], order, d) for d in range(degree + 1)] for a in range(3)]
        j = torch.arange(order, device=u.device) - (order // 2 - 1)
        index = [torch.remainder(whole[:, a : a + 1].long() + j - part[a], part[6 + a]) for a in range(3)]
        flat = (index[0][:, :, None, None] * part[4] + index[1][:, None, :, None]) * part[5] + index[2][:, None, None]
        return weights, flat.reshape(-1)

    def mesh_stencil(u: Tensor, order: int, part: List[int], single: bool) -> Tuple[Tensor, Tensor]:
        if not bool(torch.isfinite(u).all()):
            raise ValueError("non-finite positions: check the structure")
        return torch.zeros(0, dtype=torch.int32), torch.zeros(0)

    def mesh_gather(
        u: Tensor, sequence: Tensor, table: Tensor, grid: Tensor, order: int, degree: int, part: List[int]
    ) -> Tensor:
        w, points = weights_and_points(u, order, degree, part)
        block = grid.flatten(1)[:, points].reshape(-1, u.shape[0], order, order, order)
        columns = [
            torch.einsum("cnijk,ni,nj,nk->nc", block, w[0][a].to(grid), w[1][b].to(grid), w[2][c].to(grid))
            for a, b, c in _derivatives(degree)
        ]
        return torch.stack(columns, dim=2)

    def mesh_spread(
        u: Tensor, sequence: Tensor, table: Tensor, x: Tensor, order: int, degree: int, part: List[int]
    ) -> Tensor:
        w, points = weights_and_points(u, order, degree, part)
        block = x.new_zeros(x.shape[1], u.shape[0], order, order, order)
        for place, (a, b, c) in enumerate(_derivatives(degree)):
            block = block + torch.einsum(
                "nc,ni,nj,nk->cnijk", x[:, :, place], w[0][a].to(x), w[1][b].to(x), w[2][c].to(x)
            )
        out = x.new_zeros(x.shape[1], part[3] * part[4] * part[5])
        return out.index_add(1, points, block.reshape(x.shape[1], -1)).reshape(-1, part[3], part[4], part[5])

    key = "CompositeImplicitAutograd"
    library.impl("mesh_stencil", mesh_stencil, key)
    library.impl("mesh_gather", mesh_gather, key)
    library.impl("mesh_spread", mesh_spread, key)
    _python_library = library


load_operators()
if not torch._C._dispatch_has_kernel("fixedpoint::mesh_gather"):
    _define_in_python()
