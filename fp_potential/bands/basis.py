"""The plane waves G in which bands are expanded, their differences and the shells of |G - G'|."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from .crystal import Crystal

BasisKind = Literal["complete", "published"]
#: lengths of G - G' that differ by less, in units of the longest, are one shell
SAME_SHELL = 1e-11
#: more plane waves than any computer has room for: the table of G - G' takes 8 bytes for each pair of them
MOST_WAVES = 200_000


class PlaneWaves:
    """The waves G with |G|²/2 < ``max_ke`` (Hartree): the same for all k, since the cutoff is on G, not on k + G.

    ``kind`` "complete" takes the whole sphere. "published" lists multiples of each b_i only up to
    int(sqrt(2 max_ke) / min |b_i|) before it applies the cutoff, as the code of arXiv:2505.09846 does; in cells whose
    vectors are not orthogonal this leaves waves out, and bands move by several meV.

    integers ``(N, 3)`` and vectors ``(N, 3)`` (1/Bohr) are the waves; differences ``(M, 3)`` the distinct G - G',
    pair ``(N, N)`` the index of G - G' among them, zero the index of G - G' = 0; q ``(S,)`` the distinct lengths of the
    differences (1/Bohr, ascending) and shell ``(M,)`` the index of each difference's length.
    """

    def __init__(self, crystal: Crystal, max_ke: float, kind: BasisKind = "complete") -> None:
        if not (math.isfinite(max_ke) and max_ke > 0.0):
            raise ValueError(f"`max_ke` must be a positive energy in Hartree, not {max_ke}")
        if kind not in ("complete", "published"):
            raise ValueError(f"`kind` must be 'complete' or 'published', not {kind!r}")
        self.max_ke, self.kind = float(max_ke), kind
        complete = _sphere(crystal, max_ke)
        self.integers = complete if kind == "complete" else _published_rule(complete, crystal, max_ke)
        #: how many waves of the complete sphere the published rule leaves out
        self.missing = len(complete) - len(self.integers)
        self.differences, self.pair = _differences(self.integers)
        self._place(crystal)

    def __len__(self) -> int:
        return len(self.integers)

    def on(self, crystal: Crystal) -> PlaneWaves:
        """The same integers on the reciprocal lattice of another, for example strained, cell."""
        other = object.__new__(PlaneWaves)
        other.__dict__.update(self.__dict__)
        other._place(crystal)
        return other

    def kept_for(self, ratio: float) -> PlaneWaves:
        """The same integers for a crystal whose lengths are multiplied by ``ratio``: all G are divided by it."""
        return self.on(self.crystal.scaled(ratio))

    def _place(self, crystal: Crystal) -> None:
        self.crystal = crystal
        self.vectors = self.integers.to(torch.float64) @ crystal.reciprocal
        self.difference_vectors = self.differences.to(torch.float64) @ crystal.reciprocal
        lengths = self.difference_vectors.norm(dim=1)
        ordered, order = lengths.sort()
        new = torch.ones(len(ordered), dtype=torch.bool)
        new[1:] = ordered.diff() > SAME_SHELL * float(ordered[-1])
        self.q = ordered[new]
        self.shell = torch.empty_like(order)
        self.shell[order] = new.cumsum(0) - 1


def _sphere(crystal: Crystal, max_ke: float) -> Tensor:
    """All integer triples whose G has |G|²/2 < max_ke; |n_i| <= sqrt(2 max_ke) |a_i| / 2 pi."""
    expected = float(torch.linalg.det(crystal.cell).abs()) * (2.0 * max_ke) ** 1.5 / (6.0 * math.pi**2)
    if expected > MOST_WAVES:
        raise ValueError(
            f"a cutoff of {max_ke:g} Ha means about {expected:.3g} plane waves, more than {MOST_WAVES}; "
            "lengths are in Bohr and cutoffs in Hartree"
        )
    limits = (math.sqrt(2.0 * max_ke) * crystal.cell.norm(dim=1) / (2.0 * math.pi)).floor().to(torch.int64)
    axes = [torch.arange(-int(n), int(n) + 1) for n in limits]
    n = torch.cartesian_prod(*axes)
    g = n.to(torch.float64) @ crystal.reciprocal
    return n[0.5 * (g * g).sum(1) < max_ke]


def _published_rule(integers: Tensor, crystal: Crystal, max_ke: float) -> Tensor:
    largest = int(math.sqrt(2.0 * max_ke) / float(crystal.reciprocal.norm(dim=1).min()))
    return integers[integers.abs().amax(1) <= largest]


def _differences(integers: Tensor) -> tuple[Tensor, Tensor]:
    """The distinct G - G' ``(M, 3)``, and the index of each pair's difference ``(N, N)``."""
    reach = 2 * integers.abs().amax(0)
    n1, n2, n3 = (2 * reach + 1).tolist()
    strides = torch.tensor([n2 * n3, n3, 1])
    key = (integers * strides).sum(1)
    pair = key[:, None] - key[None, :] + int((reach * strides).sum())
    present = torch.zeros(n1 * n2 * n3, dtype=torch.bool)
    present[pair.reshape(-1)] = True
    number = present.cumsum(0) - 1
    keys = present.nonzero().squeeze(1)
    triples = torch.stack([keys // strides[0], keys // n3 % n2, keys % n3], dim=1) - reach
    return triples, number[pair.reshape(-1)].reshape(pair.shape)
