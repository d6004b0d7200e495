"""What an update needs from the geometry, made once per geometry and used by every iteration."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Neighbours


class ResponseShape(NamedTuple):
    """Sizes that all parts of an update share."""

    channels: int  #: C of the features
    n_widths: int  #: m, receivers of the field
    n_elements: int
    l_max: int  #: of the density: charges (0), or charges and dipoles (1)


class Bonds(NamedTuple):
    """Squares b b^T between two atoms in M of Δp = -M u, every one of the B bonds in both directions.

    The part ``own`` of b acts on the density of ``atom``, ``other`` on that of ``partner``; the charges of the two add
    up to nothing.
    """

    atom: Tensor  #: (B,) rows of owned atoms
    partner: Tensor  #: (B,) rows of owned and ghost atoms
    own: Tensor  #: (B, k, 4) sqrt(e/V), Å sqrt(e/V)
    other: Tensor  #: (B, k, 4)


class ResponseState(NamedTuple):
    """The density as a function of the raw total field u = (<v>, <grad v>), ``n`` atoms, ``m`` widths, C channels.

    p = base + matrix · u + outer · f(bias + inner · phi(u)) for one-body updates; ``inner`` has no rows where the
    whole response is in ``matrix``.  Many-body updates find the argument of f from a message pass with ``edges``.
    `SplitChargeUpdate` has ``bonds`` beside the matrix, and charges that answer to the Fermi level alone: -``share``.
    """

    base: Tensor  #: (n, 4)
    matrix: Tensor  #: (n, 4, m, 4), e per V and so on
    inner: Tensor  #: (n, K, F)
    bias: Tensor  #: (n, K)
    outer: Tensor  #: (n, 4, K)
    features: Tensor  #: (n, 4, C), many-body only
    edges: Tensor  #: (n_edges, H) radial features of the message pass, many-body only
    neighbours: Neighbours
    species: Tensor  #: (n_total,)
    bonds: Bonds
    share: Tensor  #: (n,) e/V; zeros for other updates


class LevelLine(NamedTuple):
    """The density in one field along the Fermi level: p(μ) = base + shift μ + outer · f(argument + direction μ).

    ``argument`` and ``direction`` are those of f's first layer, which is linear.
    """

    base: Tensor  #: (n, 4)
    shift: Tensor  #: (n, 4) e/V and e Å/V
    argument: Tensor  #: (n, K)
    direction: Tensor  #: (n, K)
    outer: Tensor  #: (n, 4, K)


class Update(nn.Module):
    """What the engine asks of an update; `forward` makes the `ResponseState` of a geometry, with arguments of its own.

    ``affine``: p is affine in the field. ``linear``: besides, `slope` and `pulled_back` say how. ``straight``: p is not
    affine, but follows a `LevelLine`. ``shares_charge``: charge that nothing conducts is shared
    (`ResponseState.share`); a Fermi level may then mean nothing.
    """

    affine: bool
    linear: bool
    straight: bool = False
    shares_charge: bool = False

    def density(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """p ``(n, 4)`` in the raw total field ``u`` ``(n, m, 4)``."""
        raise NotImplementedError

    def slope(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """(dF/du) u ``(n, 4)`` of a linear update: one matrix per atom, where an update does not say otherwise."""
        return matrix_response(s.matrix, u)

    def pulled_back(self, s: ResponseState, weights: Tensor, distributed: bool) -> Tensor:
        """(dF/du)^T w of a linear update: ``(n, 4)`` -> ``(n, m, 4)``."""
        n, m = weights.shape[0], s.matrix.shape[2]
        columns = s.matrix.reshape(n, 4, m * 4).transpose(1, 2)
        return torch.matmul(columns, weights.unsqueeze(2)).reshape(n, m, 4)

    def level_line(self, s: ResponseState, u: Tensor) -> LevelLine:
        """The density in the raw total field ``u`` along the level, made once for all levels."""
        raise NotImplementedError

    def on_line(self, line: LevelLine, level: Tensor) -> tuple[Tensor, Tensor]:
        """p ``(n, 4)`` at each atom's level ``(n,)``, and dp/dμ ``(n, 4)``."""
        raise NotImplementedError


def matrix_response(matrix: Tensor, u: Tensor) -> Tensor:
    """One matrix per atom ``(n, 4, m, 4)`` times the raw field ``(n, m, 4)``: ``(n, 4)``."""
    n, m = u.shape[0], u.shape[1]
    return torch.matmul(matrix.reshape(n, 4, m * 4), u.reshape(n, m * 4, 1)).squeeze(2)


def detach_neighbours(x: Neighbours) -> Neighbours:
    """The same tables without gradients."""
    return Neighbours(x.sender, x.first, x.harmonics.detach(), x.radial.detach())


def detach_state(s: ResponseState) -> ResponseState:
    """The same state without gradients."""
    return ResponseState(
        s.base.detach(),
        s.matrix.detach(),
        s.inner.detach(),
        s.bias.detach(),
        s.outer.detach(),
        s.features.detach(),
        s.edges.detach(),
        detach_neighbours(s.neighbours),
        s.species,
        Bonds(s.bonds.atom, s.bonds.partner, s.bonds.own.detach(), s.bonds.other.detach()),
        s.share.detach(),
    )


def no_bonds(like: Tensor) -> Bonds:
    """Of no atoms, in the dtype of ``like``."""
    nothing = no_rows(like, [0, 1, 4])
    index = torch.zeros([0], dtype=torch.int64, device=like.device)
    return Bonds(index, index, nothing, nothing)


def matrix_state(
    base: Tensor, matrix: Tensor, neighbours: Neighbours, species: Tensor, bonds: Bonds, share: Tensor
) -> ResponseState:
    """The state of an update that is one matrix ``(n, 4, m, 4)`` per atom, and ``bonds`` if it has any."""
    n = base.shape[0]
    inner, bias, outer = no_rows(base, [n, 0, 0]), no_rows(base, [n, 0]), no_rows(base, [n, 4, 0])
    nothing = no_rows(base, [0, 4, 0])
    return ResponseState(base, matrix, inner, bias, outer, nothing, nothing, neighbours, species, bonds, share)


def no_rows(x: Tensor, shape: list[int]) -> Tensor:
    """An empty tensor of ``x``'s kind: ``shape`` holds a zero."""
    return torch.zeros(shape, dtype=x.dtype, device=x.device)
