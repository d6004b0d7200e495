"""Random changes of the parameters of a pseudopotential: seven kernels, and steps of the analytic parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .potential import COLUMNS

#: groups that kernels 4 … 7 treat in a way of their own
SPECIAL = ("spin_orbit", "nonlocal")
#: part of the entries that kernels 3 and 4 change
HALF, MOST = 0.5, 0.6


@torch.no_grad()
def perturb(groups: Mapping[str, Sequence[Tensor]], kernel: int, magnitude: float, generator: torch.Generator) -> None:
    """Change the parameters that require gradients, with u uniform in (-1, 1) and the magnitude ε.

    1: θ + ε u θ. 2: θ + ε u m with the power of ten m nearest to |θ| (of an entry that is zero: to the root mean square
    of its tensor). 3: θ + ε |θ| g with a normal g of unit norm in each tensor, |θ| the tensor's norm, of which half of
    the entries are taken. 4: θ + ε u of 60 % of the entries; spin-orbit and non-local ones ε u/1000, all of them.
    5: θ + ε u/10; spin-orbit and non-local ones ε u. 6, 7: θ + ε u of spin-orbit, or non-local, parameters only.

    Args:
        groups: parameters by the name of their group.
        kernel: 1 … 7.
        magnitude: ε.
        generator: of all random numbers.
    """
    for name, parameters in groups.items():
        for parameter in parameters:
            if parameter.requires_grad:
                parameter.add_(_change(parameter, name, kernel, magnitude, generator))


def _change(theta: Tensor, group: str, kernel: int, magnitude: float, generator: torch.Generator) -> Tensor:
    uniform = 2 * torch.rand(theta.shape, generator=generator, dtype=theta.dtype) - 1
    chosen = torch.rand(theta.shape, generator=generator, dtype=theta.dtype)
    if kernel == 1:
        return magnitude * uniform * theta
    if kernel == 2:
        sizes = theta.abs()
        rms = theta.square().mean().sqrt()
        sizes = torch.where(sizes > 0, sizes, rms if rms > 0 else torch.ones_like(rms))
        return magnitude * uniform * 10.0 ** torch.log10(sizes).round()
    if kernel == 3:
        normal = torch.randn(theta.shape, generator=generator, dtype=theta.dtype)
        norm = theta.norm() if theta.norm() > 0 else torch.ones(())
        return magnitude * norm * normal / normal.norm() * (chosen < HALF)
    special = group in SPECIAL
    if kernel == 4:
        return magnitude * uniform / 1000 if special else magnitude * uniform * (chosen < MOST)
    if kernel == 5:
        return magnitude * uniform * (1.0 if special else 0.1)
    return magnitude * uniform * (group == ("spin_orbit" if kernel == 6 else "nonlocal"))


@torch.no_grad()
def step_parameters(
    groups: Mapping[str, Sequence[Tensor]],
    relative: float,
    steps: Tensor | None,
    generator: torch.Generator,
    factor: float = 1.0,
) -> None:
    """Change the analytic parameters that require gradients by uniform steps up to ``relative`` |θ|, or ``steps``.

    Args:
        groups: parameters by the name of their group; those of the network stay.
        relative: largest step relative to each parameter.
        steps: largest steps ``(n_species, 9)``, in place of these; none: ``relative``.
        generator: of the random numbers.
        factor: on all steps.
    """
    for name, columns in COLUMNS.items():
        for parameter in groups.get(name, ()):
            if parameter.requires_grad:
                uniform = 2 * torch.rand(parameter.shape, generator=generator, dtype=parameter.dtype) - 1
                largest = relative * parameter.abs() if steps is None else steps[:, columns].to(parameter)
                parameter.add_(factor * uniform * largest)


@torch.no_grad()
def keep_allowed(groups: Mapping[str, Sequence[Tensor]]) -> None:
    """Spin-orbit strengths are positive: a5 -> |a5|."""
    for parameter in groups.get("spin_orbit", ()):
        parameter.abs_()
