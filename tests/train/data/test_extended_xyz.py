"""What ASE's reader of extended XYZ takes without a word: names of atoms that are no elements, keys given twice."""

import numpy as np
import pytest
from ase import Atoms
from ase.db import connect
from fp_potential.train.data.extended_xyz import keys_twice
from fp_potential.train.data.frame_reader import FrameReader
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, Keys

WATER = ["O 0 0 0.12", "H 0 0.76 -0.47", "H 0 -0.76 -0.47"]


def frame(rows, header="REF_energy=-14.0"):
    return "\n".join([str(len(rows)), f'Properties=species:S:1:pos:R:3 {header} pbc="F F F"', *rows]) + "\n"


def read(path, text):
    path.write_text(text)
    return read_frames([str(path)], Keys(energy="REF_energy"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("X", "unknown chemical symbol 'X'; a dummy atom .*: remove it from the frame"),
        ("D", "unknown chemical symbol 'D'; write deuterium as H"),
        ("T", "unknown chemical symbol 'T'; write tritium as H"),
        ("OW", "unknown chemical symbol 'OW'; write the element in the place of the label"),
        ("HW", "unknown chemical symbol 'HW'"),
        ("C1", "unknown chemical symbol 'C1'"),
    ],
)
def test_names_that_are_no_elements_are_refused_with_frame_and_atom(tmp_path, name, expected):
    wrong = frame([*WATER, f"{name} 20 20 20"])
    with pytest.raises(InputError, match=rf"a\.xyz, frame 1: atom 3: {expected}"):
        read(tmp_path / "a.xyz", frame(WATER) + wrong)


def test_species_stand_in_any_column(tmp_path):
    text = "1\nProperties=pos:R:3:charge:R:1:species:S:1 REF_energy=1\n0 0 0 0.5 Ow\n"
    with pytest.raises(InputError, match="frame 0: atom 0: unknown chemical symbol 'Ow'"):
        read(tmp_path / "a.xyz", text)


def test_numbers_of_no_element_are_refused_in_every_format(tmp_path):
    expected = "atom 1 is no element: {}.*expected atomic numbers 1 to 118"
    with connect(tmp_path / "a.db") as database:
        database.write(Atoms("H"), REF_energy=-13.6)
        database.write(Atoms("HX", [[0, 0, 0], [0, 0, 9]]), REF_energy=-13.6)
    with pytest.raises(InputError, match=rf"a\.db, frame 1: {expected.format('X, a dummy atom')}"):
        read_frames([str(tmp_path / "a.db")], Keys(energy="REF_energy"))
    with pytest.raises(InputError, match=expected.format("number 119")):
        FrameReader(Keys()).frame(Atoms(numbers=[1, 119], positions=np.eye(3)[:2]), "a", "a")


def test_labels_that_ase_takes_for_elements_are_named(tmp_path):
    """ASE does not mind the case: the name HO of a hydrogen is read as holmium."""
    path = tmp_path / "a.xyz"
    path.write_text(frame(WATER) + frame(["O 0 0 0", "HO 0 0 1", "ca 0 0 5"]))
    notes = load_data(DataOptions(files=[str(path)], keys=Keys(energy="REF_energy"), valid_fraction=0)).notes
    assert (
        "WARNING: 1 frames have atoms whose names are not written as chemical symbols and are read as such "
        "(a.xyz, frame 1: atom 1: 'HO' as Ho)" in notes
    )


def test_key_twice_in_a_header_is_named(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text(frame(WATER) + frame(WATER, "REF_energy=-14.0 name='a b=c' REF_energy=-15.0"))
    data = load_data(DataOptions(files=[str(path)], keys=Keys(energy="REF_energy"), valid_fraction=0))
    assert data.train[1].labels["energy"] == -15.0  # as ASE reads it
    assert (
        "WARNING: 1 frames have a key twice in their header, of which the last is used "
        "(a.xyz, frame 1: 'REF_energy')" in data.notes
    )


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("a=1 b=2 A=3", []),
        ("a=1 b=2 a=3", ["a"]),
        ("flag a=1 flag", ["flag"]),
        ("a = 1 b= 2 a =3", ["a"]),
        ("a=\"b=1 b=2\" b='a=1' c={b=2} d=[b=3 b=4]", []),
        (r"a=\"b c=\"x d=1 c=2", ["c"]),
        ("a=b=c b=1", []),
    ],
)
def test_keys_are_found_by_the_grammar_of_ase(header, expected):
    assert keys_twice(header) == expected
