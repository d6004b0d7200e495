"""The cost as a sum of squares: its gradient and Gauss–Newton curvature, state by state."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...bands import HARTREE, Pseudopotential
from ...bands.eigenvalues import DEGENERATE
from ..trainer.least_squares import NormalEquations
from ..trainer.problem import LossResult
from .config import ObjectiveOptions
from .objective import Item, cost
from .penalties import second_derivatives
from .targets import System, bands, deformation, masses, number_fitted


class Sums:
    """Gradient 2 Jᵀ W r + … and curvature 2 Jᵀ W J of residuals r with weights W, and of other terms the gradient."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        number = sum(parameter.numel() for parameter in parameters)
        self.gradient = torch.zeros(number, dtype=torch.float64)
        self.curvature = torch.zeros(number, number, dtype=torch.float64)

    def slope(self, value: Tensor) -> Tensor:
        """∂value/∂θ, flat; zeros where it does not depend on a parameter."""
        found = torch.autograd.grad(value, self.parameters, retain_graph=True, allow_unused=True)
        pieces = [torch.zeros_like(p) if g is None else g for p, g in zip(self.parameters, found, strict=True)]
        return torch.cat([piece.reshape(-1) for piece in pieces])

    def add(self, residuals: Tensor, weights: Tensor, jacobian: Tensor) -> None:
        """Residuals ``(m,)`` with weights ``(m,)`` and their derivatives ``(m, n)``."""
        weighted = 2.0 * weights[:, None] * jacobian
        self.gradient += weighted.T @ residuals
        self.curvature += jacobian.T @ weighted


def normal_equations(
    systems: Sequence[System],
    potential: Pseudopotential,
    chosen: Sequence[Item],
    options: ObjectiveOptions,
    parameters: Sequence[Tensor],
    points: int,
) -> NormalEquations:
    """Gradient and curvature of `objective.cost`; penalties other than the roughness, and couplings, have no curvature.

    The derivative of each energy is that of Hellmann–Feynman, one for a degenerate group.
    """
    sums = Sums(parameters)
    rest = [item for item in chosen if item.kind in ("penalties", "couplings", "spin_orbit")]
    others_of = options.model_copy(update={"roughness": 0.0})
    with torch.enable_grad():
        for item in chosen:
            for residuals, weights, jacobian in _squares(systems[item.system], potential, item, options, sums):
                sums.add(residuals, weights, jacobian)
        if rest:
            others = torch.stack(list(cost(systems, potential, rest, others_of).values())).sum()
            if others.requires_grad:
                sums.gradient += sums.slope(others)
    with torch.no_grad():
        terms = cost(systems, potential, chosen, options)
        total = torch.stack(list(terms.values())).sum()
    return NormalEquations(LossResult(total, terms, points), sums.gradient, sums.curvature)


def _squares(
    system: System, potential: Pseudopotential, item: Item, options: ObjectiveOptions, sums: Sums
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Residuals, weights and derivatives of a piece of work."""
    if item.kind == "k" and options.bands > 0:
        scale = options.bands / (max(1, number_fitted(system, options.gaps)) if options.mean else 1)
        yield _of_bands(system, potential, item.number, options.gaps, scale, sums)
    elif item.kind == "transition" and options.deformation > 0:
        row = system.data.transitions[item.number]
        found = deformation(system, potential, [row])
        weight = torch.tensor([options.deformation * row.weight], dtype=torch.float64)
        yield found.detach() - row.target, weight, sums.slope(found[0])[None]
    elif item.kind == "penalties" and options.roughness > 0:
        rough = second_derivatives(potential, potential.rows(system.hamiltonian.crystal)).reshape(-1)
        weight = options.roughness * len(system.fitted) / len(rough)
        yield rough.detach(), torch.full_like(rough, weight).detach(), torch.stack([sums.slope(x) for x in rough])
    elif item.kind == "masses" and options.masses > 0 and system.data.masses is not None:
        target = system.data.masses
        found = masses(system, potential)
        reference = torch.tensor([target.electron, target.hole], dtype=torch.float64)
        weights = torch.full((2,), options.masses * target.weight, dtype=torch.float64)
        yield found.detach() - reference, weights, torch.stack([sums.slope(value) for value in found])


def _of_bands(
    system: System, potential: Pseudopotential, number: int, gaps: bool, scale: float, sums: Sums
) -> tuple[Tensor, Tensor, Tensor]:
    energies = bands(system, potential, [number])[0]
    values, reference, weights = energies.detach(), system.reference[number], system.weights[number]
    jacobian = torch.zeros(len(values), len(sums.gradient), dtype=torch.float64)
    relative = system.data.relative_band
    needed = (weights > 0) | (torch.arange(len(values)) == (-1 if relative is None else relative))
    if gaps:
        needed = torch.ones_like(needed)
    previous = -1
    for band in values.argsort(stable=True).tolist():
        if not needed[band]:
            continue
        # bands of a degenerate group have one derivative
        if previous >= 0 and float(values[band] - values[previous]) <= HARTREE * DEGENERATE:
            jacobian[band] = jacobian[previous]
        else:
            jacobian[band] = sums.slope(energies[band])
        previous = band
    errors = values - reference
    if gaps:
        both = (weights[1:] > 0) & (weights[:-1] > 0)
        return errors.diff(), scale * 0.5 * (weights[1:] + weights[:-1]) * both, jacobian.diff(dim=0)
    if relative is not None:
        errors, jacobian = errors - errors[relative], jacobian - jacobian[relative]
    return errors, scale * weights, jacobian
