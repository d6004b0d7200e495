"""What programs around ASE do with calculators: copies, other processes, results for files."""

import copy
import multiprocessing
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

from fp_potential.calculator import FixedPointCalculator
from structures import salt_water_box, water_cluster


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


def test_results_for_a_single_point(archive, tmp_path) -> None:
    """ASE's names are the items of the results; the others are found by name."""
    atoms = salt_water_box()
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, full_scf_history=True)
    energy, stress = atoms.get_potential_energy(), atoms.get_stress()
    results = atoms.calc.results
    assert set(results) == {"energy", "free_energy", "energies", "forces", "stress", "charges", "dipole"}
    for name in ("fermi_level", "density_coefficients", "full_scf_history", "num_scf_steps"):
        assert name in results and results[name] is not None and results.get(name) is results[name]
    assert results.get("nothing") is None and "nothing" not in results
    with pytest.raises(KeyError, match="nothing"):
        results["nothing"]
    assert (
        set(results.everything()) > set(results) and results.copy().everything().keys() == results.everything().keys()
    )
    assert atoms.calc.export_properties()["energy"] == energy
    single = atoms.copy()
    single.calc = SinglePointCalculator(single, **atoms.calc.results)
    write(tmp_path / "single.traj", single)
    again = read(tmp_path / "single.traj")
    assert again.get_potential_energy() == pytest.approx(energy) and np.allclose(again.get_stress(), stress)
    write(tmp_path / "own.xyz", atoms, format="extxyz")
    assert np.allclose(read(tmp_path / "own.xyz").get_forces(), atoms.get_forces(), atol=1e-7)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda calculator: pickle.loads(pickle.dumps(calculator))])
def test_copies(archive, tmp_path, copied) -> None:
    """With results, settings and start; the archive's file is not needed."""
    path = tmp_path / "model.pt"
    path.write_bytes(archive.read_bytes())
    atoms = water_cluster(2)
    options = {"scf_tolerance": 1e-10, "initial_density": "restart"}
    calculator = FixedPointCalculator(
        path, total_charge=0.5, kspace="open", electric_field=[0, 0, 0.1], scf_options=options
    )
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    path.unlink()
    other = copied(calculator)
    assert other.results["fermi_level"] == calculator.results["fermi_level"] and not other.check_state(atoms)
    assert (other.total_charge, other.electric_field, other.scf) == (0.5, (0.0, 0.0, 0.1), calculator.scf)
    assert other.module.model.electrostatics.method == "open"
    other.set(total_charge=0.25)
    assert calculator.total_charge == 0.5 and calculator.results["energy"] == energy
    assert other.get_potential_energy(atoms) != energy
    other.set(total_charge=0.5)
    assert other.get_potential_energy(atoms) == pytest.approx(energy, abs=1e-9)


def test_atoms_with_a_calculator_in_another_process(archive) -> None:
    frames = [water_cluster(number) for number in (1, 2)]
    calculator = FixedPointCalculator(archive, total_charge=0.0)
    for atoms in frames:
        atoms.calc = calculator
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        found = pool.map(Atoms.get_potential_energy, frames)
    assert found == pytest.approx([atoms.get_potential_energy() for atoms in frames], abs=1e-12)
