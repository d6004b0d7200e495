"""Arguments of the published calculator: what each does here, or why it does not exist."""

import numpy as np
import pytest

from fp_potential.calculator import FixedPointCalculator
from fp_potential.calculator.published_arguments import ARGUMENTS
from structures import salt_water_box, water_cluster


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of(3, fixedpoint_update_config={"type": "SymmetricUpdate"})


def results(archive, atoms=None, info=None, **arguments):
    atoms = water_cluster(1) if atoms is None else atoms
    atoms.info |= {"total_charge": 0.0} if info is None else info
    atoms.calc = FixedPointCalculator(**({"model": archive} | arguments))
    atoms.get_potential_energy()
    return atoms.calc.results


def test_model_path(archive):
    assert results(archive, model=None, model_path=archive)["energy"] == results(archive)["energy"]
    with pytest.raises(ValueError, match="expected `model`"):
        FixedPointCalculator()


def test_keys_of_the_inputs(archive):
    plain = results(archive, info={"total_charge": 0.2, "electric_field": [0.0, -0.1, 0.0]})
    named = results(
        archive, info={"Q": 0.2, "G": [0.0, 0.1, 0.0]}, total_charge_key="Q", external_field_key="G", scf_options={}
    )
    assert named["energy"] == plain["energy"] and named["total_charge"] == pytest.approx(0.2)
    assert plain["energy"] != results(archive)["energy"]


def test_constant_fermi_level_by_its_key(archive):
    """The published form: constant_charge false, and the level under a key of atoms.info."""
    level = {"constant_charge": False}
    expected = results(archive, fermi_level=-2.3, info={})
    assert results(archive, info={"initial_fermi_level": -2.3}, scf_options=level)["energy"] == expected["energy"]
    assert results(archive, info={"mu": -2.3}, scf_options=level, fermi_level_key="mu")["energy"] == expected["energy"]
    with pytest.raises(ValueError, match="constant_charge: false holds a Fermi level"):
        results(archive, info={}, scf_options=level)


def test_full_history(archive):
    trace = results(archive, save_full_scf_history=True)["full_scf_history"]
    assert len(trace.charges) == results(archive)["num_scf_steps"]


@pytest.mark.parametrize("name", ["scf_restart", "restart_density"])
def test_restart_from_the_last_density(archive, name):
    atoms = water_cluster(2)
    first = results(archive, atoms, **{name: True})["num_scf_steps"]
    atoms.positions[0] += 1e-4
    atoms.get_potential_energy()
    again = results(archive, atoms.copy(), **{name: False})
    assert atoms.calc.results["num_scf_steps"] < min(first, again["num_scf_steps"])
    assert atoms.calc.results["energy"] == pytest.approx(again["energy"], abs=1e-6)


def test_reference_density_under_its_key(archive):
    atoms = water_cluster(1)
    atoms.arrays["M"] = results(archive, atoms)["density_coefficients"]
    steps = results(archive, atoms, atomic_multipoles_key="M", scf_options={"initial_density": "from_data"})
    assert steps["num_scf_steps"] < results(archive)["num_scf_steps"]


@pytest.mark.parametrize(
    ("method", "accepted", "refused"),
    [
        ("auto", 2, 0),
        ("mixed_periodic", 2, 0),
        ("pbc", 1, 1),
        ("slab", 0, 2),
        ("realspace", 1, 1),
        ("molecule_in_box", 1, 1),
    ],
)
def test_pbc_handling_only_checks(archive, method, accepted, refused):
    outcomes = []
    for structure in (water_cluster, salt_water_box):
        plain = results(archive, structure())["energy"]
        try:
            outcomes.append(results(archive, structure(), pbc_handling=method)["energy"] == plain)
        except ValueError as error:
            assert f"`pbc_handling` '{method}' is for" in str(error)
    assert outcomes == [True] * accepted and 2 - len(outcomes) == refused


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pbc_handling": "wire"}, "'pbc', 'slab'"),
        ({"adjust_kspace_cutoff": 1.5}, "model.kspace_cutoff_factor"),
        ({"compensating_jellium": True}, "belong together"),
        ({"jellium_slab_bounds": (0, 1)}, "belong together"),
        ({"compensating_jellium": True, "jellium_slab_bounds": (1, 1)}, r"\(lower, upper\).* got \(1, 1\)"),
        (
            {"compensating_jellium": True, "jellium_slab_bounds": np.arange(2), "field_origin": [0, 0, 1]},
            "middle of the slab",
        ),
        ({"kspace": "ewald"}, "expected one of auto, reciprocal, mesh, open"),
        ({"kspace_accuracy": 1.0}, "relative force error between 1e-10 and 0.1"),
        ({"energy_units_to_eV": 27.2}, "eV and Å"),
        ({"length_units_to_A": 0.5}, "eV and Å"),
        ({"use_compile": True}, "compiled TorchScript"),
        ({"default_dtype": "float32"}, "fixedpoint export --dtype float32"),
        ({"totl_charge": 1.0}, "unknown argument `totl_charge`; did you mean `total_charge`?"),
    ],
)
def test_refused_with_the_reason(archive, arguments, reason):
    with pytest.raises(ValueError, match=reason):
        FixedPointCalculator(archive, **arguments)


def test_values_that_ask_for_nothing_are_accepted(archive):
    idle = {name: argument.idle[0] for name, argument in ARGUMENTS.items() if argument.idle}
    assert set(ARGUMENTS) - set(idle) < {name for name in ARGUMENTS if ARGUMENTS[name].take}
    energy = results(archive, **(idle | {"default_dtype": "float64"}))["energy"]
    assert energy == results(archive)["energy"]


def test_of_ase(archive, tmp_path):
    assert np.isfinite(results(archive, directory=str(tmp_path), label="x")["energy"])
