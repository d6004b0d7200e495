"""Bands of whole systems, k-point by k-point, and what they say: errors, gaps, deformation potentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...bands import Pseudopotential
from ...text_tables import aligned
from .targets import System, bands, bands_cost, deformation, edges


@dataclass(frozen=True, eq=False)
class SystemResult:
    """What the model gives for a system; eV.

    Attributes:
        energies: (nk, nb), in the order of the reference.
        deformation: (n,) of the rows of its table.
    """

    system: System
    energies: Tensor
    deformation: Tensor

    @property
    def cost(self) -> float:
        """Σ_k w_k Σ_b w_b (E - E_ref)² over all k-points, held-out ones among them, eV²."""
        return float(bands_cost(self.energies, self.system, range(len(self.energies)), False))

    @property
    def squares(self) -> float:
        """Σ (E - E_ref)² over all k-points and the bands that are fitted, each with the weight 1, eV²."""
        return float((self.errors(self.system.data.relative_band).square() * (self.system.weights > 0)).sum())

    def rms(self, numbers: Sequence[int]) -> float:
        """Weighted root mean square error of the k-points ``numbers``, eV; nan without a reference."""
        weights = self.system.weights[list(numbers)]
        relative = self.system.data.relative_band
        errors = self.errors(relative)[list(numbers)]
        total = float(weights.sum())
        return (float((weights * errors.square()).sum()) / total) ** 0.5 if total > 0 else float("nan")

    def errors(self, relative: int | None = None) -> Tensor:
        """(nk, nb) errors, or those relative to a band."""
        errors = self.energies - self.system.reference
        return errors if relative is None else errors - errors[:, relative, None]

    def gaps(self) -> tuple[float, float] | None:
        """Smallest gap between the highest valence and the lowest conduction state over all k: model and reference."""
        if self.system.data.reference is None:
            return None
        _, valence, conduction = edges(self.system)
        used = (self.system.weights[:, valence] > 0) & (self.system.weights[:, conduction] > 0)
        if not bool(used.any()):
            return None
        found = [
            float(values[used, conduction].min() - values[used, valence].max())
            for values in (self.energies, self.system.reference)
        ]
        return found[0], found[1]


@dataclass(frozen=True)
class Results:
    """All systems."""

    systems: list[SystemResult]

    def table(self) -> str:
        """Errors and gaps of all systems, a row each; squares: their sum over all k and bands, without weights."""
        titles = [
            "system",
            "squares [eV²]",
            "rms [meV]",
            "held out [meV]",
            "largest [meV]",
            "gap [eV]",
            "ref. gap [eV]",
        ]
        rows = [titles]
        for result in self.systems:
            system = result.system
            gaps = result.gaps()
            largest = (result.errors() * (system.weights > 0)).abs().max()
            held = f"{1000 * result.rms(system.held_out):.1f}" if system.held_out else "-"
            rows.append(
                [
                    system.data.name,
                    f"{result.squares:.4f}" if system.fitted else "-",
                    f"{1000 * result.rms(system.fitted):.1f}" if system.fitted else "-",
                    held,
                    f"{1000 * float(largest):.1f}" if system.fitted else "-",
                    *((f"{gaps[0]:.4f}", f"{gaps[1]:.4f}") if gaps else ("-", "-")),
                ]
            )
        if len(self.systems) > 1:
            fitted, held = self._joint("fitted"), self._joint("held_out")
            total = sum(result.squares for result in self.systems if result.system.fitted)
            rows.append(["all", f"{total:.4f}", _meV(fitted), _meV(held), "", "", ""])
        lines = [aligned(rows)]
        for result in self.systems:
            lines += _deformation_lines(result)
        return "bands\n" + "\n".join(lines)

    def _joint(self, part: str) -> float:
        squares = weight = 0.0
        for result in self.systems:
            numbers = getattr(result.system, part)
            own = float(result.system.weights[list(numbers)].sum())
            if own > 0:
                squares += own * result.rms(numbers) ** 2
                weight += own
        return (squares / weight) ** 0.5 if weight else float("nan")

    @property
    def rms(self) -> float:
        """Error of the fitted k-points of all systems, eV."""
        return self._joint("fitted")

    @property
    def held_out(self) -> float:
        """Error of those held out, eV; nan if there are none."""
        return self._joint("held_out")


def evaluate_systems(
    systems: Sequence[System], potential: Pseudopotential, only: Sequence[int] | None = None
) -> Results:
    """Bands at all k-points of ``systems``, one k-point at a time, and the deformation potentials of their tables."""
    found = []
    with torch.no_grad():
        for place, system in enumerate(systems):
            if only is None or place in only:
                energies = torch.cat([bands(system, potential, [number]) for number in range(len(system.k))])
                found.append(SystemResult(system, energies, deformation(system, potential, system.data.transitions)))
    return Results(found)


def _deformation_lines(result: SystemResult) -> list[str]:
    rows = [["deformation potential", "ratio", "D [eV]", "reference [eV]", "weight"]]
    for row, value in zip(result.system.data.transitions, result.deformation.tolist(), strict=True):
        state = f"k {row.k_to} band {row.b_to}"
        if row.k_from is not None:
            state += f" - k {row.k_from} band {row.b_from}"
        rows.append([state, f"{row.ratio:g}", f"{value:.4f}", f"{row.target:.4f}", f"{row.weight:g}"])
    return ["", result.system.data.name, aligned(rows)] if len(rows) > 1 else []


def _meV(value: float) -> str:
    return "-" if value != value else f"{1000 * value:.1f}"
