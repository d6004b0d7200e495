r"""`SplitChargeUpdate`: a response through bonds and dipoles, with which insulators insulate and metals conduct.

    p = p_loc + λ c - M u,      M = Σ_(ij) Σ_k b_ijk b_ijk^T + Σ_i T_i [diag(1, s_d, s_d, s_d) + B_i B_i^T] T_i.

- b_ijk acts on atoms i and j nearer than their reach: a_ij (+1 on the charge of i, -1 on that of j) and dipoles
  α_ij r̂_ij on i and α_ji r̂_ij on j, so that it moves charge and makes none. a is symmetric in i and j and α a function
  of both; with the smooth cutoff f, all fall to zero with two derivatives at the reach.
- B_i ``(4, C)`` is equivariant and linear in the features, s_d > 0; T_i = diag(t_i, 1, 1, 1) with t_i = relu(x_i) >= 0.
  The metallic softness t_i² (1 + |B_i^q|²) is all that answers to a potential and not to differences of it. It can be
  exactly zero; it is for all elements that are not `metallic`.
- c_i = -(dq_i/du_i of T_i … T_i) - κ f_i, f_i > 0: λ is the shift of the Fermi level that makes Σ q = Q. Where nothing
  conducts it shares the missing charge by the weights f_i, whatever the fields are; where something does, κ f_i is
  too small to matter.

M is symmetric and positive semidefinite in every geometry and with any weights, and u is received with the density's
own width, own part included, so that u = K p with K the same: all eigenvalues of dG/dp are those of -M K, real and
<= 0, and with no t_i they do not grow with the size of the system. Without bonds this is `SymmetricUpdate`.

Sources: Nistor, Polihronov, Müser and Mosey, J. Chem. Phys. 125, 094108 (2006), doi:10.1063/1.2346671 (split charges);
the sum of squares, the coupling to dipoles and the sharing of charge are ours.
"""

import math

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Edges, Neighbours
from ..communication import ghost_gather
from ..nets import charges_only
from .bonds import BondedUpdate, cutoff_scale, near_pairs
from .one_body import INITIAL_POLARIZABILITY, INITIAL_SOFTNESS, DensityOutput
from .state import Bonds, ResponseShape, ResponseState, matrix_state
from .symmetric import RESPONSE_SCALE

#: start of a bond: a² in e/V, and the spread of α around zero in Å sqrt(e/V)
INITIAL_BOND, INITIAL_BOND_DIPOLE = 0.05, 0.05
#: κ, e/V: charge per volt that a weight of one takes; small against the softness of a metal's atom (0.1 to 1)
SHARED_SOFTNESS = 1e-8
#: t_i are stored divided by this, so that an optimiser's steps do not make metals at once
METALLIC_SCALE = 0.3


class SplitChargeUpdate(BondedUpdate):
    """Response by squares over bonds and atoms; see the equations above.

    Args:
        rank: squares per bond, k.
        scale: multiplies the initial B B^T.
        reach: ``(Z, Z)`` Å, distance at which bonds of two elements end; 0: they have none.
        lengths: ``(Z, Z)`` Å, sums of covalent radii.
        metallic: elements ``(Z,)`` bool whose t may differ from zero.
        receiver: which of the receivers has the width of the density.
    """

    reach: Tensor
    cutoff_scale: Tensor
    metallic: Tensor

    def __init__(
        self,
        shape: ResponseShape,
        rank: int,
        scale: float,
        reach: Tensor,
        lengths: Tensor,
        metallic: Tensor,
        receiver: int,
    ) -> None:
        super().__init__(shape.n_widths, receiver)
        channels, n = shape.channels, shape.n_elements
        self.without_dipoles = shape.l_max == 0
        self.rank = rank
        self.c = 1.0 / math.sqrt(channels)
        self.response_scale, self.metallic_scale = RESPONSE_SCALE, METALLIC_SCALE
        self.shared_softness = SHARED_SOFTNESS
        dtype = torch.get_default_dtype()
        # a, α of the atom itself and α of its partner; of the pair of elements and by features of both atoms
        self.bond_bias = nn.Parameter(INITIAL_BOND_DIPOLE * torch.randn(2, rank, n, n))
        with torch.no_grad():
            self.bond_bias[0] = math.sqrt(INITIAL_BOND / rank)
        self.bond_weight = nn.Parameter(0.1 * INITIAL_BOND_DIPOLE * torch.randn(3 * rank, channels))
        self.metallic_bias = nn.Parameter(torch.full([n], math.sqrt(INITIAL_SOFTNESS) / METALLIC_SCALE, dtype=dtype))
        self.metallic_weight = nn.Parameter(torch.zeros(channels))
        if not bool(metallic.any()):
            self.metallic_bias.requires_grad_(False)
            self.metallic_weight.requires_grad_(False)
        polarizability = math.log(math.expm1(INITIAL_POLARIZABILITY))
        self.dipole_bias = nn.Parameter(torch.full([n], polarizability, dtype=dtype))
        self.dipole_weight = nn.Parameter(torch.zeros(channels))
        self.share_bias = nn.Parameter(torch.full([n], math.log(math.expm1(1.0)), dtype=dtype))
        self.share_weight = nn.Parameter(torch.zeros(channels))
        self.output = DensityOutput(shape, math.sqrt(scale))
        if self.without_dipoles:
            self.dipole_bias.requires_grad_(False)
            self.dipole_weight.requires_grad_(False)
        self.register_buffer("reach", reach, persistent=False)
        self.register_buffer("cutoff_scale", cutoff_scale(reach, lengths), persistent=False)
        self.register_buffer("metallic", metallic.to(torch.float64), persistent=False)

    def forward(
        self, h: Tensor, species: Tensor, local_density: Tensor, neighbours: Neighbours, edges: Edges
    ) -> ResponseState:
        """Features ``(n, 4, C)``, species of all atoms, p_loc ``(n, 4)`` -> the response of this geometry."""
        own = species[: h.shape[0]]
        softness = -self.softness(h, own).unsqueeze(2)
        nothing = torch.zeros_like(softness)
        matrix = torch.cat([softness if m == self.receiver else nothing for m in range(self.n_widths)], dim=2)
        weights = torch.nn.functional.softplus(self._scalar(self.share_bias, self.share_weight, h, own))
        share = self.shared_softness * weights
        return matrix_state(local_density, matrix, neighbours, species, self.bonds(h, species, edges), share)

    def softness(self, h: Tensor, species: Tensor) -> Tensor:
        """The part of M of single atoms ``(n, 4, 4)``, from features ``(n, 4, C)``: e/V, e Å/V and e Å²/V."""
        s = torch.nn.functional.softplus(self._scalar(self.dipole_bias, self.dipole_weight, h, species)).unsqueeze(1)
        amplitude = self._scalar(self.metallic_bias, self.metallic_weight, h, species).relu()
        amplitude = self.metallic_scale * amplitude * self.metallic.to(h.dtype)[species]
        diagonal = torch.cat([torch.ones_like(s), s.expand(-1, 3)], dim=1)
        scale = torch.cat([amplitude.unsqueeze(1), torch.ones_like(s).expand(-1, 3)], dim=1)
        if self.without_dipoles:
            diagonal = charges_only(diagonal)
        b = self.output(h, species)
        inner = torch.diag_embed(diagonal) + self.response_scale * torch.matmul(b, b.transpose(1, 2))
        return scale.unsqueeze(2) * inner * scale.unsqueeze(1)

    def bonds(self, h: Tensor, species: Tensor, edges: Edges) -> Bonds:
        """The squares b between atoms, from features ``(n, 4, C)`` and edges of all pairs within the reach."""
        pairs = near_pairs(edges, species, self.reach, self.cutoff_scale)
        atom, partner = pairs.atom, pairs.partner
        own, other = species[atom], species[partner]
        parts = torch.matmul(h[:, 0], self.bond_weight.t() * self.c)
        everywhere = ghost_gather(parts, species.shape[0]) if edges.distributed else parts
        mine, theirs = parts[atom].split(self.rank, dim=1), everywhere[partner].split(self.rank, dim=1)
        bias = self.bond_bias.permute(0, 2, 3, 1)
        charge = (0.5 * (bias[0] + bias[0].transpose(0, 1)))[own, other] + mine[0] + theirs[0]
        # the same function from both ends: α of an atom from its own part and the partner's
        dipole = bias[1][own, other] + mine[1] + theirs[2]
        dipole_of_partner = bias[1][other, own] + theirs[1] + mine[2]
        direction = (pairs.vectors / pairs.distance.unsqueeze(1))[:, [1, 2, 0]].unsqueeze(1)
        if self.without_dipoles:
            direction = torch.zeros_like(direction)
        charge = charge.unsqueeze(2)
        on_atom = torch.cat([charge, dipole.unsqueeze(2) * direction], dim=2)
        on_partner = torch.cat([-charge, dipole_of_partner.unsqueeze(2) * direction], dim=2)
        scale = pairs.cutoff[:, None, None]
        return Bonds(atom, partner, scale * on_atom, scale * on_partner)

    def _scalar(self, bias: Tensor, weight: Tensor, h: Tensor, species: Tensor) -> Tensor:
        return bias[species] + torch.matmul(h[:, 0], weight * self.c)
