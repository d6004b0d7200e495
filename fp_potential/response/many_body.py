"""`ManyBodyUpdate`: an atom's density follows the field at the atom and at its neighbours.

    Δp = U f(d),  d = invariants of one message pass over the expanded field features (`message`),

with U and f as in `one_body`.  The message pass runs in every application of the map; its radial weights and U are
built once per geometry.

Source: Baldwin et al., arXiv:2603.14700.
"""

import torch
from torch import Tensor, nn

from ..backbone.interaction import MessageShape
from ..backbone.neighbours import Edges, Neighbours
from ..nets import MLP
from ..options import UpdateOptions
from .embedding import FieldExpansion
from .message import FieldMessage
from .one_body import NONLINEARITY_HIDDEN, DensityOutput, ScalarResponse
from .state import ResponseShape, ResponseState, Update, matrix_response, no_bonds, no_rows


class ManyBodyUpdate(Update):
    """Response through one message pass over field features; skip path and monotone charge as in `OneBodyUpdate`.

    Args:
        passes: shape of the message pass.
        options: ``fixedpoint_update_config``.
        scale: of the initial response.
        feature_scale: ``(m, 4)`` normalised field features per raw field (`model.feature_scales`).
    """

    feature_scale: Tensor

    def __init__(
        self,
        shape: ResponseShape,
        passes: MessageShape,
        options: UpdateOptions,
        scale: float,
        feature_scale: Tensor,
    ) -> None:
        super().__init__()
        o, channels = options, shape.channels
        self.monotone = o.monotone_charge
        self.expansion = FieldExpansion(o.embedding == "TanhPotentialEmbedding", shape.n_widths)
        self.curved = o.nonlinearity_cls == "MLPNonLinearity"
        self.affine = not (self.curved or self.expansion.saturating or o.correlation > 1)
        self.linear = False
        self.message = FieldMessage(
            passes,
            self.expansion.size,
            o.embedding == "BiasedLinearPotentialEmbedding",
            o.correlation,
            o.use_sc,
            o.central_atom_mixer_cls == "AdditiveFieldMixer",
            o.central_atom_feats_mixer_cls == "AdditiveFieldMixer",
        )
        self.nonlinearity = MLP([channels, *NONLINEARITY_HIDDEN, channels]) if self.curved else nn.Identity()
        self.output = DensityOutput(shape, scale)
        self.scalars = ScalarResponse(shape, o, feature_scale)
        self.register_buffer("feature_scale", feature_scale, persistent=False)

    def forward(
        self, h: Tensor, species: Tensor, local_density: Tensor, neighbours: Neighbours, edges: Edges
    ) -> ResponseState:
        """Features ``(n, 4, C)``, species of all atoms, p_loc ``(n, 4)`` -> the response of this geometry."""
        n = h.shape[0]
        own = species[:n]
        diagonal = (self.scalars(h, own) * self.feature_scale.to(h.dtype)).transpose(1, 2)
        matrix = diagonal.unsqueeze(3) * torch.eye(4, dtype=h.dtype, device=h.device).unsqueeze(1)
        radial = self.message.radial_features(neighbours)
        inner = no_rows(h, [n, 0, 0])
        bias = no_rows(h, [n, 0])
        outer, bonds, share = self.output(h, own), no_bonds(h), torch.zeros_like(h[:, 0, 0])
        return ResponseState(local_density, matrix, inner, bias, outer, h, radial, neighbours, species, bonds, share)

    def density(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """p ``(n, 4)`` in the raw total field ``u`` ``(n, m, 4)``."""
        p = s.base + matrix_response(s.matrix, u)
        v = u * self.feature_scale.to(u.dtype)
        induced = self._induced(s, v, distributed)
        if self.monotone:
            without = torch.cat([torch.zeros_like(v[:, :, :1]), v[:, :, 1:]], dim=2)
            induced = torch.cat([self._induced(s, without, distributed)[:, :1], induced[:, 1:]], dim=1)
        return p + induced

    def _induced(self, s: ResponseState, v: Tensor, distributed: bool) -> Tensor:
        d = self.message(self.expansion(v), s.features, s.species, s.neighbours, s.edges, distributed)
        return torch.matmul(s.outer, self.nonlinearity(d).unsqueeze(2)).squeeze(2)
