"""Values that no calculation gives: each is a warning that names frame, atom and value."""

import re

import numpy as np
import pytest
from fp_potential.train.data.frame_reader import FrameReader
from fp_potential.train.potential.config import Keys, Units

from training_data import KEYS, frames

BOX = 8  #: the first periodic frame


def warnings(content, units=None, **keys):
    reader = FrameReader(Keys(**{**KEYS, **keys}), units=units)
    for number, atoms in enumerate(content):
        reader.frame(atoms, f"a.xyz, frame {number}", "a")
    return [note for note in reader.notes() if "WARNING" in note]


@pytest.fixture
def content():
    return frames()


def test_frames_of_a_model_are_plausible(content):
    content[BOX].info["stress"] = np.diag([0.01, 0.02, 0.03])
    assert warnings(content, stress="stress") == []


def test_stress_of_nine_numbers_that_is_not_symmetric(content):
    content[BOX].info["stress"] = np.array([[0.01, 0.002, 0], [0.004, 0.01, 0], [0, 0, 0.01]])
    content[BOX + 1].info["stress"] = np.array([[0.01, 1e-6, 0], [-1e-6, 0.01, 0], [0, 0, 0.01]])  # rounding
    assert warnings(content, stress="stress") == [
        "WARNING: 1 frames have a stress of nine numbers that is not symmetric, which it is by nature; check the data "
        "(a.xyz, frame 8: xy 0.002, yx 0.004)"
    ]


def test_polarizability_that_is_not_symmetric(content):
    content[0].info["alpha"] = np.arange(9.0)
    (line,) = warnings(content, polarizability="alpha")
    assert "1 frames have a polarizability of nine numbers that is not symmetric" in line
    assert "(a.xyz, frame 0: xz 2, zx 6)" in line


def test_force_names_frame_and_atom_of_the_largest(content):
    content[3].arrays["REF_forces"][1] = [0, 0, 200.0]
    content[5].arrays["REF_forces"][2] = [1e6, 0, 0]
    lines = warnings(content)
    assert lines == [
        "WARNING: 2 frames have forces beyond 100 eV/Å; check data.units, or remove the frame "
        "(a.xyz, frame 5: atom 2, 1e+06 eV/Å)"
    ]
    content[3].info["config_forces_weight"] = content[5].info["config_forces_weight"] = 0.0
    assert warnings(content) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda a: a.arrays["REF_atomic_multipoles"].__setitem__((1, 0), 25.0), "charges beyond 10 e.*atom 1, 25 e"),
        (lambda a: a.arrays["REF_atomic_multipoles"].__setitem__((2, 2), 50.0), "atomic dipoles beyond 10 e·Å.*atom 2"),
        (lambda a: a.info.update(REF_fermi_level=-120.0), "fermi_level beyond 50 eV.*frame 0: 120 eV"),
        (lambda a: a.info.update(external_field=np.array([0, 0, 51.0])), "a field of more than 5 V/Å.*frame 0: 51 V/Å"),
    ],
)
def test_other_sizes(content, change, expected):
    change(content[0])
    assert any(re.search(expected, line) for line in warnings(content[:1]))


def test_stress_in_another_unit(content):
    content[BOX].info["stress"] = 100.0 * np.eye(3)  # GPa
    (line,) = warnings([a.copy() for a in content], stress="stress")
    assert "1 frames have stress beyond 10 eV/Å³; check data.units" in line
    assert warnings(content, Units(labels={"stress": "GPa"}), stress="stress") == []


def test_energies_of_one_composition_in_two_units(content):
    content[6].info["REF_energy"] /= 27.2114  # H2O, as frames 0 and 3
    (line,) = warnings(content)
    assert "differ by more than 10 eV/atom, for 1 compositions: of H2O1 " in line
    assert "in a.xyz, frame 6; are they of one method and unit?" in line
