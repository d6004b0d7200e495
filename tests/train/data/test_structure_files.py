"""Structures out of files of several formats."""

import bz2
import gzip

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.db import connect
from ase.io import read, write
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.structure_files import expand, structures
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Keys, load_config

from training_data import KEYS, frames, training_file, write_frames


@pytest.fixture(scope="module")
def content():
    return frames()


def with_results(seed):
    rng = np.random.default_rng(seed)
    atoms = Atoms("H2O", rng.normal(size=(3, 3)) + np.arange(9).reshape(3, 3))
    results = {"energy": float(seed), "forces": rng.normal(size=(3, 3)), "dipole": rng.normal(size=3)}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


OWN_NAMES = Keys(energy="energy", forces="forces", dipole="dipole")


def test_globs_lists_and_literal_names(tmp_path):
    for name in ("a.xyz", "sub/b.xyz", "sub/deep/c.xyz", "d[1].xyz"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "e.xyz").mkdir()
    found = expand([f"{tmp_path}/**/*.xyz", f"{tmp_path}/a.xyz", f"{tmp_path}/d[1].xyz"])
    assert [path.removeprefix(f"{tmp_path}/") for path in found] == ["a.xyz", "d[1].xyz", "sub/b.xyz", "sub/deep/c.xyz"]
    with pytest.raises(InputError, match=r"'.*/\*\.db' does not exist \(or no file matches\)"):
        expand([f"{tmp_path}/*.db"])
    assert expand(["postgresql://user@host/base"]) == ["postgresql://user@host/base"]


def test_addresses_of_databases_are_not_paths(tmp_path, content):
    path = training_file(tmp_path, write_frames(tmp_path / "a.xyz", content[:1]))
    config = load_config(path, ["data.files=[mysql://host/base, b.db]"])
    assert config.data.files == ["mysql://host/base", str(tmp_path / "b.db")]


@pytest.mark.parametrize(("suffix", "opener"), [("", open), (".gz", gzip.open), (".bz2", bz2.open)])
def test_extended_xyz_is_what_ase_reads(tmp_path, content, suffix, opener):
    path = tmp_path / f"a.extxyz{suffix}"
    with opener(path, "wt") as file:
        write(file, content, format="extxyz")
    for mine, expected in zip(structures(str(path)), read(path, ":", format="extxyz"), strict=True):
        assert mine == expected and mine.info.keys() == expected.info.keys()
        for name, values in expected.arrays.items():
            np.testing.assert_array_equal(mine.arrays[name], values)


def test_cell_lines_of_extended_xyz(tmp_path):
    lines = ["1", "Properties=species:S:1:pos:R:3", "H 0 0 0", "VEC1 5 0 0", "VEC2 0 6 0", "VEC3 0 0 7"]
    path = tmp_path / "a.xyz"
    path.write_text("\n".join([*lines, *lines]) + "\n")
    assert [atoms.cell.lengths().tolist() for atoms in structures(str(path))] == [[5, 6, 7]] * 2


def test_empty_line_between_frames_is_not_the_end(tmp_path, content):
    path = write_frames(tmp_path / "a.xyz", content[:2])
    text = path.read_text()
    path.write_text(text + "\n\n")
    assert len(list(structures(str(path)))) == 2
    path.write_text(text + "\n" + text)
    with pytest.raises(InputError, match=r"after 2 good frames: .*an empty line where a frame should begin"):
        list(structures(str(path)))


@pytest.mark.parametrize("name", ["a.db", "a.json"])
def test_databases(tmp_path, content, name, monkeypatch):
    """Key-value pairs and data are found by name, in the order of the rows, whatever the number read at a time."""
    monkeypatch.setattr("fp_potential.train.data.structure_files._ROWS", 4)
    with connect(tmp_path / name) as database:
        for atoms in content:
            pairs = {key: value for key, value in atoms.info.items() if np.ndim(value) == 0}
            data = {key: value for key, value in atoms.info.items() if np.ndim(value) > 0}
            data |= {key: atoms.arrays[key] for key in ("REF_forces", "REF_atomic_multipoles")}
            database.write(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc), data=data, **pairs)
        del database[3]
    found = read_frames([str(tmp_path / name)], Keys(**KEYS))
    kept = [atoms for number, atoms in enumerate(content) if number != 2]
    expected = read_frames([str(write_frames(tmp_path / "a.xyz", kept))], Keys(**KEYS))
    assert len(found) == 10 and found[0].source == f"{name}, frame 0" and found[9].kind == "box"
    for one, other in zip(found, expected, strict=True):
        assert one.labels.keys() == other.labels.keys() and one.atoms.info["split"] == other.atoms.info["split"]
        for label, value in other.labels.items():
            if value is not None:
                np.testing.assert_allclose(one.labels[label], value, atol=1e-8)
        np.testing.assert_allclose(one.external_field, other.external_field)


@pytest.mark.parametrize("name", ["a.traj", "a.db", "a.json", "a.xyz"])
def test_results_of_calculators_under_their_own_names(tmp_path, name):
    path = tmp_path / name
    originals = [with_results(seed) for seed in range(3)]
    if name.endswith((".db", ".json")):
        with connect(path) as database:
            for atoms in originals:
                database.write(atoms)
    else:
        write(path, originals)
    for frame, atoms in zip(read_frames([str(path)], OWN_NAMES), originals, strict=True):
        np.testing.assert_allclose(frame.labels["energy"], atoms.calc.results["energy"])
        np.testing.assert_allclose(frame.labels["forces"], atoms.calc.results["forces"], atol=1e-7)
        np.testing.assert_allclose(frame.labels["dipole"], atoms.calc.results["dipole"], atol=1e-7)


def test_file_of_no_known_format_is_named(tmp_path):
    path = tmp_path / "a.dat"
    path.write_text("neither here\nnor there\n")
    with pytest.raises(InputError, match=r"a\.dat: not readable as a format of ASE at its first frame: .*extended XYZ"):
        list(structures(str(path)))
    with connect(tmp_path / "empty.db") as database:
        database.write(Atoms("H"))
        del database[1]
    with pytest.raises(InputError, match=r"empty\.db: holds no frames; expected an ASE database"):
        list(structures(str(tmp_path / "empty.db")))
