"""Results belong to the atoms of a calculator and to its present settings."""

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

from fp_potential.calculator import FixedPointCalculator, SCFNotConverged
from fp_potential.options import SCFOptions
from structures import water_cluster

TIGHT = {"scf_tolerance": 1e-10}


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


def energy_of(archive, atoms, **arguments) -> float:
    return FixedPointCalculator(archive, scf_options=TIGHT, **arguments).get_potential_energy(atoms)


def test_responses_of_other_atoms(archive) -> None:
    one, other = water_cluster(1), water_cluster(2)
    calculator = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    calculator.get_potential_energy(one)
    calculator.responses(other)
    assert not calculator.results
    assert calculator.get_potential_energy(other) == pytest.approx(energy_of(archive, other, total_charge=0.0))
    assert calculator.get_forces(other).shape == (6, 3)
    calculator.responses(other)
    assert calculator.results["energy"], "the same atoms keep their results"
    with pytest.raises(ValueError, match="`responses` needs `atoms`"):
        FixedPointCalculator(archive).responses()


def test_calculation_that_fails_leaves_no_results(archive) -> None:
    good, bad = water_cluster(1), water_cluster(2)
    calculator = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    calculator.get_potential_energy(good)
    calculator.scf = calculator.scf.changed({"num_scf_steps": 2})
    for _ in range(2):
        with pytest.raises(SCFNotConverged):
            calculator.calculate(bad, ["energy"])
        assert not calculator.results
        with pytest.raises(SCFNotConverged):
            calculator.get_potential_energy(bad)
    good.calc = calculator
    calculator.set(scf_options={"num_scf_steps": 100})
    good.get_potential_energy()
    with pytest.raises(PropertyNotImplementedError, match="no stress"):
        good.get_stress()
    assert not calculator.results


def test_entries_of_info_that_failed_do_not_stay(archive) -> None:
    atoms = water_cluster(1)
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    atoms.info["electric_field"] = [0.0, 0.1]
    with pytest.raises(ValueError, match="must be 3 numbers"):
        atoms.get_potential_energy()
    atoms.info["electric_field"] = [0.0, 0.1, 0.0]
    assert np.isfinite(atoms.get_potential_energy())


def test_a_small_change_of_a_field_is_a_change(archive) -> None:
    """NumPy prints eight digits."""
    atoms = water_cluster(1)
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    atoms.info["electric_field"] = np.array([0.0, 0.0, 0.1])
    atoms.get_potential_energy()
    atoms.info["electric_field"] = np.array([0.0, 0.0, 0.1 + 1e-9])
    assert atoms.calc.check_state(atoms) == ["info"]


def test_start_from_other_data_is_a_change(archive) -> None:
    atoms = water_cluster(1)
    atoms.arrays["REF_atomic_multipoles"] = np.zeros((3, 4))
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options={"initial_density": "from_data"})
    atoms.get_potential_energy()
    assert not atoms.calc.check_state(atoms)
    atoms.arrays["REF_atomic_multipoles"][0, 0] = 0.1
    assert atoms.calc.check_state(atoms) == ["info"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("total_charge", 1.0),
        ("fermi_level", -2.5),
        ("electric_field", [0.0, 0.0, 0.2]),
    ],
)
@pytest.mark.parametrize("way", ["attribute", "set"])
def test_settings_that_change(archive, name, value, way) -> None:
    atoms = water_cluster(1)
    held = {} if name in ("total_charge", "fermi_level") else {"total_charge": 0.0}
    atoms.calc = calculator = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    before = atoms.get_potential_energy()
    if way == "attribute":
        setattr(calculator, name, value)
    else:
        assert calculator.set(**{name: value}) == {name: value}
        assert calculator.set(**{name: value}) == {}
    assert not calculator.results
    after = atoms.get_potential_energy()
    assert after == pytest.approx(energy_of(archive, atoms, **{name: value}, **held), abs=1e-9)
    assert abs(after - before) > 1e-4


def test_other_settings_that_change(archive) -> None:
    """The loop, the long range and the origin of the field; and back again."""
    atoms = water_cluster(1)
    atoms.calc = calculator = FixedPointCalculator(
        archive, total_charge=1.0, electric_field=[0, 0, 0.1], scf_options=TIGHT
    )
    before = atoms.get_potential_energy()
    calculator.set(field_origin=[0, 0, 1.0])  # V = F (z - 1), F = -0.1
    assert atoms.get_potential_energy() == pytest.approx(before + 0.1, abs=1e-9)
    calculator.set(field_origin=None, kspace="open", scf_options={"constant_charge": False}, fermi_level=-2.5)
    held = energy_of(archive, atoms, fermi_level=-2.5, electric_field=[0, 0, 0.1])
    assert atoms.get_potential_energy() == pytest.approx(held, abs=1e-9)
    assert calculator.module.model.electrostatics.method == "open"
    calculator.set(kspace=None, scf_options={"constant_charge": True}, total_charge=1.0)
    assert calculator.module.model.electrostatics.method == "auto"
    assert atoms.get_potential_energy() == pytest.approx(before, abs=1e-9)
    calculator.scf = SCFOptions(num_scf_steps=2)
    with pytest.raises(SCFNotConverged):
        atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "other.pt"}, "`model` of a calculator cannot be changed: make a new"),
        ({"device": "cuda"}, "`device` of a calculator cannot be changed"),
        ({"totl_charge": 1.0}, "unknown setting `totl_charge`; did you mean `total_charge`"),
        ({"total_charge": 1.0, "fermi_level": -2.0}, "not both"),
        ({"scf_options": {"history": 5}}, "`scf_options.history` is 80 in this archive"),
        (
            {"scf_options": {"num_scf_step": 5}},
            "`scf_options.num_scf_step` does not exist; did you mean 'num_scf_steps'",
        ),
        ({"scf_options": {"num_scf_steps": 0}}, r"`scf_options.num_scf_steps` is 0: Input should be greater than"),
        ({"kspace": "ewald"}, "expected one of auto"),
        ({"electric_field": [0, 1]}, r"`electric_field` must be 3 numbers, got \[0, 1\]"),
        ({"total_charge": float("nan")}, "`total_charge` is not finite: nan"),
        ({"fermi_level": "high"}, "`fermi_level` must be a number, got 'high'"),
    ],
)
def test_settings_that_are_refused(archive, changes, message) -> None:
    """With `set` and, of those that it has, in the constructor; what was set before stays."""
    atoms = water_cluster(1)
    calculator = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    energy = calculator.get_potential_energy(atoms)
    with pytest.raises(ValueError, match=message):
        calculator.set(**changes)
    assert calculator.get_potential_energy(atoms) == energy and calculator.total_charge == 0.0
    if not {"model", "device", "totl_charge"} & set(changes):
        with pytest.raises(ValueError, match=message):
            FixedPointCalculator(archive, **changes)


def test_settings_in_place_are_refused(archive) -> None:
    """Who changes a value where it stands would go past the results."""
    calculator = FixedPointCalculator(archive, electric_field=[0.0, 0.0, 0.1])
    with pytest.raises(TypeError):
        calculator.electric_field[2] = 0.2
    with pytest.raises(ValueError, match="frozen"):
        calculator.scf.num_scf_steps = 3


def test_only_a_converged_density_is_a_start(archive) -> None:
    atoms = water_cluster(2)
    options = TIGHT | {"initial_density": "restart", "num_scf_steps": 2}
    atoms.calc = calculator = FixedPointCalculator(
        archive, total_charge=0.0, scf_options=options, ignore_nonconverged=True
    )
    with pytest.warns(UserWarning, match="not converged"):
        atoms.get_potential_energy()
    calculator.set(scf_options={"num_scf_steps": 100})
    atoms.get_potential_energy()
    cold = FixedPointCalculator(archive, total_charge=0.0, scf_options=TIGHT)
    cold.get_potential_energy(atoms)
    assert calculator.results["num_scf_steps"] == cold.results["num_scf_steps"]
