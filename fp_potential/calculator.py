"""ASE calculator of exported models."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.calculators.calculator import Calculator, all_changes
from ase.stress import full_3x3_to_voigt_6_stress

from .export import load_model, run_model
from .graph import graph_from_arrays
from .options import SCFOptions
from .units import CARTESIAN_FROM_STORED

STATUS = {
    1: "the step limit was reached: raise num_scf_steps or loosen scf_tolerance",
    2: "the residual diverged: check the structure and the total charge, or use solver='linear' with less mixing",
    3: "the solution is unstable: the model's charges are too soft here; retrain it",
    4: "the charge does not respond to the Fermi level: this model cannot hold a charge here; retrain it",
}


class SCFNotConverged(RuntimeError):
    """The self-consistent loop failed; the message names the residual, the tolerance and what to change."""


class FixedPointCalculator(Calculator):
    """Energies, forces, stress, charges and dipoles of a `FixedPointPotential` from `fixedpoint export`.

    Results besides ASE's own: ``fermi_level`` (eV), ``convergence_history`` (mean residual of every application),
    ``num_scf_steps``, ``density_coefficients`` ``(N, 4)`` [q, d_y, d_z, d_x], ``atomic_dipoles`` ``(N, 3)`` Cartesian,
    ``electrostatic_energy``, ``electron_energy``, ``grand_potential`` (at constant Fermi level, where it is the
    energy reported) and ``total_charge``.

    The total charge comes from the argument ``total_charge``, else from ``atoms.info['total_charge']``, else it is 0
    with a warning.  ``fermi_level`` (argument or ``atoms.info``) fixes the Fermi level instead of the charge.
    ``electric_field`` (V/Å, physical field; argument or ``atoms.info``) acts along non-periodic axes.

    Raises `SCFNotConverged` unless ``ignore_nonconverged``.
    """

    implemented_properties = [  # noqa: RUF012  declared so by ASE
        "energy",
        "free_energy",
        "energies",
        "forces",
        "stress",
        "charges",
        "dipole",
        "fermi_level",
        "convergence_history",
        "num_scf_steps",
    ]

    def __init__(
        self,
        model: str | Path,
        total_charge: float | None = None,
        fermi_level: float | None = None,
        electric_field: Sequence[float] | None = None,
        scf_options: dict[str, Any] | None = None,
        device: str = "cpu",
        ignore_nonconverged: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if total_charge is not None and fermi_level is not None:
            raise ValueError("give `total_charge` or `fermi_level`, not both: one of them follows from the other")
        self.module, self.metadata = load_model(model, device)
        self.device = torch.device(device)
        self.dtype = getattr(torch, self.metadata["dtype"])
        from ase.data import atomic_numbers

        self.elements = [atomic_numbers[s] for s in self.metadata["elements"]]
        self.scf = SCFOptions(**{**self.metadata["scf"], **(scf_options or {})})
        fixed = {
            "history": self.metadata["scf"]["history"],
            "use_autograd_forces": True,
            "initial_density": "local_guess",
        }
        for name, value in fixed.items():
            if getattr(self.scf, name) != value:
                raise ValueError(f"`scf_options.{name}` is {value!r} in an exported model and cannot be changed here")
        self.total_charge, self.fermi_level, self.electric_field = total_charge, fermi_level, electric_field
        self.ignore_nonconverged = ignore_nonconverged

    def check_state(self, atoms, tol=1e-15):  # type: ignore[no-untyped-def]
        """ASE's changes, and changes of the inputs in ``atoms.info``."""
        changes = super().check_state(atoms, tol)
        if self.atoms is not None and self._inputs(self.atoms) != self._inputs(atoms):
            changes = [*changes, "info"]
        return changes

    @staticmethod
    def _inputs(atoms) -> tuple:  # type: ignore[no-untyped-def]
        field = atoms.info.get("electric_field")
        vector = None if field is None else tuple(np.asarray(field, dtype=float).tolist())
        return atoms.info.get("total_charge"), atoms.info.get("fermi_level"), vector

    def calculate(self, atoms=None, properties=None, system_changes=all_changes):  # type: ignore[no-untyped-def]
        """Run the model on ``atoms`` and fill ``results``."""
        super().calculate(atoms, properties, system_changes)
        info_charge, info_level, info_field = self._inputs(self.atoms)
        level = self.fermi_level if self.fermi_level is not None else info_level
        charge = self.total_charge if self.total_charge is not None else info_charge
        if self.total_charge is not None:
            level = None
        if level is None and charge is None:
            warnings.warn(
                "no total charge given: using 0; set atoms.info['total_charge'] or the argument `total_charge`",
                stacklevel=2,
            )
        constant_charge = level is None
        field = self.electric_field if self.electric_field is not None else info_field
        graph = graph_from_arrays(
            self.atoms.get_positions(),
            self.atoms.get_atomic_numbers(),
            self.atoms.cell.array,
            self.atoms.pbc,
            self.elements,
            float(self.metadata["cutoff"]),
            self.dtype,
            total_charge=float(charge or 0.0),
            fermi_level=float(level or 0.0),
            external_field=-np.asarray(field if field is not None else (0.0, 0.0, 0.0), dtype=float),
        )
        s = self.scf
        tensors = [t.to(self.device) for t in graph[:-1]]
        out = run_model(
            self.module,
            *tensors,
            False,
            s.num_scf_steps,
            s.scf_tolerance,
            s.mixing_parameter,
            s.solver,
            constant_charge,
            s.use_autograd_forces,
            torch.zeros((0, 4), dtype=self.dtype, device=self.device),
            torch.zeros(0, dtype=self.dtype, device=self.device),
        )
        self._check(out)
        density = out["density"].cpu().numpy().astype(float)
        energy = float(out["energy"][0])
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": out["atomic_energies"].cpu().numpy().astype(float),
            "forces": out["forces"].cpu().numpy().astype(float),
            "charges": density[:, 0],
            "dipole": out["dipole"][0].cpu().numpy().astype(float),
            "fermi_level": float(out["fermi_level"][0]),
            "convergence_history": out["history"][:, 0].cpu().numpy(),
            "num_scf_steps": int(out["scf_steps"][0]),
            "density_coefficients": density,
            "atomic_dipoles": density[:, 1:][:, list(CARTESIAN_FROM_STORED)],
            "electrostatic_energy": float(out["energy_coulomb"][0]),
            "electron_energy": float(out["energy_nonlocal"][0]),
            "total_charge": float(out["total_charge"][0]),
            "residual": float(out["residual"][0]),
            "adjoint_residual": float(out["adjoint_residual"][0]),
        }
        if not constant_charge:
            self.results["grand_potential"] = energy
        if self.atoms.pbc.all():
            stress = out["strain_gradient"][0].cpu().numpy().astype(float) / self.atoms.get_volume()
            self.results["stress"] = full_3x3_to_voigt_6_stress(stress)
        elif properties is not None and "stress" in properties:
            from ase.calculators.calculator import PropertyNotImplementedError

            raise PropertyNotImplementedError(f"no stress without a volume: pbc = {self.atoms.pbc.tolist()}")

    def _check(self, out: dict[str, torch.Tensor]) -> None:
        status = int(out["status"][0])
        if status == 0:
            return
        residuals = (
            f"residual {float(out['residual'][0]):.2e}, adjoint residual {float(out['adjoint_residual'][0]):.2e}"
        )
        message = (
            f"SCF not converged after {int(out['scf_steps'][0])} applications: {residuals}, "
            f"scf_tolerance {self.scf.scf_tolerance:.1e}; {STATUS[status]}"
        )
        if not self.ignore_nonconverged:
            raise SCFNotConverged(message)
        warnings.warn(message, stacklevel=3)
