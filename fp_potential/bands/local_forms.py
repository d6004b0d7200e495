"""Forms of the local pseudopotential v(q): neural networks, the Zunger form, tables, and none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["sigmoid", "tanh", "relu", "celu"]
Start = Literal["default", "xavier", "xavier_uniform", "he", "he_uniform", "uniform", "random"]
Normalisation = Literal["none", "batch_norm"]

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": torch.relu,
    "celu": nn.functional.celu,
}


class LocalForm(nn.Module):
    """A local pseudopotential v(q): ``forward`` takes ``(m,)`` (1/Bohr) to ``(m, n_species)`` Ha Bohr³."""

    n_species: int

    def forward(self, q: Tensor) -> Tensor:
        """``(m,)`` -> ``(m, n_species)``."""
        raise NotImplementedError


class ZeroForm(LocalForm):
    """v(q) = 0: only the analytic terms are left."""

    def __init__(self, n_species: int) -> None:
        super().__init__()
        self.n_species = n_species

    def forward(self, q: Tensor) -> Tensor:
        """Zeros."""
        return q.new_zeros(len(q), self.n_species)


def zunger(q: Tensor, parameters: Tensor) -> Tensor:
    """v(q) = a0 (q² - a1) / (a2 exp(a3 q²) - 1), Ha Bohr³: q ``(m,)``, parameters ``(n_species, >= 4)`` -> ``(m, n)``.

    Source: L.-W. Wang and A. Zunger, Phys. Rev. B 51, 17398 (1995).
    """
    a0, a1, a2, a3 = parameters[:, :4].unbind(1)
    q2 = (q * q).unsqueeze(1)
    return a0 * (q2 - a1) / (a2 * torch.exp(a3 * q2) - 1.0)


class ZungerForm(LocalForm):
    """The analytic form `zunger` with its four parameters by species ``(n_species, 4)``."""

    def __init__(self, parameters: Tensor) -> None:
        super().__init__()
        self.parameters_by_species = nn.Parameter(parameters[:, :4].detach().clone())
        self.n_species = len(parameters)

    def forward(self, q: Tensor) -> Tensor:
        """`zunger` of the parameters."""
        return zunger(q, self.parameters_by_species)


class TabulatedForm(LocalForm):
    """Natural cubic splines through tables v(q_i); zero beyond the last q_i. The values are parameters.

    ``q`` ``(n,)`` ascending from 0 (1/Bohr), ``values`` ``(n, n_species)`` Ha Bohr³.
    """

    q: Tensor
    second_derivatives: Tensor

    def __init__(self, q: Tensor, values: Tensor) -> None:
        super().__init__()
        if q.dim() != 1 or len(q) < 3 or values.shape[:1] != q.shape or not bool((q.diff() > 0).all()):
            raise ValueError(
                "a table of v(q) takes at least three ascending `q` (n,) and `values` (n, n_species), not shapes "
                f"{tuple(q.shape)} and {tuple(values.shape)}"
            )
        self.n_species = values.shape[1]
        self.values = nn.Parameter(values.detach().to(torch.float64).clone())
        self.register_buffer("q", q.to(torch.float64).clone())
        self.register_buffer("second_derivatives", _natural_spline(self.q), persistent=False)

    def forward(self, q: Tensor) -> Tensor:
        """The splines at ``q``, whose second derivatives are linear in the values; constant below the first point."""
        inside = q.clamp(float(self.q[0]), float(self.q[-1]))
        right = torch.searchsorted(self.q, inside.detach()).clamp(1, len(self.q) - 1)
        left = right - 1
        h = (self.q[right] - self.q[left]).unsqueeze(1)
        b = (inside - self.q[left]).unsqueeze(1) / h
        a = 1.0 - b
        curvature = self.second_derivatives @ self.values
        spline = a * self.values[left] + b * self.values[right]
        spline = spline + ((a**3 - a) * curvature[left] + (b**3 - b) * curvature[right]) * h**2 / 6.0
        return spline * (q <= self.q[-1]).unsqueeze(1)


def _natural_spline(x: Tensor) -> Tensor:
    """The matrix that takes values at ``x`` to the second derivatives of their natural cubic spline."""
    n, h = len(x), x.diff()
    system, right = torch.eye(n, dtype=x.dtype), torch.zeros(n, n, dtype=x.dtype)
    for i in range(1, n - 1):
        system[i, i - 1 : i + 2] = torch.stack([h[i - 1] / 6.0, (h[i - 1] + h[i]) / 3.0, h[i] / 6.0])
        right[i, i - 1 : i + 2] = torch.stack([1.0 / h[i - 1], -1.0 / h[i - 1] - 1.0 / h[i], 1.0 / h[i]])
    return torch.linalg.solve(system, right)


class Envelope(nn.Module):
    """A factor that takes the network to zero at large q."""

    def forward(self, q: Tensor) -> Tensor:
        """The factor at ``q``: ones."""
        return torch.ones_like(q)


class GaussianEnvelope(Envelope):
    """exp(-q² / 2 s²), s in 1/Bohr."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = _positive("std", std)

    def forward(self, q: Tensor) -> Tensor:
        """The factor at ``q``."""
        return torch.exp(-(q**2) / (2.0 * self.std**2))


class LogisticEnvelope(Envelope):
    """1 - 1 / (1 + exp(-rate (q - center))), rate in Bohr, center in 1/Bohr."""

    def __init__(self, rate: float, center: float) -> None:
        super().__init__()
        self.rate, self.center = _positive("rate", rate), float(center)

    def forward(self, q: Tensor) -> Tensor:
        """The factor at ``q``."""
        return torch.sigmoid(-self.rate * (q - self.center))


class StepEnvelope(Envelope):
    """1 up to a radius (1/Bohr), 0 beyond."""

    def __init__(self, radius: float) -> None:
        super().__init__()
        self.radius = _positive("radius", radius)

    def forward(self, q: Tensor) -> Tensor:
        """The factor at ``q``."""
        return (q <= self.radius).to(q.dtype)


def _positive(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"`{name}` of an envelope must be positive, not {value}")
    return float(value)


class NeuralForm(LocalForm):
    """v_s(q) = envelope(q) scale_s [MLP(q)]_s with one output per species.

    ``hidden`` neurons per hidden layer; ``activation``, ``start`` (distribution of the first weights) and
    ``normalisation`` of the hidden layers; ``dropout`` the probability with which a neuron is left out in training;
    ``scale`` ``(n_species,)`` factors by species. ``generator`` draws the weights (by default torch's).
    """

    scale: Tensor | None

    def __init__(
        self,
        hidden: Sequence[int],
        n_species: int,
        activation: Activation = "celu",
        start: Start = "he",
        normalisation: Normalisation = "none",
        envelope: Envelope | None = None,
        dropout: float = 0.0,
        scale: Sequence[float] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if not hidden or any(n < 1 for n in hidden) or n_species < 1:
            raise ValueError(
                f"a network takes a hidden layer or more of neurons and a species or more, not {list(hidden)}"
            )
        if scale is not None and len(scale) != n_species:
            raise ValueError(f"`scale` must have a factor for each of the {n_species} species, not {len(scale)}")
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"`dropout` must be a probability below 1, not {dropout}")
        sizes = [1, *hidden, n_species]
        self.n_species, self.activation, self.start = n_species, activation, start
        self.layers = nn.ModuleList([nn.Linear(a, b, dtype=torch.float64) for a, b in pairwise(sizes)])
        for layer in self.layers:
            initialise(layer, start, generator)
        batch = normalisation == "batch_norm"
        self.norms = nn.ModuleList([nn.BatchNorm1d(n, dtype=torch.float64) for n in sizes[1:]] if batch else [])
        self.dropout = nn.Dropout(dropout)
        self.envelope = Envelope() if envelope is None else envelope
        values = None if scale is None else torch.tensor(list(scale), dtype=torch.float64)
        self.register_buffer("scale", values, persistent=False)

    def forward(self, q: Tensor) -> Tensor:
        """``(m,)`` -> ``(m, n_species)``."""
        function = ACTIVATIONS[self.activation]
        x = q.unsqueeze(1)
        for i, layer in enumerate(self.layers[:-1]):
            x = layer(x)
            if self.norms:
                x = self.norms[i](x)
            x = self.dropout(function(x))
        x = self.layers[-1](x) * self.envelope(q).unsqueeze(1)
        return x if self.scale is None else x * self.scale


@torch.no_grad()
def initialise(layer: nn.Module, start: Start, generator: torch.Generator | None = None) -> None:
    """First weights and biases of a linear layer.

    Biases are uniform in ±1/sqrt(fan-in), weights by ``start``: "default" the same; "xavier" normal of variance
    2 / (fan-in + fan-out), "xavier_uniform" the uniform distribution of this variance; "he" normal of variance
    2 / fan-in, "he_uniform" uniform; "uniform" in [0, 1]; "random" normal of variance 1 / fan-in.
    """
    assert isinstance(layer, nn.Linear)
    weight, fan_in = layer.weight, layer.weight.shape[1]
    bound = 1.0 / math.sqrt(fan_in)
    layer.bias.uniform_(-bound, bound, generator=generator)
    if start == "xavier":
        nn.init.xavier_normal_(weight, generator=generator)
    elif start == "xavier_uniform":
        nn.init.xavier_uniform_(weight, generator=generator)
    elif start == "he":
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    elif start == "he_uniform":
        nn.init.kaiming_uniform_(weight, nonlinearity="relu", generator=generator)
    elif start == "uniform":
        weight.uniform_(0.0, 1.0, generator=generator)
    elif start == "random":
        weight.normal_(0.0, bound, generator=generator)
    else:
        weight.uniform_(-bound, bound, generator=generator)
