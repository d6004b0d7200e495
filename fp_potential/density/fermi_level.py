"""The charge constraint: the Fermi level as a function of the density.

At constant charge mu is chosen so that the total charge of the updated density is exactly Q*: in closed form where the
update is affine in the field, else by safeguarded Newton steps that need no electrostatics.
"""

from typing import Optional

import torch
from torch import Tensor, nn

from ..communication import graph_sum
from ..response.state import LevelLine, Update
from .problem import SCFProblem

#: the charge does not respond when |R| is below this times sum |c^q| ...
CANCELLATION = 1e-3
#: ... or sum |c^q| per atom is below this (e/V)
MINIMUM_RESPONSE = 1e-6
#: charge (e) by which a density may miss the total charge asked for, and its growth with the sum of |q| by rounding
CHARGE_ERROR, CHARGE_ROUNDING = 1e-3, 1e-6
#: Newton steps for the Fermi level, and the longest of them (V) while the root is not bracketed
LEVEL_STEPS, LONGEST_STEP = 60, 2.0


def with_level(field: Tensor, level: Tensor, batch: Tensor) -> Tensor:
    """Raw field ``(n, m, 4)`` with a constant potential ``(B,)`` added."""
    return torch.cat([field[:, :, :1] + level[batch][:, None, None], field[:, :, 1:]], dim=2)


class ChargeConstraint(nn.Module):
    """Fermi levels and projections that give densities the total charge asked for; `DensityMap` inherits it.

    Inherited, not held, so that the names of parameters are those of the map.
    """

    def __init__(self, update: Update) -> None:
        super().__init__()
        self.response = update
        self.minimum_response = MINIMUM_RESPONSE
        self.cancellation = CANCELLATION
        self.charge_error, self.charge_rounding = CHARGE_ERROR, CHARGE_ROUNDING
        self.level_steps, self.longest_step = LEVEL_STEPS, LONGEST_STEP
        self.straight = bool(update.straight)
        self.linear, self.shares_charge = bool(update.linear), bool(update.shares_charge)
        self.fixed_charge = bool(getattr(update, "fixed_charge", False))

    def _closed_form(self, problem: SCFProblem, u: Tensor) -> tuple[Tensor, Tensor]:
        density = self.response.density(problem.state, u, problem.distributed)
        charge = graph_sum(density[:, 0], problem.batch, problem.atoms.shape[0], problem.distributed)
        level = (problem.target - charge) / problem.response
        return density + problem.shift * level[problem.batch].unsqueeze(1), level

    def find_level(self, problem: SCFProblem, u: Tensor, guess: Tensor) -> tuple[Tensor, Tensor]:
        """The level at which the density has the charge Q*, from ``guess``, and that density, without gradients.

        Newton steps, bisecting once the level is bracketed.
        """
        n_graphs = problem.atoms.shape[0]
        level = guess.detach()
        below, above = torch.full_like(level, float("nan")), torch.full_like(level, float("nan"))
        tiny = 1e-15 if u.dtype == torch.float64 else 5e-7
        line: Optional[LevelLine] = self.response.level_line(problem.state, u) if self.straight else None
        near = 1e-8 if u.dtype == torch.float64 else 1e-4
        density, slopes, tangent = self._with_slope(problem, u, line, level)
        for _ in range(self.level_steps):
            columns = torch.stack([density[:, 0], density[:, 0].abs(), slopes], dim=1)
            sums = graph_sum(columns, problem.batch, n_graphs, problem.distributed)
            error = problem.target - sums[:, 0]
            done = (error.abs() <= tiny * (1.0 + sums[:, 1])) | torch.logical_not(torch.isfinite(error))
            if bool(done.all()):
                break
            above = torch.where(error > 0, level, above)
            below = torch.where(error <= 0, level, below)
            step = torch.clamp(error / sums[:, 2], min=-self.longest_step, max=self.longest_step)
            if line is not None and bool((done | (step.abs() <= near)).all()):
                # what the tangent misses is the square of this
                step = torch.where(done, torch.zeros_like(step), step)
                return level + step, density + tangent * step[problem.batch].unsqueeze(1)
            following = level + torch.where(torch.isfinite(step), step, torch.full_like(step, self.longest_step))
            # comparisons with NaN are false: no bracket yet
            low, high = torch.minimum(below, above), torch.maximum(below, above)
            outside = (following <= low) | (following >= high)
            following = torch.where(outside, 0.5 * (low + high), following)
            level = torch.where(done, level, following)
            density, slopes, tangent = self._with_slope(problem, u, line, level)
        return level, density

    def _with_slope(
        self, problem: SCFProblem, u: Tensor, line: Optional[LevelLine], level: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The density in the field ``u`` at the level ``(B,)``, dQ/dmu by atom ``(n,)`` and dp/dmu, without gradients.

        Without a line, the last is not known, and of the second only the sum over a structure has a meaning.
        """
        if line is not None:
            density, tangent = self.response.on_line(line, level[problem.batch])
            return density.detach(), tangent[:, 0].detach(), tangent.detach()
        shifted = with_level(u, level, problem.batch).detach().requires_grad_(True)
        density = self.response.density(problem.state, shifted, problem.distributed)
        on_field = torch.autograd.grad([density[:, 0].sum()], [shifted])[0]
        assert on_field is not None
        return density.detach(), on_field[:, :, 0].sum(1), torch.zeros_like(density)

    def visible(self, problem: SCFProblem, level: Tensor) -> Tensor:
        """The level ``(B,)`` that the energy sees: none where nothing conducts, however charge is shared there."""
        if not self.shares_charge:
            return level
        return level * self.conducting_part(problem)

    def conducting_part(self, problem: SCFProblem) -> Tensor:
        """The part ``(B,)`` of dQ/dmu that is not shared charge."""
        return problem.metallic / problem.response if self.shares_charge else torch.ones_like(problem.response)

    def conducts(self, problem: SCFProblem) -> Tensor:
        """Whether a Fermi level means something ``(B,)`` bool: the charge of conducting atoms follows it."""
        if not self.shares_charge:
            return torch.full_like(problem.target, not self.fixed_charge, dtype=torch.bool)
        metallic = problem.metallic.detach().abs()
        shared = (problem.response - problem.metallic).detach().abs()
        return metallic > torch.maximum(shared, self.minimum_response * problem.atoms.to(shared.dtype))

    def project(self, problem: SCFProblem, density: Tensor) -> Tensor:
        """Onto the charge surface: the missing charge in proportion to dQ/dmu_i; unchanged at constant Fermi level."""
        if not problem.constant_charge:
            return density
        charge = graph_sum(density[:, 0], problem.batch, problem.atoms.shape[0], problem.distributed)
        step = (problem.target - charge) / problem.response
        by_level = problem.shift[:, 0] if self.linear else problem.charge_row[:, :, 0].sum(1)
        moved = density[:, :1] + (by_level * step[problem.batch]).unsqueeze(1)
        return torch.cat([moved, density[:, 1:]], dim=1)

    def constrained(self, problem: SCFProblem, on_field: Tensor, on_level: Tensor) -> Tensor:
        """Derivative by the field at constant mu -> the same with mu a function of the field, at constant charge.

        ``on_level`` ``(n,)``: the derivative by mu, by atoms.
        """
        if not problem.constant_charge:
            return on_field
        n_graphs = problem.atoms.shape[0]
        by_level = graph_sum(on_level, problem.batch, n_graphs, problem.distributed)
        share = (by_level / problem.response)[problem.batch]
        return on_field - problem.charge_row * share[:, None, None]

    def responds(self, problem: SCFProblem) -> Tensor:
        """Whether the charge of each structure can follow the Fermi level ``(B,)`` bool."""
        n_graphs = problem.response.shape[0]
        if self.shares_charge:
            return torch.ones_like(problem.target, dtype=torch.bool)
        rows = problem.charge_row[:, :, 0].sum(1).abs()
        total = graph_sum(rows, problem.batch, n_graphs, problem.distributed)
        enough = total > self.minimum_response * problem.atoms.to(total.dtype)
        return enough & (problem.response.abs() > self.cancellation * total)

    def holds(self, problem: SCFProblem, density: Tensor) -> Tensor:
        """Whether each structure has the total charge asked for ``(B,)`` bool: not every charge has a Fermi level."""
        charge = density[:, :1].detach().to(torch.float64)
        sums = graph_sum(
            torch.cat([charge, charge.abs()], dim=1), problem.batch, problem.atoms.shape[0], problem.distributed
        )
        return (sums[:, 0] - problem.target).abs() <= self.charge_error + self.charge_rounding * sums[:, 1]
