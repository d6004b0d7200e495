"""The cell in which the sum over k is made: that of the structure, padded along its open axes.

A truncated kernel of radius R is exact for atoms whose largest distance along the open axes is d when

    R >= d + t W,    L_a >= R + d_a + t W    along every open axis a,

W being the largest combined width and exp(-(t - 1/2)²/2) the error: no image of an atom is then within R of another
one, as seen through their Gaussians, and every pair of the structure itself is.

Source: Rozzi et al., Phys. Rev. B 73, 205119 (2006), doi:10.1103/PhysRevB.73.205119, for densities that vanish outside
a region; t W is what Gaussians reach beyond theirs.
"""

import math
from typing import List, NamedTuple

import torch
from torch import Tensor

from ..communication import sum_max_ranks

#: extents along open axes count in steps of this (Å): between them moving atoms change no length, and forces are the
#: exact gradient of the energy
STEP = 2.0


class Box(NamedTuple):
    """Directions and lengths of the padded cell."""

    directions: Tensor  #: (3, 3) float64: vectors of periodic axes, unit vectors along open ones, with gradient
    open_axes: List[bool]
    n_open: int  #: number of open axes
    lengths: List[float]  #: (3,) Å: of periodic vectors, and what open axes need at least
    radius: float  #: R of the truncated kernel, Å


def count(axes: List[bool]) -> int:
    """Number of true ones among three."""
    return int(axes[0]) + int(axes[1]) + int(axes[2])


def directions(cell: Tensor, open_axes: List[bool]) -> Tensor:
    """Periodic vectors of ``cell`` ``(3, 3)``, and perpendicular unit vectors in the place of the others.

    Raises:
        ValueError: the periodic vectors are parallel or vanish.
    """
    n_open = count(open_axes)
    rows = [cell[0], cell[1], cell[2]]
    if n_open == 3:
        return torch.eye(3, dtype=cell.dtype, device=cell.device)
    if n_open == 0:
        volume = torch.linalg.det(cell.detach()).abs()
        if not bool(volume > 1e-6):
            raise ValueError("`cell` of a periodic structure has no volume; set three independent vectors")
        return cell
    if n_open == 1:
        a = 0 if open_axes[0] else (1 if open_axes[1] else 2)
        normal = torch.linalg.cross(rows[(a + 1) % 3], rows[(a + 2) % 3])
        area = normal.norm(p=2)
        if not bool(area > 1e-6):
            raise ValueError("`cell` of a slab has no area: its two periodic vectors have to be independent")
        rows[a] = normal / area
        return torch.stack(rows)
    a = 2 if (open_axes[0] and open_axes[1]) else (1 if open_axes[0] else 0)
    length = rows[a].norm(p=2)
    if not bool(length > 1e-6):
        raise ValueError("`cell` of a wire has no length: its periodic vector is zero")
    along = rows[a] / length
    least = torch.zeros_like(along)
    least[int(torch.argmin(along.detach().abs()).item())] = 1.0
    first = least - (least * along).sum() * along
    first = first / first.norm(p=2)
    rows[(a + 1) % 3] = first
    rows[(a + 2) % 3] = torch.linalg.cross(along, first)
    return torch.stack(rows)


def padded_box(
    positions: Tensor,
    cell: Tensor,
    open_axes: List[bool],
    widest: float,
    precision: float,
    distributed: bool,
    step: float = STEP,
) -> Box:
    """The box of atoms at ``positions`` ``(n, 3)`` for combined widths up to ``widest`` (Å).

    Args:
        cell: ``(3, 3)`` Å, rows are vectors; those of open axes do not matter.
        precision: error of the truncated kernel, relative.
        distributed: other ranks own other atoms of the structure (collective).
        step: extents along open axes are rounded up to multiples of this, Å.

    Raises:
        ValueError: a non-finite position or cell, or periodic vectors that span nothing.
    """
    cell = cell.to(torch.float64)
    if not bool(torch.isfinite(cell).all()):
        raise ValueError("non-finite `cell`: check the structure")
    vectors = directions(cell, open_axes)
    norms = vectors.detach().norm(p=2, dim=1)
    lengths = [float(norms[0]), float(norms[1]), float(norms[2])]
    if not (open_axes[0] or open_axes[1] or open_axes[2]):
        return Box(vectors, open_axes, 0, lengths, 0.0)
    along = torch.matmul(positions.detach().to(torch.float64), vectors.detach().t())
    if along.shape[0] > 0:
        ends = torch.cat([along.max(dim=0)[0], -along.min(dim=0)[0]])
    else:
        ends = torch.full([6], -1e300, dtype=torch.float64, device=along.device)
    if distributed:
        ends = sum_max_ranks(torch.zeros([1], dtype=torch.float64, device=along.device), ends)[1]
    if not bool(torch.isfinite(ends).all()):
        raise ValueError("non-finite positions: check the structure")
    tail = (math.sqrt(2.0 * math.log(1.0 / precision)) + 0.5) * widest
    extents = [0.0, 0.0, 0.0]
    diagonal = 0.0
    for a in range(3):
        if open_axes[a]:
            extents[a] = step * math.ceil(float(ends[a] + ends[3 + a]) / step)
            diagonal += extents[a] * extents[a]
    radius = math.sqrt(diagonal) + tail
    for a in range(3):
        if open_axes[a]:
            lengths[a] = radius + extents[a] + tail
    return Box(vectors, open_axes, count(open_axes), lengths, radius)


def padded_cell(box: Box, lengths: List[float]) -> Tensor:
    """Cell ``(3, 3)`` with the given lengths (Å) along the open axes, with the gradient of the periodic vectors."""
    rows = [box.directions[a] * lengths[a] if box.open_axes[a] else box.directions[a] for a in range(3)]
    return torch.stack(rows)
