"""Initial values of the parameters of any learned model: He and Xavier variances, parameters by name and shape."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ...nets import MLP, EquivariantLinear, ScalarReadout


def scale_variances(module: nn.Module, method: str) -> int:
    """Give the weights of all layers of ``module``, drawn with variance 1/fan-in, the variance of ``method``.

    he: 2/fan-in; xavier: 2/(fan-in + fan-out). Layers are those of `fp_potential.nets`, whose weights are multiplied so
    that scales of outputs stay, and `torch.nn.Linear`, which is drawn again, with zero bias. Returns the number of
    weights that were changed.

    Sources: He et al., ICCV 2015, arXiv:1502.01852; Glorot and Bengio, AISTATS 2010, PMLR 9, 249.
    """
    changed = 0
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                variance = _variance(method, layer.in_features, layer.out_features)
                nn.init.normal_(layer.weight, std=math.sqrt(variance))
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
                changed += layer.weight.numel()
        for weight in _weights(module):
            fan_in, fan_out = weight.shape[-2:]
            weight.mul_(math.sqrt(fan_in * _variance(method, fan_in, fan_out)))
            changed += weight.numel()
    return changed


def _weights(module: nn.Module) -> Iterator[Tensor]:
    """Weights ``(..., in, out)`` of the layers of `nets`."""
    for layer in module.modules():
        if isinstance(layer, EquivariantLinear):
            yield layer.weight
        elif isinstance(layer, (MLP, ScalarReadout)):
            yield from layer.weights


def _variance(method: str, fan_in: int, fan_out: int) -> float:
    return 2 / fan_in if method == "he" else 2 / (fan_in + fan_out)


@dataclass
class Taken:
    """Which parameters came from another model."""

    taken: list[str] = field(default_factory=list)
    partly: list[str] = field(default_factory=list)  #: rows of common elements only
    differing: list[str] = field(default_factory=list)  #: with both shapes
    absent: list[str] = field(default_factory=list)  #: not in the other model
    unused: list[str] = field(default_factory=list)  #: only in the other model

    def lines(self) -> list[str]:
        """For the log."""
        whole = len(self.taken) + len(self.partly) + len(self.differing) + len(self.absent)
        lines = [f"{len(self.taken)} of {whole} tensors taken"]
        for title, names in (
            ("taken for the common elements", self.partly),
            ("not taken, of another shape", self.differing),
            ("not in the other model, left as they are", self.absent),
            ("only in the other model", self.unused),
        ):
            if names:
                lines.append(f"  {title}: {', '.join(names)}")
        return lines


@dataclass
class Rows:
    """The axes of a parameter that count kinds (elements): row ``here[k]`` of each is filled from row ``there[k]``."""

    axes: Sequence[int]
    here: Sequence[int]
    there: Sequence[int]
    sizes: tuple[int, int]  #: numbers of kinds here and there
    factor: float = 1.0  #: on the values, where the module divides them by a function of the number of kinds


@torch.no_grad()
def take_parameters(module: nn.Module, source: Mapping[str, Tensor], rows: Mapping[str, Rows]) -> Taken:
    """Copy the parameters of ``source`` that have the names and shapes of those of ``module``.

    Args:
        module: what is filled.
        source: values by the names of the parameters.
        rows: parameters with axes of kinds, of which only the common ones are copied.
    """
    result = Taken(unused=sorted(source.keys() - dict(module.named_parameters()).keys()))
    for name, parameter in module.named_parameters():
        value = source.get(name)
        if value is None:
            result.absent.append(name)
            continue
        kinds = rows.get(name)
        expected = list(parameter.shape)
        if kinds is not None:
            for axis in kinds.axes:
                expected[axis] = kinds.sizes[1]
        if list(value.shape) != expected:
            result.differing.append(f"{name} {list(parameter.shape)} (there {list(value.shape)})")
            continue
        value = value.to(parameter)
        if kinds is None:
            parameter.copy_(value)
            result.taken.append(name)
            continue
        here, there = (_chosen(own, kinds.axes, value) for own in (kinds.here, kinds.there))
        parameter[here] = value[there] * kinds.factor
        (result.taken if len(kinds.here) == kinds.sizes[0] else result.partly).append(name)
    return result


def _chosen(rows: Sequence[int], axes: Sequence[int], like: Tensor) -> tuple[Tensor, ...]:
    """The index of the ``rows`` of all ``axes`` of a tensor ``like`` this one, and of everything of the others."""
    every = [rows if axis in axes else range(size) for axis, size in enumerate(like.shape)]
    indices = [torch.tensor(list(own), dtype=torch.int64, device=like.device) for own in every]
    return torch.meshgrid(indices, indexing="ij")
