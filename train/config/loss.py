"""Weights of the terms of a stage's loss."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from ..schema import Section


def _weight_value(value: Any) -> Any:
    """A loss weight may be written ``100.0`` or ``{weight: 100.0}``."""
    if isinstance(value, dict):
        if set(value) != {"weight"}:
            raise ValueError(f"expected a number or {{weight: number}}, got keys {sorted(map(str, value))}")
        return value["weight"]
    return value


Weight = Annotated[float, BeforeValidator(_weight_value), Field(ge=0)]


class LossWeights(Section):
    """Weights of the terms of the loss; each term is a mean over the batch (``fp_potential.train.losses``)."""

    energy_per_atom: Weight = 0.0
    """((E − E*)/N)², eV²."""
    forces: Weight = 0.0
    """(F − F*)², (eV/Å)²."""
    stress: Weight = 0.0
    """(σ − σ*)², (eV/Å³)²."""
    atomic_multipoles: Weight = 0.0
    """(p − p*)², e² and (e·Å)²."""
    total_charge: Weight = 0.0
    """(Σq − Q)², e²."""
    total_charge_per_atom: Weight = 0.0
    """((Σq − Q)/N)², e²."""
    dipole: Weight = 0.0
    """(d − d*)² along the open axes, (e·Å)²."""
    dipole_per_atom: Weight = 0.0
    """((d − d*)/N)² along the open axes, (e·Å)²."""
    fermi_level: Weight = 0.0
    """(μ − μ*)², eV²."""
    fermi_level_per_atom: Weight = 0.0
    """((μ − μ*)/N)², eV²."""

    def active(self) -> dict[str, float]:
        """The terms with a weight above zero."""
        return {name: weight for name, weight in self.model_dump().items() if weight > 0}
