"""Symmetric contraction: equivariant polynomials of the messages up to a correlation order (the product basis).

    B^{LM}_c = sum_nu sum_k w^nu_{z,k,c} sum_{mono} U^nu_{mono, M, k} prod_{s in mono} A_{s c},

with w weights of the element z, A the messages, c the channel and U the generalised coupling coefficients over
symmetric monomials (`coupling.symmetric_basis`), so that every product is formed once.

Sources: Batatia et al., NeurIPS 2022, arXiv:2206.07697, eqs. 10 and 11; the basis is that of the atomic cluster
expansion, Drautz, Phys. Rev. B 99, 014104 (2019), doi:10.1103/PhysRevB.99.014104.
"""

import torch
from torch import Tensor, nn

from ..coupling import symmetric_basis
from ..nets import EquivariantLinear


class HomogeneousContraction(nn.Module):
    """The terms of one order nu: messages with l <= ``max_ell`` -> features with l <= ``l_out``."""

    monomials: Tensor
    basis: Tensor

    def __init__(self, max_ell: int, l_out: int, channels: int, order: int, n_elements: int) -> None:
        super().__init__()
        self.order = order
        per_l = [symmetric_basis(max_ell, ell, order) for ell in range(l_out + 1)]
        self.sizes = [b.shape[2] for _, b in per_l]
        self.output_split = [(2 * ell + 1) * k for ell, k in enumerate(self.sizes)]
        self.register_buffer("monomials", torch.tensor(per_l[0][0].T.copy()), persistent=False)
        basis = [torch.tensor(b).permute(1, 2, 0).reshape(-1, b.shape[0]) for _, b in per_l]
        self.register_buffer("basis", torch.cat(basis), persistent=False)
        self.weight = nn.Parameter(torch.cat([torch.randn(n_elements, k, channels) / k for k in self.sizes], dim=1))

    def forward(self, messages: Tensor, weight: Tensor) -> Tensor:
        """``((max_ell+1)², n, C)`` and the weights of each atom ``(K, n, C)`` -> ``((l_out+1)², n, C)``."""
        n, c = messages.shape[1], messages.shape[2]
        rows = messages.reshape(messages.shape[0], n * c)
        product = rows  # the monomials of order 1 are the components
        if self.order > 1:
            product = rows.index_select(0, self.monomials[0])
            for factor in range(1, self.order):
                product = product * rows.index_select(0, self.monomials[factor])
        terms = torch.matmul(self.basis.to(messages.dtype), product).split(self.output_split, dim=0)
        weights = weight.split(self.sizes, dim=0)
        parts: list[Tensor] = []
        for ell, k in enumerate(self.sizes):
            parts.append((terms[ell].reshape(2 * ell + 1, k, n, c) * weights[ell]).sum(1))
        return torch.cat(parts, dim=0)


class ProductBasis(nn.Module):
    """Symmetric contraction summed over orders 1 … ``correlation``, then a linear map."""

    def __init__(self, max_ell: int, l_out: int, channels: int, correlation: int, n_elements: int) -> None:
        super().__init__()
        self.first = HomogeneousContraction(max_ell, l_out, channels, 1, n_elements)
        self.higher = nn.ModuleList(
            HomogeneousContraction(max_ell, l_out, channels, nu, n_elements) for nu in range(2, correlation + 1)
        )
        self.linear = EquivariantLinear(l_out, channels, channels)

    def forward(self, messages: Tensor, species: Tensor) -> Tensor:
        """``(n, (max_ell+1)², C)`` -> ``(n, (l_out+1)², C)``."""
        # components first: products and couplings act on long rows
        rows = messages.transpose(0, 1).contiguous()
        out = self.first(rows, self.first.weight[species].transpose(0, 1))
        for contraction in self.higher:
            weight = contraction.weight[species].transpose(0, 1)  # type: ignore[index]
            out = out + contraction(rows, weight)
        return self.linear(out.transpose(0, 1), species)
