"""Entries of ``atoms.info``: those of the training, their signs, and arguments that win over them."""

import warnings

import numpy as np
import pytest
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator
from structures import water_cluster

TIGHT = {"scf_tolerance": 1e-10}
FIELD = [0.0, 0.0, 0.1]


def trained(archive_of, units=None, **keys):
    """An archive whose training read these keys."""
    return archive_of(training={"data": {"keys": keys, "units": units}})


def water(**info) -> Atoms:
    atoms = water_cluster(1)
    atoms.info |= info
    return atoms


def energy(archive, atoms: Atoms, said: str | None = None, **arguments) -> float:
    """The energy, and exactly one warning with ``said`` in two calculations, or none."""
    calculator = FixedPointCalculator(archive, **{"scf_options": TIGHT} | arguments)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = calculator.get_potential_energy(atoms)
        moved = atoms.copy()
        moved.positions[0] += 0.01
        calculator.get_potential_energy(moved)
    found = [str(warning.message) for warning in caught]
    assert len(found) == (said is not None) and (said or "") in "".join(found), found
    return result


def test_a_field_is_read_with_the_sign_of_the_training(archive_of) -> None:
    """Frames whose ``external_field`` is E: as E, with a word; the same frames under the calculator's own key."""
    plain = archive_of()
    expected = energy(plain, water(total_charge=0.0, electric_field=FIELD))
    opposite = energy(plain, water(total_charge=0.0, electric_field=[0.0, 0.0, -0.1]))
    assert abs(expected - opposite) > 1e-3
    frame = water(total_charge=0.0, external_field=FIELD)
    electric = trained(archive_of, electric_field="external_field")
    said = "atoms.info['external_field'] is read as the physical field E, V/Å, as in the training of this model"
    assert energy(electric, frame, said) == pytest.approx(expected, abs=1e-9)
    assert energy(trained(archive_of, external_field="external_field"), frame) == pytest.approx(opposite, abs=1e-9)
    assert energy(plain, frame, "is read as the gradient F = -E of the potential, V/Å: this model was not") == (
        pytest.approx(opposite, abs=1e-9)
    )
    assert energy(electric, water(total_charge=0.0, electric_field=FIELD)) == pytest.approx(expected, abs=1e-9)
    other = trained(archive_of, external_field="gradient")
    assert energy(other, water(total_charge=0.0, gradient=FIELD)) == pytest.approx(opposite, abs=1e-9)
    said = "the training of this model read it as the physical field E"
    assert energy(electric, frame, said, external_field_key="external_field") == pytest.approx(opposite, abs=1e-9)


def test_charges_under_the_key_of_the_training(archive_of) -> None:
    archive = trained(archive_of, total_charge="Q")
    expected = energy(archive, water(), total_charge=0.5)
    assert energy(archive, water(Q=0.5)) == energy(archive, water(total_charge=0.5)) == expected
    assert energy(archive, water(Q=np.array([0.5]))) == expected
    with pytest.raises(ValueError, match=r"atoms.info\['Q'\] = 0.5, atoms.info\['total_charge'\] = 1 contradict"):
        energy(archive, water(Q=0.5, total_charge=1.0))
    energy(archive, water(), "set atoms.info['Q'] or the argument `total_charge`")


def test_densities_and_levels_under_the_keys_of_the_training(archive_of) -> None:
    archive = trained(archive_of, atomic_multipoles="M", fermi_level="mu")
    atoms = water(total_charge=0.0)
    atoms.calc = FixedPointCalculator(archive, scf_options=TIGHT)
    atoms.get_potential_energy()
    results = atoms.calc.results
    atoms.arrays["M"], atoms.info["mu"] = results["density_coefficients"], results["fermi_level"]
    atoms.calc = FixedPointCalculator(archive, scf_options={**TIGHT, "initial_density": "from_data"})
    atoms.get_potential_energy()
    assert atoms.calc.results["num_scf_steps"] < results["num_scf_steps"]
    held = energy(archive, atoms, scf_options={**TIGHT, "constant_charge": False})
    assert held == pytest.approx(results["energy"], abs=1e-6)


def test_units_of_the_training_are_said(archive_of) -> None:
    units = {"energy": "Ha", "length": "Bohr", "labels": {}}
    archive = trained(archive_of, units, electric_field="E")
    said = "atoms.info['E'] is read in V/Å; the files of this model's training were in other units (energy: Ha, length"
    energy(archive, water(total_charge=0.0, E=FIELD), said)
    energy(archive, water(total_charge=0.0))
    usual = trained(archive_of, {"energy": "eV", "length": "Å", "labels": {}}, electric_field="E")
    energy(usual, water(total_charge=0.0, E=FIELD))


LEVEL = -2.4


@pytest.mark.parametrize(
    ("info", "arguments", "held", "said"),
    [
        ({"fermi_level": LEVEL}, {}, "level", None),
        ({"fermi_level": LEVEL}, {"scf_options": TIGHT | {"constant_charge": True}, "total_charge": 0.3}, "charge", 1),
        (
            {"fermi_level": LEVEL, "total_charge": 0.3},
            {"scf_options": TIGHT | {"constant_charge": True}},
            "charge",
            "atoms.info['fermi_level'] is ignored: the charge is held, constant_charge: true",
        ),
        (
            {"fermi_level": LEVEL, "total_charge": 0.3},
            {},
            "level",
            "atoms.info['total_charge'] is ignored: atoms.info['fermi_level'] is held",
        ),
        ({"fermi_level": LEVEL, "total_charge": 0.3}, {"total_charge": 0.3}, "charge", 1),
        ({"total_charge": 0.9}, {"total_charge": 0.3}, "charge", "atoms.info['total_charge'] is ignored"),
        ({"total_charge": 0.3}, {"total_charge": 0.3}, "charge", None),
        ({"total_charge": 0.9}, {"fermi_level": LEVEL}, "level", "atoms.info['total_charge'] is ignored"),
        ({"fermi_level": -9.0}, {"fermi_level": LEVEL}, "level", None),
        (
            {"electric_field": FIELD, "total_charge": 0.3},
            {"electric_field": [0.0, 0.0, 0.0]},
            "charge",
            "atoms.info['electric_field'] is ignored: the argument `electric_field` is given",
        ),
    ],
)
def test_arguments_win_over_info(archive_of, info, arguments, held, said) -> None:
    archive = archive_of()
    said = "atoms.info['fermi_level'] is ignored: the argument `total_charge` is given" if said == 1 else said
    expected = energy(archive, water(), **{"charge": {"total_charge": 0.3}, "level": {"fermi_level": LEVEL}}[held])
    assert energy(archive, water(**info), said, **arguments) == pytest.approx(expected, abs=1e-9)


def test_a_level_that_is_a_label_is_not_held(archive_of) -> None:
    archive = trained(archive_of, fermi_level="fermi_level", total_charge="total_charge")
    frame = water(total_charge=0.3, fermi_level=LEVEL)
    said = "atoms.info['fermi_level'] is ignored: atoms.info['total_charge'] is held, as the model was trained"
    assert energy(archive, frame, said) == pytest.approx(energy(archive, water(total_charge=0.3)), abs=1e-9)
    level = energy(archive, frame, scf_options=TIGHT | {"constant_charge": False})
    assert level == pytest.approx(energy(archive, water(), fermi_level=LEVEL), abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fermi_level": LEVEL, "scf_options": {"constant_charge": True}}, "constant_charge: true among `scf_options`"),
        ({"total_charge": 0.0, "scf_options": {"constant_charge": False}}, "`total_charge` holds the charge, constant"),
    ],
)
def test_arguments_that_contradict(archive_of, arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        FixedPointCalculator(archive_of(), **arguments)
