"""`SymmetricUpdate`: a response of the density that is symmetric and positive by construction.

With u = (v, ∇v) the raw field received with the density's own width σ, the density is the minimum over p of

    1/2 (p - p_loc)^T M^-1 (p - p_loc) + p^T (u_ext + (μ - μ_0) on charges) + 1/2 p^T K p,

where K is the Coulomb operator with the atoms' own Gaussians in it, positive semidefinite, and M one positive definite
matrix per atom,

    M = diag(s_q, s_d, s_d, s_d) + B B^T,   s_q, s_d > 0,   B (4, C) equivariant and linear in the features.

The minimum exists and is unique in every geometry, at every charge and Fermi level: the loop has one fixed point, no
eigenvalue of dG/dp reaches 1 and charges cannot run away, on data or off it.  Charge equilibration and induced dipoles
are of this form (`reference.models`).  Where field features leave out an atom's own part D (``include_field_si:
false``) the update is

    Δp = -M' u,   M' = (M^-1 + D)^-1,

the minimum of the same form with M' for M and K - D for K.  Its second derivative M'^-1 + K - D is M^-1 + K again, and
so is the response to fields and levels; p_loc is then the density of an atom in its own field.  The Jacobian
-M' (K - D) is the smaller one: 1 - dG/dp = (1 + M D)^-1 (1 + M K), a product of positive matrices.

Of a density of charges only (``l_max`` 0) p, K, D and M are the charges' parts: M is s_q + |B_q|² > 0 per atom, and the
same minimum exists.
"""

import math

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Edges, Neighbours
from ..nets import charges_only
from .one_body import INITIAL_POLARIZABILITY, INITIAL_SOFTNESS, DensityOutput
from .state import ResponseShape, ResponseState, Update, matrix_response, matrix_state, no_bonds

#: B B^T is multiplied by this (e/V, e Å²/V): weights of order one then make a response as large as that of molecules
RESPONSE_SCALE = 0.1


class SymmetricUpdate(Update):
    """Response by one symmetric positive matrix per atom; see the equations above.

    ``own`` ``(4,)`` is the diagonal of D (V per e and so on; zeros where the features keep the own part),
    ``receiver`` says which of the receivers has the width of the density, and ``scale`` multiplies the initial B B^T.
    """

    own: Tensor

    def __init__(self, shape: ResponseShape, scale: float, own: Tensor, receiver: int) -> None:
        super().__init__()
        channels, n_elements = shape.channels, shape.n_elements
        self.without_dipoles = shape.l_max == 0
        self.affine, self.linear = True, True
        self.n_widths, self.receiver = shape.n_widths, receiver
        self.used_receivers = (receiver, receiver + 1)
        self.c = 1.0 / math.sqrt(channels)
        self.response_scale = RESPONSE_SCALE
        start = torch.tensor([INITIAL_SOFTNESS, INITIAL_POLARIZABILITY], dtype=torch.float64)
        bias = torch.log(torch.expm1(start)).unsqueeze(1).repeat(1, n_elements)
        self.scalar_bias = nn.Parameter(bias.to(torch.get_default_dtype()))
        self.scalar_weight = nn.Parameter(torch.zeros(2, channels))
        self.output = DensityOutput(shape, math.sqrt(scale))
        self.register_buffer("own", own, persistent=False)

    def forward(
        self, h: Tensor, species: Tensor, local_density: Tensor, neighbours: Neighbours, edges: Edges
    ) -> ResponseState:
        """Features ``(n, 4, C)``, species of all atoms, p_loc ``(n, 4)`` -> the response of this geometry."""
        screened = self.screened(self.softness(h, species[: h.shape[0]])).unsqueeze(2)
        nothing = torch.zeros_like(screened)
        matrix = torch.cat([-screened if m == self.receiver else nothing for m in range(self.n_widths)], dim=2)
        return matrix_state(local_density, matrix, neighbours, species, no_bonds(h), torch.zeros_like(h[:, 0, 0]))

    def softness(self, h: Tensor, species: Tensor) -> Tensor:
        """M ``(n, 4, 4)`` of atoms with features ``(n, 4, C)``: e/V, e Å/V and e Å²/V."""
        argument = self.scalar_bias.t()[species] + torch.matmul(h[:, 0], self.scalar_weight.t() * self.c)
        scalars = torch.nn.functional.softplus(argument)
        diagonal = torch.cat([scalars[:, :1], scalars[:, 1:].expand(-1, 3)], dim=1)
        if self.without_dipoles:
            diagonal = charges_only(diagonal)
        b = self.output(h, species)
        return torch.diag_embed(diagonal) + self.response_scale * torch.matmul(b, b.transpose(1, 2))

    def screened(self, softness: Tensor) -> Tensor:
        """M' = (M^-1 + D)^-1 = M (1 + D M)^-1 ``(n, 4, 4)``."""
        root = torch.sqrt(self.own).to(softness.dtype)
        # symmetric, and as well conditioned with D = 0: M - M S (1 + S M S)^-1 S M with S = D^1/2
        right = root.unsqueeze(1) * softness
        system = torch.eye(4, dtype=softness.dtype, device=softness.device) + right * root
        return softness - torch.matmul(right.transpose(1, 2), torch.linalg.solve(system, right))

    def density(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """p ``(n, 4)`` in the raw total field ``u`` ``(n, m, 4)``."""
        return s.base + matrix_response(s.matrix, u)
