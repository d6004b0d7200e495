"""k-points that symmetry makes equal: by time reversal, and by the rotations of the crystal (spglib).

E(R k) = E(k) for every rotation R of the crystal, and E(-k) = E(k) without a magnetic field. The cutoff is on G, not on
k + G: points that differ by a reciprocal vector have slightly different bands, and are not taken as equal; and a
rotation counts only if it takes the basis to itself, which those of the published rule may not.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from .basis import PlaneWaves

#: fractions of k that differ by less are equal
SAME_K = 1e-9


@dataclass(frozen=True)
class ReducedPoints:
    """Points ``(m, 3)`` no two of which are equivalent, and the index ``(b,)`` of each original point's equivalent.

    Bands at the original points are ``bands_at_points[index]``, with gradients.
    """

    points: Tensor
    index: Tensor


def rotations(basis: PlaneWaves, tolerance: float = 1e-5) -> Tensor:
    """Rotations ``(n, 3, 3)`` of fractions of k under which the bands are the same, from spglib.

    ``tolerance`` (Bohr) is that of positions. An operation x -> W x + w of the crystal takes k to W^-T k.
    Raises ImportError, with the command that installs it, if spglib is missing.
    """
    try:
        import spglib
    except ImportError as error:
        raise ImportError("symmetry of k-points needs spglib: pip install 'fp-potential[bands]'") from error
    crystal = basis.crystal
    cell = (crystal.cell.tolist(), crystal.positions.tolist(), crystal.kind_of_atom.tolist())
    with warnings.catch_warnings():  # spglib announces that failures will be exceptions
        warnings.simplefilter("ignore", DeprecationWarning)
        found = spglib.get_symmetry(cell, symprec=tolerance)
    if found is None:
        return torch.eye(3, dtype=torch.int64).unsqueeze(0)
    inverse = torch.linalg.inv(torch.from_numpy(found["rotations"]).to(torch.float64)).round().to(torch.int64)
    unique = torch.unique(inverse.transpose(1, 2), dim=0)
    return unique[[_takes_to_itself(basis, rotation) for rotation in unique]]


def _takes_to_itself(basis: PlaneWaves, rotation: Tensor) -> bool:
    turned = {tuple(n) for n in (basis.integers @ rotation.T).tolist()}
    return turned == {tuple(n) for n in basis.integers.tolist()}


def reduce_points(k: Tensor, operations: Tensor | None = None, time_reversal: bool = True) -> ReducedPoints:
    """One point of every set of equivalent ones among ``k`` ``(b, 3)``, in their order.

    ``operations`` ``(n, 3, 3)`` are `rotations` (None: the identity alone).
    """
    k = torch.as_tensor(k, dtype=torch.float64).reshape(-1, 3)
    turns = torch.eye(3, dtype=torch.float64).unsqueeze(0) if operations is None else operations.to(torch.float64)
    if time_reversal:
        turns = torch.cat([turns, -turns])
    chosen: list[int] = []
    index = torch.empty(len(k), dtype=torch.int64)
    stars: list[Tensor] = []
    for i, point in enumerate(k):
        same = [n for n, star in enumerate(stars) if bool(((star - point).abs().amax(1) < SAME_K).any())]
        if not same:
            chosen.append(i)
            stars.append(turns @ point)
            same = [len(chosen) - 1]
        index[i] = same[0]
    return ReducedPoints(k[chosen], index)
