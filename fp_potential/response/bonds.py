"""Responses with squares over bonds: Δp = -M u, M = Σ_bonds b b^T + one matrix per atom.

Bonds end at a reach of their own for every pair of elements, with two derivatives:

    f(r) = (1 - r²/R²)³ / max[(1 - l²/R²)³, `SMALLEST_CUTOFF`],

which is 1 at the sum l of the covalent radii.  What all updates with bonds share is here: who is bonded, f, the
products M u, and the exchange with other ranks that they need.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..backbone.neighbours import Edges
from ..communication import ghost_gather
from .state import Bonds, ResponseState, Update, matrix_response

#: the cutoff is scaled to 1 at the sum of the covalent radii, unless it is smaller than this there
SMALLEST_CUTOFF = 0.05


class NearPairs(NamedTuple):
    """Pairs of atoms within the reach of their elements, in both directions."""

    atom: Tensor  #: (B,) rows of owned atoms
    partner: Tensor  #: (B,) rows of owned and ghost atoms
    vectors: Tensor  #: (B, 3) Å
    distance: Tensor  #: (B,) Å
    cutoff: Tensor  #: (B,) f


def cutoff_scale(reach: Tensor, lengths: Tensor) -> Tensor:
    """The factor of f by pair of elements ``(Z, Z)``, from reaches and sums of covalent radii, Å."""
    ratio = torch.where(reach > 0, lengths / reach.clamp(min=1e-6), torch.ones_like(reach))
    return 1.0 / ((1.0 - ratio.square()).clamp(min=0.0) ** 3).clamp(min=SMALLEST_CUTOFF)


def near_pairs(edges: Edges, species: Tensor, reach: Tensor, scale: Tensor) -> NearPairs:
    """Pairs nearer than ``reach`` ``(Z, Z)``, with ``scale`` of `cutoff_scale`, for ``species`` of all atoms."""
    atom, partner = edges.ends[0], edges.ends[1]
    limit = reach.to(edges.vectors.dtype)[species[atom], species[partner]]
    near = torch.nonzero(edges.vectors.detach().square().sum(1) < limit.square()).squeeze(1)
    atom, partner = atom[near], partner[near]
    vectors = edges.vectors[near]
    distance = vectors.norm(p=2, dim=1)
    at_length = scale.to(edges.vectors.dtype)[species[atom], species[partner]]
    cutoff = (1.0 - (distance / limit[near]).square()) ** 3 * at_length
    return NearPairs(atom, partner, vectors, distance, cutoff)


def bonded(bonds: Bonds, everywhere: Tensor, n: int) -> Tensor:
    """Σ b (b · v) ``(n, 4)`` over the bonds of each of ``n`` owned atoms, for v ``(n_total, 4)`` of all atoms."""
    along = (bonds.own * everywhere[bonds.atom].unsqueeze(1)).sum(2)
    along = along + (bonds.other * everywhere[bonds.partner].unsqueeze(1)).sum(2)
    return torch.zeros_like(everywhere[:n]).index_add(0, bonds.atom, (bonds.own * along.unsqueeze(2)).sum(1))


class BondedUpdate(Update):
    """p = base - M u, with bonds; charge that nothing conducts is shared (`ResponseState.share`).

    Args:
        n_widths: receivers of the field.
        receiver: the one that u is taken from.
    """

    def __init__(self, n_widths: int, receiver: int) -> None:
        super().__init__()
        self.affine, self.linear, self.shares_charge = True, True, True
        self.n_widths, self.receiver = n_widths, receiver
        self.used_receivers = (receiver, receiver + 1)

    def density(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """p ``(n, 4)`` in the raw total field ``u`` ``(n, m, 4)``, without what is shared."""
        return s.base + self.slope(s, u, distributed)

    def slope(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """-M u ``(n, 4)``; with several ranks one exchange of u over the bonds."""
        return matrix_response(s.matrix, u) - self.through_bonds(s, u[:, self.receiver], distributed)

    def pulled_back(self, s: ResponseState, weights: Tensor, distributed: bool) -> Tensor:
        """-M w ``(n, m, 4)``, in the receiver that u is taken from."""
        on_atoms = torch.matmul(s.matrix[:, :, self.receiver], weights.unsqueeze(2)).squeeze(2)
        response = (on_atoms - self.through_bonds(s, weights, distributed)).unsqueeze(1)
        nothing = torch.zeros_like(response)
        return torch.cat([response if m == self.receiver else nothing for m in range(self.n_widths)], dim=1)

    def through_bonds(self, s: ResponseState, v: Tensor, distributed: bool) -> Tensor:
        """Σ b (b · v) ``(n, 4)`` over the bonds of each atom, for ``v`` ``(n, 4)``."""
        everywhere = ghost_gather(v, s.species.shape[0]) if distributed else v
        return bonded(s.bonds, everywhere, v.shape[0])
