"""Section ``objective``: the terms of the cost and their weights."""

from __future__ import annotations

from pydantic import Field, model_validator

from ...config.schema import Finite


class ObjectiveOptions(Finite):
    """Terms of the cost; a weight of 0 switches one off. Energies in eV, v(q) in Ha Bohr³."""

    bands: float = Field(default=1.0, ge=0)
    """Weight of Σ_k w_k Σ_b w_b (E - E_ref)², a sum over systems, k-points and bands."""
    mean: bool = False
    """Divide that sum by the number of energies (or gaps) that are fitted, as the published Monte Carlo driver does."""
    gaps: bool = False
    """Compare the gaps between adjacent bands in the place of energies (``optGaps``)."""
    deformation: float = Field(default=1.0, ge=0)
    """Weight of Σ weight (D - D_ref)² (``defPotWeight``); the table has a weight per row."""
    coupling: float = Field(default=1.0, ge=0)
    """Weight of the couplings' Σ_q w_q (g - g_ref)²."""
    masses: float = Field(default=1.0, ge=0)
    """Weight of the effective masses' Σ weight (m - m_ref)²."""
    large_q: float = Field(default=0.0, ge=0)
    """λ of the large-q penalty λ n_k mean[S(q) \\|v(q)\\|] with S = 1/(1 + exp(-10 (q - q0 - 1/2))) at 50 points of
    [q0, 12] (``penalize_lambda``)."""
    large_q_start: float = Field(default=5.0, ge=0, lt=12)
    """q0, 1/Bohr (``penalize_starting``)."""
    magnitude: float = Field(default=0.0, ge=0)
    """λ of the penalty λ n_k mean[max(\\|v(q)\\| - threshold, 0)] on [0, 12] (``penalize_mag_lambda``)."""
    magnitude_threshold: float = Field(default=100.0, gt=0)
    """Its threshold (``penalize_mag_threshold``)."""
    roughness: float = Field(default=0.0, ge=0)
    """λ of λ n_k mean[(d²(v - v₀)/dq²)²] on [0, 8], v₀ the analytic form of the species' parameters (0 without them):
    what the bands do not determine stays smooth."""
    spin_orbit_limit: float = Field(default=8.0, gt=0)
    """Spin-orbit strength above which ``spin_orbit_penalty`` acts."""
    spin_orbit_penalty: float = Field(default=0.0, ge=0)
    """λ of λ Σ_species max(a5 - limit, 0); the published Monte Carlo driver has 10."""

    @model_validator(mode="after")
    def _something(self) -> ObjectiveOptions:
        if not any((self.bands, self.deformation, self.coupling, self.masses)):
            raise ValueError("no term has a weight above zero: give bands, deformation, coupling or masses one")
        return self
