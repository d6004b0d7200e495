"""The ASE calculator."""

import numpy as np
import pytest

from fp_potential.calculator import FixedPointCalculator, NoFermiLevel, SCFNotConverged
from structures import salt_water_box, water_cluster

TIGHT = {"scf_tolerance": 1e-10}


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


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
    with pytest.warns(UserWarning, match=r"atoms.info\['total_charge'\] is ignored"):
        assert atoms.get_charges().sum() == pytest.approx(-0.5, abs=1e-10)


def test_no_fermi_level_where_nothing_conducts(archive_of) -> None:
    """The level is no number; to hold one is refused, whatever is ignored."""
    insulator = archive_of(fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": "none"})
    atoms = water_cluster()
    atoms.calc = FixedPointCalculator(insulator, total_charge=0.0)
    assert np.isfinite(atoms.get_potential_energy())
    results = atoms.calc.results
    assert not results["conducts"] and np.isnan(results["fermi_level"]) and np.isnan(results["legendre_defect"])
    atoms.calc = FixedPointCalculator(insulator, fermi_level=-2.0, ignore_nonconverged=True)
    with pytest.raises(NoFermiLevel, match=r"no atom of H6O3 conducts .* give `total_charge` instead of `fermi_level`"):
        atoms.get_potential_energy()


def test_grand_canonical_and_field(archive) -> None:
    atoms = water_cluster()
    atoms.info["total_charge"] = 0.0
    atoms.calc = FixedPointCalculator(archive, scf_options=TIGHT)
    neutral = atoms.get_potential_energy()
    level = atoms.calc.results["fermi_level"]
    atoms.calc = FixedPointCalculator(archive, fermi_level=level, scf_options=TIGHT)
    with pytest.warns(UserWarning, match=r"atoms.info\['total_charge'\] is ignored: the argument `fermi_level`"):
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
    with pytest.raises(Exception, match="no stress without a periodic axis"):
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


def test_responses_of_the_dipole_and_of_the_energy(archive) -> None:
    """Both definitions against differences of the calculator's own dipole, and of its own energy, in a field."""
    atoms = water_cluster(2)
    calculator = FixedPointCalculator(archive, total_charge=0.2, scf_options={"scf_tolerance": 1e-11})
    atoms.calc = calculator
    density, energy = calculator.responses(atoms), calculator.responses(atoms, "energy")
    assert np.allclose(calculator.get_property("polarizability", atoms), density["polarizability"], atol=1e-12)
    step = 1e-3

    def in_field(field: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
        atoms.info["electric_field"] = field
        return atoms.get_dipole_moment(), atoms.get_potential_energy(), atoms.get_forces()

    for axis in range(3):
        field = step * np.eye(3)[axis]
        (up, e_up, f_up), (down, e_down, f_down), (_, e, _) = in_field(field), in_field(-field), in_field(0 * field)
        assert np.allclose(density["polarizability"][:, axis], (up - down) / (2 * step), atol=1e-6)
        assert energy["polarizability"][axis, axis] == pytest.approx(-(e_up - 2 * e + e_down) / step**2, abs=2e-5)
        assert np.allclose(energy["born_charges"][:, :, axis], (f_up - f_down) / (2 * step), atol=1e-6)
    del atoms.info["electric_field"]
    moved = atoms.copy()
    dipoles = []
    for sign in (1, -1):
        moved.positions[2, 1] = atoms.positions[2, 1] + sign * 1e-4
        moved.calc = calculator
        dipoles.append(moved.get_dipole_moment())
    assert np.allclose(density["born_charges"][2, 1], (dipoles[0] - dipoles[1]) / 2e-4, atol=1e-6)
    # acoustic sum rule: moving everything moves the total charge
    assert np.allclose(density["born_charges"].sum(0), 0.2 * np.eye(3), atol=1e-8)
    periodic = salt_water_box()
    with pytest.raises(Exception, match="dipole of a periodic structure"):
        calculator.responses(periodic)


def test_defects_are_the_derivatives_that_a_variational_model_would_have(archive) -> None:
    atoms = water_cluster(2)
    options = {"scf_tolerance": 1e-11}
    energies = []
    for charge in (0.1 + 1e-4, 0.1 - 1e-4, 0.1):
        atoms.calc = FixedPointCalculator(archive, total_charge=charge, scf_options=options)
        energies.append(atoms.get_potential_energy())
    by_charge = (energies[0] - energies[1]) / 2e-4
    results = atoms.calc.results
    assert results["legendre_defect"] == pytest.approx(by_charge + results["fermi_level"], abs=1e-6)
    assert results["dipole_defect"].shape == (3,)
    level = results["fermi_level"]
    energies = []
    for shift in (1e-4, -1e-4, 0.0):
        atoms.calc = FixedPointCalculator(archive, fermi_level=level + shift, scf_options=options)
        energies.append(atoms.get_potential_energy())
    by_level = (energies[0] - energies[1]) / 2e-4
    assert atoms.calc.results["legendre_defect"] == pytest.approx(by_level - atoms.get_charges().sum(), abs=1e-6)


def test_starts(archive) -> None:
    """Any start, the same state; a good one needs fewer applications."""
    atoms = water_cluster(3)
    guess = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    atoms.calc = guess
    energy, steps = atoms.get_potential_energy(), guess.results["num_scf_steps"]
    atoms.arrays["REF_atomic_multipoles"] = guess.results["density_coefficients"]
    atoms.info["initial_fermi_level"] = guess.results["fermi_level"]
    options = {"initial_density": "from_data", "initial_fermi_level": "from_data"}
    with pytest.warns(UserWarning, match="initial_fermi_level has no effect: this model finds the level without a sea"):
        atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT | options)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
    assert atoms.calc.results["num_scf_steps"] < steps
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT | {"initial_density": "restart"})
    atoms.get_potential_energy()
    assert atoms.calc.results["num_scf_steps"] == steps
    atoms.rattle(1e-4)
    atoms.get_potential_energy()
    assert atoms.calc.results["num_scf_steps"] < steps
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options={"initial_density": "from_data"})
    del atoms.arrays["REF_atomic_multipoles"]
    with pytest.raises(ValueError, match="REF_atomic_multipoles"):
        atoms.get_potential_energy()


@pytest.mark.parametrize("held", [{"total_charge": 0.4}, {"fermi_level": -1.8}])
def test_full_scf_history(archive, held) -> None:
    """Every density on the way, with its residual, charge, level and energy; the last is the result."""
    atoms = water_cluster(3)
    options = TIGHT | {"initial_density": "from_data"}
    atoms.arrays["REF_atomic_multipoles"] = np.random.default_rng(0).normal(scale=0.1, size=(len(atoms), 4))
    atoms.calc = FixedPointCalculator(archive, scf_options=options, full_scf_history=True, **held)
    energy = atoms.get_potential_energy()
    results = atoms.calc.results
    trace = results["full_scf_history"]
    assert np.array_equal(trace.run.history, results["convergence_history"])
    assert trace.run.iterates.shape == (results["num_scf_steps"], len(atoms), 4)
    assert trace.run.iterates[-1] == pytest.approx(results["density_coefficients"], abs=1e-14)
    assert trace.energies[-1] == pytest.approx(energy, abs=1e-8)
    if "total_charge" in held:
        assert trace.charges == pytest.approx(0.4, abs=1e-10)
        # the start is the data's density, moved onto the charge surface
        moved = trace.run.iterates[0] - atoms.arrays["REF_atomic_multipoles"]
        assert np.abs(moved).max() < 1.0 and trace.levels[-1] == pytest.approx(results["fermi_level"])
    else:
        assert trace.run.iterates[0] == pytest.approx(atoms.arrays["REF_atomic_multipoles"])
        assert trace.levels == pytest.approx(-1.8)


@pytest.mark.parametrize("solver", ["anderson", "linear"])
def test_change_of_the_density_from_one_application_to_the_next(archive, solver) -> None:
    """The published history: mean |p_t - p_(t-1)|, which for linear mixing is the residual times its parameter."""
    atoms = water_cluster(3)
    options = (
        TIGHT | {"solver": solver, "num_scf_steps": 400} | ({"mixing_parameter": 0.4} if solver == "linear" else {})
    )
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=options, full_scf_history=True)
    atoms.get_potential_energy()
    results = atoms.calc.results
    changes, residuals = results["density_change_history"], results["convergence_history"]
    steps = np.diff(results["full_scf_history"].run.iterates, axis=0)
    assert len(changes) == results["num_scf_steps"] - 1 > 2
    assert changes == pytest.approx(np.abs(steps).mean((1, 2)), rel=1e-9, abs=1e-15)
    if solver == "linear":
        assert changes == pytest.approx(0.4 * residuals[:-1], rel=1e-9, abs=1e-15)


def test_forces_at_fixed_density_differ(archive) -> None:
    """use_autograd_forces: false leaves the response out: the same energy, other forces."""
    atoms = water_cluster(3)
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    options = TIGHT | {"use_autograd_forces": False}
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=options)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)
    assert np.abs(atoms.get_forces() - forces).max() > 1e-4
