"""Results of a calculator under ASE's names, and under its own where ASE has none."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import all_properties

from ..units import CARTESIAN_FROM_STORED


class Results(dict[str, Any]):
    """Results of a calculation. Items are those that ASE has names for; the others are found by their names, too.

    So ``SinglePointCalculator(atoms, **results)`` and writers of ASE get what they know, while
    ``results["fermi_level"]`` and ``"fermi_level" in results`` work as for any dictionary. ``everything()`` lists all.
    """

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__({name: value for name, value in found.items() if name in all_properties})
        self._others = {name: value for name, value in found.items() if name not in all_properties}

    def __missing__(self, name: str) -> Any:
        return self._others[name]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._others

    def get(self, name: str, default: Any = None) -> Any:
        """The result, or ``default``."""
        return self[name] if name in self else default

    def copy(self) -> Results:
        """Another one with the same values."""
        return Results(self.everything())

    def everything(self) -> dict[str, Any]:
        """All results, ASE's first."""
        return {**self, **self._others}


def results_of(out: dict[str, torch.Tensor], constant_charge: bool, origin: np.ndarray) -> dict[str, Any]:
    """Outputs of the archive (`export.OUTPUTS`), whose dipole is about ``origin`` ``(3,)``, as results."""
    values = {key: value.cpu().numpy() for key, value in out.items()}
    density = values["density"].astype(float)
    conducts = bool(values["conducts"][0]) if "conducts" in values else True  # of archives that do not say
    energy, level = float(values["energy"][0]), float(values["fermi_level"][0])
    if constant_charge and not conducts:
        level = np.nan
    charge, dipole = float(values["total_charge"][0]), values["dipole"][0].astype(float)
    moved = charge * origin
    by_target = float(values["energy_by_target"][0])
    results = {
        "energy": energy,
        "free_energy": energy,
        "energies": values["atomic_energies"].astype(float),
        "forces": values["forces"].astype(float),
        "charges": density[:, 0],
        "dipole": dipole + moved,
        "fermi_level": level,
        "conducts": conducts,
        "convergence_history": values["history"][:, 0],
        "num_scf_steps": int(values["scf_steps"][0]),
        "residual": float(values["residual"][0]),
        "adjoint_residual": float(values["adjoint_residual"][0]),
        "density_coefficients": density,
        "atomic_dipoles": density[:, 1:][:, list(CARTESIAN_FROM_STORED)],
        "electrostatic_energy": float(values["energy_coulomb"][0]),
        "electron_energy": float(values["energy_nonlocal"][0]),
        "field_features": values["field_features"].astype(float),
        "electrostatic_potentials": values["potentials"].astype(float),
        "total_charge": charge,
        "legendre_defect": by_target + level if constant_charge else by_target - charge,
        "dipole_defect": values["energy_by_field"][0].astype(float) - dipole,
    }
    if "changes" in values:  # of archives that have them
        results["density_change_history"] = values["changes"][:, 0]
    if not constant_charge:
        results["grand_potential"] = energy
    return results
