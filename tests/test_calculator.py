"""The ASE calculator."""

import numpy as np
import pytest

from fp_potential.calculator import FixedPointCalculator, SCFNotConverged
from fp_potential.export import export_model
from structures import make_model, salt_water_box, water_cluster

TIGHT = {"scf_tolerance": 1e-10}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("calculator") / "model.pt"
    export_model(make_model(), path)
    return path


def test_results(archive) -> None:
    atoms = salt_water_box()
    atoms.info["total_charge"] = 0.25
    atoms.calc = FixedPointCalculator(archive, scf_options=TIGHT)
    energy = atoms.get_potential_energy()
    assert atoms.calc.get_property("free_energy") == energy
    assert atoms.get_forces().shape == (len(atoms), 3)
    assert atoms.get_stress().shape == (6,)
    assert atoms.get_charges().sum() == pytest.approx(0.25, abs=1e-10)
    results = atoms.calc.results
    assert results["energies"].sum() == pytest.approx(energy, rel=1e-12)
    moments = atoms.get_charges() @ atoms.positions + results["atomic_dipoles"].sum(0)
    assert np.allclose(atoms.get_dipole_moment(), moments, atol=1e-10)
    assert len(results["convergence_history"]) == results["num_scf_steps"]
    assert results["convergence_history"][-1] <= 1e-10


def test_charge_of_the_argument_wins_and_a_missing_one_warns(archive) -> None:
    atoms = water_cluster()
    atoms.calc = FixedPointCalculator(archive)
    with pytest.warns(UserWarning, match="no total charge given"):
        atoms.get_potential_energy()
    atoms.info["total_charge"] = 1.0
    assert atoms.get_charges().sum() == pytest.approx(1.0, abs=1e-10)
    atoms.calc = FixedPointCalculator(archive, total_charge=-0.5)
    assert atoms.get_charges().sum() == pytest.approx(-0.5, abs=1e-10)


def test_grand_canonical_and_field(archive) -> None:
    atoms = water_cluster()
    atoms.info["total_charge"] = 0.0
    atoms.calc = FixedPointCalculator(archive, scf_options=TIGHT)
    neutral = atoms.get_potential_energy()
    level = atoms.calc.results["fermi_level"]
    atoms.calc = FixedPointCalculator(archive, fermi_level=level, scf_options=TIGHT)
    assert atoms.get_potential_energy() == pytest.approx(neutral, abs=1e-7)
    atoms.calc = FixedPointCalculator(archive, scf_options=TIGHT)
    before = atoms.get_dipole_moment()
    atoms.info["electric_field"] = [0.0, 0.0, 0.05]
    after = atoms.get_dipole_moment()
    assert after[2] > before[2], "the dipole grows along the physical field"


def test_bad_input(archive) -> None:
    atoms = water_cluster()
    atoms.info["total_charge"] = 0.0
    atoms.calc = FixedPointCalculator(archive)
    with pytest.raises(Exception, match="no stress without a volume"):
        atoms.get_stress()
    atoms.calc = FixedPointCalculator(archive, scf_options={"num_scf_steps": 2, "scf_tolerance": 1e-9})
    with pytest.raises(SCFNotConverged, match=r"residual .* num_scf_steps"):
        atoms.get_potential_energy()
    atoms.calc = FixedPointCalculator(archive, scf_options={"num_scf_steps": 2}, ignore_nonconverged=True)
    with pytest.warns(UserWarning, match="not converged"):
        atoms.get_potential_energy()
    unknown = water_cluster()
    unknown.symbols[0] = "Fe"
    unknown.calc = FixedPointCalculator(archive, total_charge=0.0)
    with pytest.raises(ValueError, match="unknown element Fe"):
        unknown.get_potential_energy()
    broken = water_cluster()
    broken.positions[1, 2] = np.nan
    broken.calc = FixedPointCalculator(archive, total_charge=0.0)
    with pytest.raises(ValueError, match="non-finite position of atom 1"):
        broken.get_potential_energy()
    periodic = salt_water_box()
    periodic.calc = FixedPointCalculator(archive, total_charge=0.0, electric_field=[0, 0, 0.1])
    with pytest.raises(ValueError, match="along a periodic axis"):
        periodic.get_potential_energy()
    with pytest.raises(ValueError, match="not both"):
        FixedPointCalculator(archive, total_charge=0.0, fermi_level=-1.0)
    with pytest.raises(ValueError, match="history"):
        FixedPointCalculator(archive, scf_options={"history": 5})
    with pytest.raises(ValueError, match="num_scf_steps"):
        FixedPointCalculator(archive, scf_options={"num_scf_steps": 0})
