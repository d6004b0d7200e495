"""Updates in which an atom's density follows the field at that atom.

With h the mixed features, v_n^l the normalised field features of width n, phi their expansion (`embedding`), z the
element and c = 1/sqrt(C):

    m_w^l = sum_n A^l_{z n w} phi_n^l + c sum_u B^l_{u w} h_u^l             (potential embedding; B = 0 if not biased)
    d_u   = c sum_l sum_w W^l_{u w} <h_u^l, m_w^l> / sqrt(2l + 1)           (invariants)
    Δp^l  = c sum_u R^l_{z u} h_u^l [c sum_w T^l_{u w} f(d)_w]              (f: NoNonLinearity or MLPNonLinearity)

d is affine in phi, so Δp = U f(b + W phi) with U, W, b that depend on the geometry only: they are built once per
geometry, and an SCF iteration never touches the features again.  With f and phi the identity the product U W is formed
once and the update is one matrix per atom.

``polarize_symmetric_sites`` adds Δp^l += sum_n α^l_n v_n^l with environment-dependent scalars α^l_n = β^l_{z n} +
c sum_u w^l_{n u} h_u^0: without it the induced dipole is a scalar times h^1 and vanishes on symmetric sites.

Where the density has charges only (``l_max`` 0), Δp^1 is left out. Field features without gradients have a scale of
zero for l = 1, and no part in any of this.

``monotone_charge`` makes the charge fall with the Fermi level on every atom: its response to l = 0 features is
q -= sum_n S_n v_n^0 with S_n = softplus(b_{z n} + c sum_u w_{n u} h_u^0) >= 0 and nothing else.

Source: Baldwin et al., arXiv:2603.14700; the response on symmetric sites is ours.
"""

import math

import torch
from torch import Tensor, nn

from ..backbone.neighbours import Edges, Neighbours
from ..nets import MLP, NoNonlinearity, charges_only
from ..options import UpdateOptions
from .embedding import FieldExpansion
from .state import LevelLine, ResponseShape, ResponseState, Update, matrix_response, no_bonds, no_rows

#: start of the scalar response β: charge per volt (e/V) and dipole per field (e Å²/V)
INITIAL_SOFTNESS = 0.02
INITIAL_POLARIZABILITY = 0.02
#: the scalar response is stored divided by this, so that an optimiser's steps do not make charges soft at once
SKIP_SCALE = 0.1
#: hidden layers of MLPNonLinearity
NONLINEARITY_HIDDEN = [64, 64]


class ScalarResponse(nn.Module):
    """The response by environment-dependent scalars, α^l_n and -S_n above: the skip path and the monotone charge."""

    softness_weight: Tensor
    softness_bias: Tensor

    def __init__(self, shape: ResponseShape, options: UpdateOptions, feature_scale: Tensor) -> None:
        super().__init__()
        channels, n_widths, n_elements = shape.channels, shape.n_widths, shape.n_elements
        skip, monotone = options.polarize_symmetric_sites, options.monotone_charge
        self.c = 1.0 / math.sqrt(channels)
        self.skip, self.monotone, self.without_dipoles = skip, monotone, shape.l_max == 0
        self.skip_scale = SKIP_SCALE
        start = torch.tensor([INITIAL_SOFTNESS, INITIAL_POLARIZABILITY], dtype=torch.float64)
        per_feature = start[:, None] / (n_widths * feature_scale.t()[:2])
        per_feature = torch.where(torch.isfinite(per_feature), per_feature, 0.0)
        self.skip_weight = nn.Parameter(torch.zeros(2, n_widths, channels))
        bias = (-per_feature / SKIP_SCALE).unsqueeze(1).repeat(1, n_elements, 1)
        self.skip_bias = nn.Parameter(bias.to(torch.get_default_dtype()))
        if not skip:
            self.skip_weight.requires_grad_(False)
            self.skip_bias.requires_grad_(False)
        softness_weight = torch.zeros(n_widths, channels)
        softness_bias = torch.log(torch.expm1(per_feature[0])).repeat(n_elements, 1).to(softness_weight.dtype)
        if monotone:
            self.softness_weight, self.softness_bias = nn.Parameter(softness_weight), nn.Parameter(softness_bias)
        else:
            self.register_buffer("softness_weight", softness_weight, persistent=False)
            self.register_buffer("softness_bias", softness_bias, persistent=False)

    def forward(self, h: Tensor, species: Tensor) -> Tensor:
        """Features ``(n, 4, C)`` -> diagonal response to normalised features ``(n, m, 4)``."""
        n, m = h.shape[0], self.skip_bias.shape[2]
        diagonal = torch.zeros([n, m, 4], dtype=h.dtype, device=h.device)
        if self.skip:
            weight = self.skip_weight * self.c
            scalar = self.skip_bias[0][species] + torch.matmul(h[:, 0], weight[0].t())
            vector = self.skip_bias[1][species] + torch.matmul(h[:, 0], weight[1].t())
            diagonal = self.skip_scale * torch.stack([scalar, vector, vector, vector], dim=2)
        if self.monotone:
            argument = self.softness_bias[species] + torch.matmul(h[:, 0], self.softness_weight.t() * self.c)
            softness = torch.nn.functional.softplus(argument).unsqueeze(2)
            diagonal = torch.cat([-softness, diagonal[:, :, 1:]], dim=2)
        if self.without_dipoles:
            diagonal = torch.cat([diagonal[:, :, :1], torch.zeros_like(diagonal[:, :, 1:])], dim=2)
        return diagonal


class DensityOutput(nn.Module):
    """U of Δp = U s: element-selective read-out of the features scaled by mixed scalars s.

    ``scale`` multiplies the initial read-out.
    """

    def __init__(self, shape: ResponseShape, scale: float) -> None:
        super().__init__()
        channels, n_elements, l_max = shape.channels, shape.n_elements, shape.l_max
        self.c = 1.0 / math.sqrt(channels)
        self.l_max = l_max
        self.mixing_weight = nn.Parameter(torch.randn(l_max + 1, channels, channels))
        self.element_readout = nn.Parameter(scale * torch.randn(l_max + 1, n_elements, channels))

    def forward(self, h: Tensor, species: Tensor) -> Tensor:
        """Features ``(n, 4, C)`` -> U ``(n, 4, C)``."""
        rows: list[Tensor] = []
        for ell in range(self.l_max + 1):
            hl = h[:, ell * ell : (ell + 1) * (ell + 1)]
            selected = hl * (self.element_readout[ell] * self.c)[species].unsqueeze(1)
            rows.append(torch.matmul(selected, self.mixing_weight[ell] * self.c))
        return torch.cat(rows, dim=1) if self.l_max == 1 else charges_only(rows[0])


class OneBodyUpdate(Update):
    """`OneBodyVariableUpdate`; see the equations above.

    Args:
        options: ``fixedpoint_update_config``.
        scale: of the initial response.
        feature_scale: ``(m, 4)`` normalised field features per raw field (`model.feature_scales`).
    """

    feature_scale: Tensor

    def __init__(self, shape: ResponseShape, options: UpdateOptions, scale: float, feature_scale: Tensor) -> None:
        super().__init__()
        channels, n_widths, n_elements = shape.channels, shape.n_widths, shape.n_elements
        self.c = 1.0 / math.sqrt(channels)
        self.n_widths, self.channels = n_widths, channels
        self.biased = options.embedding == "BiasedLinearPotentialEmbedding"
        self.monotone = options.monotone_charge
        self.expansion = FieldExpansion(options.embedding == "TanhPotentialEmbedding", n_widths)
        self.curved = options.nonlinearity_cls == "MLPNonLinearity"
        self.affine = not (self.curved or self.expansion.saturating)
        self.linear = self.affine
        self.straight = self.curved and not self.expansion.saturating
        size = self.expansion.size
        self.field_weight = nn.Parameter(torch.randn(2, n_elements, size, channels) / math.sqrt(size / n_widths))
        self.feature_weight = nn.Parameter(torch.randn(2, channels, channels), requires_grad=self.biased)
        self.invariant_weight = nn.Parameter(torch.randn(2, channels, channels))
        self.nonlinearity = MLP([channels, *NONLINEARITY_HIDDEN, channels]) if self.curved else NoNonlinearity()
        self.output = DensityOutput(shape, scale)
        self.scalars = ScalarResponse(shape, options, feature_scale)
        self.register_buffer("feature_scale", feature_scale, persistent=False)

    def forward(
        self, h: Tensor, species: Tensor, local_density: Tensor, neighbours: Neighbours, edges: Edges
    ) -> ResponseState:
        """Features ``(n, 4, C)``, species of all atoms, p_loc ``(n, 4)`` -> the response of this geometry."""
        n, m, channels = h.shape[0], self.n_widths, h.shape[2]
        own = species[:n]
        scale = self.feature_scale.to(h.dtype)
        constant = torch.zeros([n, channels], dtype=h.dtype, device=h.device)
        columns: list[Tensor] = []
        for ell in range(2):
            hl = h[:, ell * ell : (ell + 1) * (ell + 1)]
            norm = self.c / math.sqrt(2.0 * ell + 1.0)
            back = self.invariant_weight[ell].t() * norm
            if self.biased:
                biased = torch.matmul(hl, self.feature_weight[ell] * self.c)
                constant = constant + (hl * torch.matmul(biased, back)).sum(1)
            embedded = torch.matmul(self.field_weight[ell], back)[own]
            columns.append(hl.unsqueeze(1) * embedded.unsqueeze(2))
        inner = torch.cat(columns, dim=2).reshape(n, self.expansion.size * 4, channels).transpose(1, 2)
        outer = self.output(h, own)
        diagonal = (self.scalars(h, own) * scale).transpose(1, 2)
        matrix = diagonal.unsqueeze(3) * torch.eye(4, dtype=h.dtype, device=h.device).unsqueeze(1)
        base = local_density
        if self.affine:
            base = base + torch.matmul(outer, constant.unsqueeze(2)).squeeze(2)
            slope = torch.matmul(outer, inner).reshape(n, 4, m, 4) * scale
            if self.monotone:
                charge = torch.cat([torch.zeros_like(slope[:, :1, :, :1]), slope[:, :1, :, 1:]], dim=3)
                slope = torch.cat([charge, slope[:, 1:]], dim=1)
            matrix = matrix + slope
            inner = no_rows(h, [n, 0, 0])
            constant = no_rows(h, [n, 0])
            outer = no_rows(h, [n, 4, 0])
        nothing = no_rows(h, [0, 4, 0])
        bonds, share = no_bonds(h), torch.zeros_like(h[:, 0, 0])
        return ResponseState(base, matrix, inner, constant, outer, nothing, nothing, neighbours, species, bonds, share)

    def density(self, s: ResponseState, u: Tensor, distributed: bool) -> Tensor:
        """p ``(n, 4)`` in the raw total field ``u`` ``(n, m, 4)``."""
        p = s.base + matrix_response(s.matrix, u)
        if self.affine:
            return p
        v = u * self.feature_scale.to(u.dtype)
        induced = self._induced(s, v)
        if self.monotone:
            # the charge sees no l = 0 feature but through its softness
            without = torch.cat([torch.zeros_like(v[:, :, :1]), v[:, :, 1:]], dim=2)
            induced = torch.cat([self._induced(s, without)[:, :1], induced[:, 1:]], dim=1)
        return p + induced

    def level_line(self, s: ResponseState, u: Tensor) -> LevelLine:
        """The argument of f and its slope, so that a level costs the network only."""
        n, m = u.shape[0], u.shape[1]
        scale = self.feature_scale.to(u.dtype)
        base = s.base + matrix_response(s.matrix, u)
        shift = s.matrix[:, :, :, 0].sum(2)
        v = u * scale
        argument = s.bias + torch.matmul(s.inner, v.reshape(n, m * 4, 1)).squeeze(2)
        direction = torch.matmul(s.inner.reshape(n, s.inner.shape[1], m, 4)[:, :, :, 0], scale[:, 0])
        outer = s.outer
        if self.monotone:
            without = torch.cat([torch.zeros_like(v[:, :, :1]), v[:, :, 1:]], dim=2)
            charge = self._induced(s, without)[:, :1]
            base = torch.cat([base[:, :1] + charge, base[:, 1:]], dim=1)
            outer = torch.cat([torch.zeros_like(outer[:, :1]), outer[:, 1:]], dim=1)
        argument, direction = self.nonlinearity.first_layer(argument), self.nonlinearity.first_layer(direction)
        return LevelLine(base, shift, argument, direction, outer)

    def on_line(self, line: LevelLine, level: Tensor) -> tuple[Tensor, Tensor]:
        """p ``(n, 4)`` at each atom's level ``(n,)``, and dp/dμ ``(n, 4)``."""
        moved = line.argument + line.direction * level.unsqueeze(1)
        f, slope = self.nonlinearity.with_slope(moved, line.direction)
        both = torch.matmul(line.outer, torch.stack([f, slope], dim=2))
        return line.base + line.shift * level.unsqueeze(1) + both[:, :, 0], line.shift + both[:, :, 1]

    def _induced(self, s: ResponseState, v: Tensor) -> Tensor:
        expanded = self.expansion(v).reshape(v.shape[0], 4 * self.expansion.size, 1)
        d = s.bias + torch.matmul(s.inner, expanded).squeeze(2)
        return torch.matmul(s.outer, self.nonlinearity(d).unsqueeze(2)).squeeze(2)
