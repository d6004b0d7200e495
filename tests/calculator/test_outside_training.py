"""Calculations far outside the training: one warning with the value and the range, or an error."""

import warnings

import numpy as np
import pytest
from ase.io import write
from fp_potential.train.data.read import read_frames
from fp_potential.train.potential.config import Keys
from fp_potential.train.potential.statistics import collect

from fp_potential.calculator import FixedPointCalculator, OutsideTraining
from fp_potential.cli.main import main
from structures import water_cluster
from training_data import KEYS, frames, write_frames

RANGES = {
    "charge_per_atom": [0.0, 0.0],
    "fermi_level": [-3.0, -1.0],
    "field": 0.1,
    "distances": {"H-H": 1.4, "H-O": 0.9},
    "density": {"H": [5.0, 5.0], "O": [5.0, 5.0]},
}


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of(training={"ranges": RANGES})


def squeezed(factor: float):
    atoms = water_cluster(1)
    atoms.positions *= factor
    return atoms


CASES = [
    ({"total_charge": 50.0}, 1.0, "the total charge per atom is 16.67 e, in the training it was 0 to 0 e"),
    ({"fermi_level": 1000.0}, 1.0, "the Fermi level is 1000 eV, in the training it was -3 to -1 eV"),
    (
        {"total_charge": 0.0, "electric_field": [0, 0, 2.0]},
        1.0,
        "the electric field is 2 V/Å, in the training it was at most 0.1",
    ),
    ({"total_charge": 0.0}, 0.5, "the shortest distance H-O is 0.4"),
]


@pytest.mark.parametrize(("arguments", "factor", "said"), CASES)
def test_said_once_with_the_value_and_the_range(archive, arguments, factor, said) -> None:
    options = {"ignore_nonconverged": True}
    calculator = FixedPointCalculator(archive, **arguments, **options)
    atoms = squeezed(factor)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        calculator.get_potential_energy(atoms)
        atoms.positions[0, 0] += 1e-3
        calculator.get_potential_energy(atoms)
    found = [str(w.message) for w in caught if "far outside the training of this model" in str(w.message)]
    assert sum(said in text for text in found) == 1, found
    error = FixedPointCalculator(archive, **arguments, **options, outside="error")
    with pytest.raises(OutsideTraining, match=said.replace(".", r"\.")):
        error.get_potential_energy(atoms)
    assert not error.results
    quiet = FixedPointCalculator(archive, **arguments, **options, outside="ignore")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "SCF not converged")
        quiet.get_potential_energy(atoms)


def test_charges_beyond_those_of_the_training(archive_of) -> None:
    small = archive_of(training={"ranges": {"density": {"O": [0.001, 5.0], "H": [5.0, 5.0]}}})
    calculator = FixedPointCalculator(small, total_charge=3.0)
    with pytest.warns(UserWarning, match=r"the largest charge of O is \d.* e, in the training it was 0.001 e"):
        calculator.get_potential_energy(water_cluster(1))


def test_a_little_outside_is_no_news(archive, archive_of) -> None:
    inside = FixedPointCalculator(archive, total_charge=0.05, electric_field=[0, 0, 0.15])
    inside.get_potential_energy(squeezed(0.95))
    FixedPointCalculator(archive_of(), total_charge=50.0, ignore_nonconverged=True, outside="error").get_property(
        "energy", squeezed(1.0)
    )
    with pytest.raises(ValueError, match="`outside` is 'stop'; expected one of warn, error, ignore"):
        FixedPointCalculator(archive, outside="stop")


def test_scf_says_so(archive, tmp_path, capsys) -> None:
    atoms = squeezed(0.5)
    atoms.info["total_charge"] = 0.0
    write(tmp_path / "near.xyz", atoms, format="extxyz")
    main(["scf", str(archive), str(tmp_path / "near.xyz"), "--no_spectrum"])
    assert "WARNING: far outside the training of this model: the shortest distance H-O" in capsys.readouterr().out


def test_ranges_of_a_set(tmp_path) -> None:
    """Against the arrays of the frames."""
    content = frames()
    content[0].info["total_charge"] = -1.5
    path = write_frames(tmp_path / "frames.xyz", content)
    read = read_frames([str(path)], Keys(**KEYS))
    ranges = collect(read, 3.5).training_ranges()
    assert ranges["charge_per_atom"] == [-1.5 / len(content[0]), 0.0]
    levels = [atoms.info["REF_fermi_level"] for atoms in content]
    assert ranges["fermi_level"] == pytest.approx([min(levels), max(levels)])
    assert ranges["field"] == pytest.approx(0.05)
    multipoles = np.concatenate([a.arrays["REF_atomic_multipoles"][a.numbers == 8] for a in content])
    largest = [np.abs(multipoles[:, 0]).max(), np.linalg.norm(multipoles[:, 1:], axis=1).max()]
    assert ranges["density"]["O"] == pytest.approx(largest, abs=1e-7)
    shortest = min(
        a.get_all_distances(mic=bool(a.pbc.any()))[np.ix_(a.numbers == 1, a.numbers == 8)].min() for a in content
    )
    assert ranges["distances"]["H-O"] == pytest.approx(shortest, abs=1e-6)
    assert all(pair == "-".join(sorted(pair.split("-"))) for pair in ranges["distances"])
