"""Units of data files: names, dimensions, factors."""

import ase.units
import numpy as np
import pytest
from fp_potential.train.data.frame import LABELS
from fp_potential.train.data.units import DIMENSIONS, UNITS, Conversion, parse_unit
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Units
from pydantic import ValidationError

from fp_potential.units import DEBYE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Ha", ase.units.Hartree),
        ("Ry", ase.units.Rydberg),
        ("kcal/mol", ase.units.kcal / ase.units.mol),
        ("kJ/mol", ase.units.kJ / ase.units.mol),
        ("Bohr", ase.units.Bohr),
        ("nm", ase.units.nm),
        ("GPa", ase.units.GPa),
        ("kbar", 1000 * ase.units.bar),
        ("D", ase.units.Debye),
        ("meV", 1e-3),
    ],
)
def test_factors_are_those_of_ase(name, value):
    assert UNITS[name].factor == pytest.approx(value, rel=2e-8)


def test_debye_is_that_of_codata():
    """1 e·Å = 4.803204712570263 D, exact in the SI of 2019; ASE's is of CODATA 2014."""
    assert pytest.approx(4.803204712570263, rel=1e-15) == DEBYE
    assert DEBYE * UNITS["D"].factor == pytest.approx(1.0, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Ha/Bohr", UNITS["Ha"].factor / UNITS["Bohr"].factor),
        ("kcal/mol/Å", UNITS["kcal/mol"].factor),
        ("eV/Bohr^3", UNITS["Bohr"].factor ** -3),
        ("eV/Bohr³", UNITS["Bohr"].factor ** -3),
        ("e * Bohr", UNITS["Bohr"].factor),
        ("Ha/e/Bohr", UNITS["Ha"].factor / UNITS["Bohr"].factor),
        ("Bohr**2/Ha", UNITS["Bohr"].factor ** 2 / UNITS["Ha"].factor),
    ],
)
def test_products_quotients_and_powers(text, same):
    assert parse_unit(text).factor == pytest.approx(same, rel=1e-14)


@pytest.mark.parametrize("text", ["furlong", "Ha//Bohr", "", "eV/Å^x", "ev"])
def test_unknown_units_are_named(text):
    with pytest.raises(InputError, match="is not known"):
        parse_unit(text)


def test_every_label_has_a_dimension():
    assert set(LABELS) - {"atomic_multipoles"} <= set(DIMENSIONS)


def test_labels_follow_energy_and_length():
    hartree, bohr = UNITS["Ha"].factor, UNITS["Bohr"].factor
    atomic = Conversion("Ha", "Bohr")
    expected = {
        "energy": hartree,
        "forces": hartree / bohr,
        "stress": hartree / bohr**3,
        "dipole": bohr,
        "fermi_level": hartree,
        "charges": 1.0,
        "total_charge": 1.0,
        "external_field": hartree / bohr,
        "electric_field": hartree / bohr,
        "electrostatic_potentials": hartree,
        "polarizability": bohr**2 / hartree,
        "born_charges": 1.0,
    }
    for name, factor in expected.items():
        assert atomic.factor(name) == pytest.approx(factor, rel=1e-14), name
    np.testing.assert_allclose(atomic.factor("atomic_multipoles"), [1, bohr, bohr, bohr])
    own = Conversion("kcal/mol", "Å", {"stress": "GPa", "dipole": "D"})
    assert own.factor("stress") == UNITS["GPa"].factor and own.factor("forces") == UNITS["kcal/mol"].factor
    assert own.describe() == (
        "units of the data: kcal/mol, Å, e, stress GPa, dipole D; converted to eV, Å, e"
    )  # fmt: skip
    assert Conversion().describe() == "units of the data: eV, Å, e"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"energy": "Bohr"}, "data.units.energy: 'Bohr' is an energy.0 length.1, expected energy.1 length.0"),
        ({"length": "GPa"}, "data.units.length"),
        ({"labels": {"stress": "eV/Å"}}, "data.units.labels.stress: .* expected energy.1 length.-3"),
        ({"labels": {"atomic_multipoles": "e"}}, "no label with a unit of its own"),
        ({"labels": {"forxes": "eV/Å"}}, "did you mean 'forces'"),
        ({"energy": "Hartre"}, "did you mean 'Hartree'"),
    ],
)
def test_wrong_units_are_refused_when_the_file_is_read(options, message):
    with pytest.raises(ValidationError, match=message):
        Units(**options)
