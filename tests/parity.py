"""A frame of LAMMPS against ASE."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from figures import at_most

if TYPE_CHECKING:
    from ase import Atoms

    from fp_potential.calculator import FixedPointCalculator

BAR = 1.6021765e6  #: LAMMPS' eV/Å³ in bar (nktv2p of units metal)
TIGHT = "scf_tolerance 1e-12"


def has_empty_rank(log: str) -> bool:
    """Whether a rank owned no atoms at the end of the last run of a log."""
    return re.findall(r"Nlocal: .* (\d+) min", log)[-1] == "0"


def virial(atoms: Atoms) -> np.ndarray:
    """Stress times volume, eV; of open structures from the forces, whose energy has no other geometry."""
    if atoms.pbc.any():
        return atoms.get_stress(voigt=False) * atoms.get_volume()
    arms = atoms.positions - 0.5 * atoms.cell.array.sum(axis=0)
    product = -arms.T @ atoms.get_forces()
    return 0.5 * (product + product.T)


def compare(frame: Any, calculator: FixedPointCalculator, pbc: Any = True) -> None:
    """One frame of LAMMPS (units metal) against ASE with the periodic axes ``pbc``."""
    atoms = frame.atoms()
    atoms.pbc = pbc
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    at_most("LAMMPS against ASE: energy, relative", abs(frame.thermo["PotEng"] / energy - 1.0), 1e-9)
    at_most("LAMMPS against ASE: forces, eV/Å", np.abs(frame.forces - atoms.get_forces()), 1e-8)
    expected = -BAR / atoms.get_volume() * virial(atoms)[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    at_most(
        "LAMMPS against ASE: virial, relative",
        np.abs(frame.pressure / np.abs(expected).max() - expected / np.abs(expected).max()),
        1e-6,
    )
    r = calculator.results
    at_most("LAMMPS against ASE: charges, e", np.abs(frame.charges - r["charges"]), 1e-9)
    np.testing.assert_allclose(frame.table[:, 9], r["charges"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(frame.table[:, 10:13], r["atomic_dipoles"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(frame.table[:, 14], r["energies"], rtol=0, atol=1e-8)
    assert frame.table[:, 14].sum() == pytest.approx(energy, rel=1e-9)
    assert frame.global_value(2) == pytest.approx(r["electron_energy"], abs=1e-8)
    assert frame.global_value(3) == pytest.approx(r["electrostatic_energy"], abs=1e-8)
    assert frame.global_value(5) == pytest.approx(r["fermi_level"], abs=1e-8, nan_ok=True)
    assert frame.global_value(6) == pytest.approx(r["total_charge"], abs=1e-9)
    assert frame.global_value(10) == pytest.approx(r["num_scf_steps"], abs=1)
    assert frame.global_value(11) <= 1e-12
