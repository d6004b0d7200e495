"""Penalties on the potential itself: at large q, on its magnitude, and on strong spin-orbit coupling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...bands import Pseudopotential
from ...bands.local_forms import zunger
from ...bands.parameters import SPIN_ORBIT
from .config import ObjectiveOptions

#: end (1/Bohr) and number of the points at which v(q) is penalised
LARGEST_Q, POINTS = 12.0, 50
#: end and distance (1/Bohr) of the points at which second derivatives are taken
ROUGH_Q, ROUGH_STEP = 8.0, 0.1
#: steepness (Bohr) of the switch of the large-q penalty, and its middle above the start (1/Bohr)
STEEPNESS, SHIFT = 10.0, 0.5


def large_q(potential: Pseudopotential, species: Sequence[int], start: float) -> Tensor:
    """mean[S(q) |v(q)|] over 50 points of [start, 12] and ``species``, S = 1/(1 + exp(-10 (q - start - 1/2)))."""
    q = torch.linspace(start, LARGEST_Q, POINTS, dtype=torch.float64)
    switch = torch.sigmoid(STEEPNESS * (q - start - SHIFT))
    return (switch[:, None] * potential.local(q)[:, list(species)].abs()).mean()


def magnitude(potential: Pseudopotential, species: Sequence[int], threshold: float) -> Tensor:
    """mean[max(|v(q)| - threshold, 0)] over 50 points of [0, 12] and ``species``."""
    q = torch.linspace(0.0, LARGEST_Q, POINTS, dtype=torch.float64)
    return (potential.local(q)[:, list(species)].abs() - threshold).clamp(min=0.0).mean()


def second_derivatives(potential: Pseudopotential, species: Sequence[int]) -> Tensor:
    """d²(v - v₀)/dq² ``(m, len(species))`` at points of [0, 8], by differences; v₀ the analytic form, if there is one.

    The form's own analytic part and the long-range term are no part of it.
    """
    q = torch.arange(0.0, ROUGH_Q + 1.5 * ROUGH_STEP, ROUGH_STEP, dtype=torch.float64)
    own = potential.parameters_by_species.detach()
    v = potential.form(q) - (0.0 if potential.terms.analytic else zunger(q, own).nan_to_num())
    return v[:, list(species)].diff(n=2, dim=0) / ROUGH_STEP**2


def strong_spin_orbit(potential: Pseudopotential, limit: float) -> Tensor:
    """Σ_species max(a5 - limit, 0)."""
    return (potential.parameters_by_species[:, SPIN_ORBIT] - limit).clamp(min=0.0).sum()


def penalties(
    potential: Pseudopotential, species: Sequence[int], n_k: int, options: ObjectiveOptions
) -> dict[str, Tensor]:
    """The penalties of a system of ``species`` with ``n_k`` k-points that are switched on, with their weights."""
    found: dict[str, Tensor] = {}
    if options.large_q > 0:
        found["large_q"] = options.large_q * n_k * large_q(potential, species, options.large_q_start)
    if options.roughness > 0:
        found["roughness"] = options.roughness * n_k * second_derivatives(potential, species).square().mean()
    if options.magnitude > 0:
        found["magnitude"] = options.magnitude * n_k * magnitude(potential, species, options.magnitude_threshold)
    return found
