"""Potential embeddings: normalised field features v -> channels, and what they expand v into first.

    LinearPotentialEmbedding         m_w^l = sum_n A^l_{z n w} v_n^l
    BiasedLinearPotentialEmbedding   the same + c sum_u B^l_{u w} h_u^l
    TanhPotentialEmbedding           the first, on tanh(v / w_k) for l = 0 and v tanh(|v| / w_k) / |v| for l = 1

with five w_k from 1 to 10, logarithmically.  The method's own tanh acts on single components of l = 1 features, which
is not equivariant; ours acts on their length.

Source: Baldwin et al., arXiv:2603.14700, and its implementation, whose names these are.
"""

import torch
from torch import Tensor, nn

#: widths w_k of the tanh embedding
TANH_WIDTHS = 5


class FieldExpansion(nn.Module):
    """Functions of the field features that the linear map of an embedding acts on."""

    widths: Tensor

    def __init__(self, saturating: bool, n_widths: int) -> None:
        super().__init__()
        self.saturating = saturating
        self.size = n_widths * (TANH_WIDTHS if saturating else 1)
        self.register_buffer("widths", torch.logspace(0.0, 1.0, TANH_WIDTHS, dtype=torch.float64), persistent=False)

    def forward(self, v: Tensor) -> Tensor:
        """``(n, m, 4)`` -> ``(n, size, 4)``."""
        if not self.saturating:
            return v
        n, m = v.shape[0], v.shape[1]
        w = self.widths.to(v.dtype)
        scalar = torch.tanh(v[:, :, :1] / w).unsqueeze(3)
        vector = v[:, :, 1:]
        # the length is kept off zero, where the factor is 1 / w_k and smooth
        length = torch.sqrt(vector.square().sum(2, keepdim=True) + 1e-20)
        factor = torch.tanh(length / w) / length
        return torch.cat([scalar, factor.unsqueeze(3) * vector.unsqueeze(2)], dim=3).reshape(n, m * w.shape[0], 4)
