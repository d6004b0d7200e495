"""Small network families shared by all parts: equivariant linear maps and gated read-outs.

Features are dense: ``(n, (L+1)², C)``, components first, the same number of channels C for every l.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from .coupling import silu_norm


def charges_only(density: Tensor) -> Tensor:
    """The charges of a density, and zeros in place of dipoles: ``(n, >= 1, …)`` -> ``(n, 4, …)``."""
    charge = density[:, :1]
    nothing = torch.zeros_like(charge)
    return torch.cat([charge, nothing, nothing, nothing], dim=1)


class EquivariantLinear(nn.Module):
    """out^l_v = 1/sqrt(C_in) sum_u W^l_uv x^l_u for every l <= l_max; no bias, optionally one W per element."""

    def __init__(self, l_max: int, n_in: int, n_out: int, n_elements: int = 0) -> None:
        super().__init__()
        self.l_max = l_max
        self.split_sizes = [2 * ell + 1 for ell in range(l_max + 1)]
        self.per_element = n_elements > 0
        shape = [l_max + 1, n_elements, n_in, n_out] if n_elements > 0 else [l_max + 1, n_in, n_out]
        self.weight = nn.Parameter(torch.randn(shape))
        self.scale = 1.0 / math.sqrt(n_in * max(n_elements, 1))

    def forward(self, x: Tensor, species: Tensor) -> Tensor:
        """``(n, (l_max+1)², C_in)``, species ``(n,)`` -> ``(n, (l_max+1)², C_out)``."""
        parts: list[Tensor] = []
        weight = self.weight * self.scale
        for ell, block in enumerate(x.split(self.split_sizes, dim=1)):
            w = weight[ell]
            parts.append(torch.matmul(block, w[species] if self.per_element else w))
        return torch.cat(parts, dim=1)


class ScalarReadout(nn.Module):
    """Energy per atom (eV) from the scalars: linear, or linear – silu – linear with ``hidden`` > 0 channels."""

    def __init__(self, n_in: int, hidden: int) -> None:
        super().__init__()
        sizes = [n_in, hidden, 1] if hidden > 0 else [n_in, 1]
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b)) for a, b in pairwise(sizes)])
        self.scales = [1.0 / math.sqrt(a) for a in sizes[:-1]]
        self.activation_scale = silu_norm()

    def forward(self, h: Tensor) -> Tensor:
        """Features ``(n, comps, C)`` -> energies ``(n,)``."""
        x = h[:, 0]
        last = len(self.scales) - 1
        for i, weight in enumerate(self.weights):
            x = torch.matmul(x, weight * self.scales[i])
            if i < last:
                x = torch.nn.functional.silu(x) * self.activation_scale
        return x.squeeze(1)


class MLP(nn.Module):
    """Network without biases, zero at zero: x -> x W / sqrt(fan-in), W ~ N(0, 1), and normalised silu in between.

    silu(x) / sqrt(E[silu(x)²]), x ~ N(0, 1) (`coupling.silu_norm`), keeps the size of what passes through; as e3nn's
    FullyConnectedNet.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.randn(a, b)) for a, b in pairwise(sizes)])
        self.scales = [1.0 / math.sqrt(a) for a in sizes[:-1]]
        self.activation_scale = silu_norm()

    def forward(self, x: Tensor) -> Tensor:
        """``(n, sizes[0])`` -> ``(n, sizes[-1])``."""
        return torch.matmul(self.hidden(x), self.last_weight())

    def hidden(self, x: Tensor) -> Tensor:
        """The input of the last layer ``(n, sizes[-2])``."""
        last = len(self.scales) - 1
        for i, weight in enumerate(self.weights):
            if i < last:
                x = torch.nn.functional.silu(torch.matmul(x, weight * self.scales[i])) * self.activation_scale
        return x

    def last_weight(self) -> Tensor:
        """The linear map of the last layer ``(sizes[-2], sizes[-1])``."""
        weights = [weight for weight in self.weights]
        return weights[-1] * self.scales[-1]

    def first_layer(self, x: Tensor) -> Tensor:
        """The arguments of the first activations ``(n, sizes[1])``."""
        return torch.matmul(x, self.weights[0] * self.scales[0])

    def with_slope(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """f and its derivative, both ``(n, sizes[-1])``, where `first_layer` is ``x`` and changes along ``t``."""
        for i, weight in enumerate(self.weights):
            if i > 0:
                gate = torch.sigmoid(x) * self.activation_scale
                slope = gate + x * gate * (1.0 - gate / self.activation_scale)
                scaled = weight * self.scales[i]
                x, t = torch.matmul(x * gate, scaled), torch.matmul(t * slope, scaled)
        return x, t


class NoNonlinearity(nn.Module):
    """The identity where an `MLP` may stand."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x

    def first_layer(self, x: Tensor) -> Tensor:
        """``x`` itself."""
        return x

    def with_slope(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """``x`` and its derivative along ``t``."""
        return x, t


class GatedReadout(nn.Module):
    """Equivariant read-out to one channel of l = 0, 1: (linear, gate) twice, then linear.

    The gate applies silu to scalars and multiplies vectors by the sigmoid of further scalars.  With hidden vectors it
    makes dipoles as well as charges.
    """

    def __init__(self, n_in: int, hidden: int, output_scale: float) -> None:
        super().__init__()
        self.inner = nn.ModuleList([EquivariantLinear(1, n_in, hidden), EquivariantLinear(1, hidden, hidden)])
        self.gates = nn.ModuleList([EquivariantLinear(0, n_in, hidden), EquivariantLinear(0, hidden, hidden)])
        self.last = EquivariantLinear(1, hidden, 1)
        self.activation_scale = silu_norm()
        with torch.no_grad():
            self.last.weight.mul_(output_scale)

    def forward(self, h: Tensor, species: Tensor) -> Tensor:
        """Features ``(n, >= 4, C)`` -> ``(n, 4)`` as [q, d_y, d_z, d_x]."""
        x = h[:, :4]
        for linear, gate in zip(self.inner, self.gates):
            scalars = torch.sigmoid(gate(x[:, :1], species))
            y = linear(x, species)
            x = torch.cat([torch.nn.functional.silu(y[:, :1]) * self.activation_scale, y[:, 1:] * scalars], dim=1)
        return self.last(x, species).squeeze(2)


class ChargeReadout(nn.Module):
    """What `GatedReadout` is for charges without dipoles: linear – silu, twice, then linear, of the scalars."""

    def __init__(self, n_in: int, hidden: int, output_scale: float) -> None:
        super().__init__()
        self.mlp = MLP([n_in, hidden, hidden, 1])
        with torch.no_grad():
            self.mlp.weights[-1].mul_(output_scale)

    def forward(self, h: Tensor, species: Tensor) -> Tensor:
        """Features ``(n, >= 1, C)`` -> ``(n, 4)`` as [q, 0, 0, 0]."""
        return charges_only(self.mlp(h[:, 0]))


class LinearDensityReadout(nn.Module):
    """One linear map of the features to charges, and dipoles if ``l_max`` is 1, times a scale per element."""

    scaling: Tensor

    def __init__(self, n_in: int, scaling: Tensor, output_scale: float, l_max: int = 1) -> None:
        super().__init__()
        self.linear = EquivariantLinear(l_max, n_in, 1)
        self.register_buffer("scaling", scaling, persistent=False)
        with torch.no_grad():
            self.linear.weight.mul_(output_scale)

    def forward(self, h: Tensor, species: Tensor) -> Tensor:
        """Features ``(n, >= 4, C)`` -> ``(n, 4)`` as [q, d_y, d_z, d_x]."""
        size = (self.linear.l_max + 1) * (self.linear.l_max + 1)
        density = self.linear(h[:, :size], species).squeeze(2) * self.scaling.to(h.dtype)[species].unsqueeze(1)
        return charges_only(density) if size == 1 else density
