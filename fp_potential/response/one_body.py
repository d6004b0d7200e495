"""One-body update with a linear field embedding, reduced to one small matrix per atom.

With h the mixed features, v_n^l the field features of width n, z the element and c = 1/sqrt(C):

    m_w^l = sum_n A^l_{z n w} v_n^l + c sum_u B^l_{u w} h_u^l              (BiasedLinearPotentialEmbedding)
    d_u   = c sum_l sum_w W^l_{u w} <h_u^l, m_w^l> / sqrt(2l + 1)           (invariants; NoNonLinearity)
    Δp^l  = c sum_u R^l_{z u} h_u^l [c sum_w T^l_{u w} d_w].

d is affine in v, so Δp = a + X v with a ``(n, 4)`` and X ``(n, 4, m, 4)`` that depend on the geometry only.  They are
built once per geometry; an SCF iteration never touches the features again.

``polarize_symmetric_sites`` adds Δp^l += sum_n α^l_n v_n^l with environment-dependent scalars α^l_n = β^l_{z n} +
c sum_u w^l_{n u} h_u^0: without it the induced dipole is a scalar times h^1 and vanishes on symmetric sites.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

#: start of the scalar response β: charge per volt (e/V) and dipole per field (e Å²/V)
INITIAL_SOFTNESS = 0.02
INITIAL_POLARIZABILITY = 0.02
#: the scalar response is stored divided by this, so that an optimiser's steps do not make charges soft at once
SKIP_SCALE = 0.1


class DensityResponse(NamedTuple):
    """Density as an affine function of the raw field u = (<v>, <grad v>): p = base + matrix · u."""

    base: Tensor  #: (n, 4)
    matrix: Tensor  #: (n, 4, m, 4), e per V and so on; norms and feature scales folded in
    fermi: Tensor  #: (n, 4) change of the density per volt of Fermi level


class OneBodyUpdate(nn.Module):
    """`OneBodyVariableUpdate` with `NoNonLinearity` and `BiasedLinearPotentialEmbedding`."""

    def __init__(
        self, channels: int, n_widths: int, n_elements: int, scale: float, skip: bool, feature_scale: Tensor
    ) -> None:
        super().__init__()
        self.c = 1.0 / math.sqrt(channels)
        self.skip = skip
        self.n_widths = n_widths
        self.field_weight = nn.Parameter(torch.randn(2, n_elements, n_widths, channels))
        self.feature_weight = nn.Parameter(torch.randn(2, channels, channels))
        self.invariant_weight = nn.Parameter(torch.randn(2, channels, channels))
        self.mixing_weight = nn.Parameter(torch.randn(2, channels, channels))
        self.element_readout = nn.Parameter(scale * torch.randn(2, n_elements, channels))
        self.skip_weight = nn.Parameter(torch.zeros(2, n_widths, channels))
        start = -torch.tensor([INITIAL_SOFTNESS, INITIAL_POLARIZABILITY], dtype=torch.float64)
        self.skip_scale = SKIP_SCALE
        per_feature = start[:, None] / (SKIP_SCALE * n_widths * feature_scale.t()[:2])
        self.skip_bias = nn.Parameter(per_feature.unsqueeze(1).repeat(1, n_elements, 1).to(torch.get_default_dtype()))
        if not skip:
            self.skip_weight.requires_grad_(False)
            self.skip_bias.requires_grad_(False)

    def forward(self, h: Tensor, species: Tensor) -> tuple[Tensor, Tensor]:
        """Features ``(n, >= 4, C)`` -> a ``(n, 4)`` and X ``(n, 4, m, 4)`` with respect to field features v."""
        n, m = h.shape[0], self.n_widths
        constant = torch.zeros([n, h.shape[2]], dtype=h.dtype, device=h.device)
        columns: list[Tensor] = []
        outputs: list[Tensor] = []
        for ell in range(2):
            hl = h[:, ell * ell : (ell + 1) * (ell + 1)]
            norm = self.c / math.sqrt(2.0 * ell + 1.0)
            biased = torch.matmul(hl, self.feature_weight[ell] * self.c)
            weighted = torch.matmul(biased, self.invariant_weight[ell].t() * norm)
            constant = constant + (hl * weighted).sum(1)
            embedded = torch.matmul(self.field_weight[ell], self.invariant_weight[ell].t() * norm)[species]
            columns.append(hl.unsqueeze(1) * embedded.unsqueeze(2))
            selected = hl * (self.element_readout[ell] * self.c)[species].unsqueeze(1)
            outputs.append(torch.matmul(selected, self.mixing_weight[ell] * self.c))
        field = torch.cat(columns, dim=2)
        out = torch.cat(outputs, dim=1)
        offset = torch.matmul(out, constant.unsqueeze(2)).squeeze(2)
        matrix = torch.matmul(out, field.reshape(n, m * 4, h.shape[2]).transpose(1, 2)).reshape(n, 4, m, 4)
        if self.skip:
            weight = self.skip_weight * self.c
            scalar = self.skip_bias[0][species] + torch.matmul(h[:, 0], weight[0].t())
            vector = self.skip_bias[1][species] + torch.matmul(h[:, 0], weight[1].t())
            diagonal = self.skip_scale * torch.stack([scalar, vector, vector, vector], dim=1)
            eye = torch.eye(4, dtype=h.dtype, device=h.device)
            matrix = matrix + diagonal.unsqueeze(3) * eye.unsqueeze(1)
        return offset, matrix
