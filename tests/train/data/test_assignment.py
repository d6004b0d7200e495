"""Frames with a role are found before some are set aside for validation."""

import numpy as np
import pytest
from ase import Atoms
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, load_config
from fp_potential.train.potential.problem import PotentialProblem

from prepared_sets import prepare
from training_data import frames, training_file, write_frames


def alone(symbol, energy, **info):
    """An isolated atom, with the labels of `training_data.frames`."""
    atoms = Atoms(symbol, [[0.0, 0.0, 0.0]])
    atoms.info = {"REF_energy": energy, "total_charge": 0.0, "split": "train", "kind": "atom"} | info
    atoms.arrays["REF_forces"], atoms.arrays["REF_atomic_multipoles"] = np.zeros((1, 3)), np.zeros((1, 4))
    return atoms


ENERGIES = {"H": -13.6, "O": -432.0, "Na": -1280.0, "Cl": -450.0}


def with_atoms():
    return [*frames(), *(alone(symbol, energy) for symbol, energy in ENERGIES.items())]


def options(path, **changes):
    keys = {"energy": "REF_energy", "total_charge": "total_charge", "electric_field": "external_field"}
    return DataOptions(**{"files": [str(path)], "keys": keys, "split": {}, "valid_fraction": 0.5} | changes)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atoms")
    write_frames(folder / "a.xyz", with_atoms())
    prepare(options(folder / "a.xyz", valid_fraction=0), 3.5, folder / "set")
    return folder


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["a.xyz", "set"])
def test_isolated_atoms_stay_in_the_training_set(files, name, seed):
    data = load_data(options(files / name, valid_seed=seed))
    assert sum(len(frame.atoms) == 1 for frame in data.train) == 4 and len(data.valid) == 4


@pytest.mark.parametrize("seed", range(3))
def test_prepared_sets_choose_the_same_frames(files, tmp_path, seed):
    prepare(options(files / "a.xyz", valid_seed=seed), 3.5, tmp_path / "set")
    plain, prepared = load_data(options(files / "a.xyz", valid_seed=seed)), load_data(options(tmp_path / "set"))
    assert [frame.source for frame in prepared.valid] == [frame.source for frame in plain.valid]


@pytest.mark.parametrize("name", ["a.xyz", "set"])
def test_frames_with_an_element_of_their_own_stay_in_the_training_set(tmp_path, name):
    content = [atoms for atoms in frames() if not atoms.pbc.any() and atoms.info["split"] == "train"]
    content[2].symbols[0] = "S"
    write_frames(tmp_path / "a.xyz", content)
    prepare(options(tmp_path / "a.xyz", valid_fraction=0), 3.5, tmp_path / "set")
    for seed in range(6):
        data = load_data(options(tmp_path / name, valid_seed=seed))
        assert len(data.valid) == 3 and all("S" not in frame.atoms.symbols for frame in data.valid)


def test_without_special_frames_the_choice_is_that_of_the_seed(tmp_path):
    content = [atoms for atoms in frames() if not atoms.pbc.any() and atoms.info["split"] == "train"]
    data = load_data(options(write_frames(tmp_path / "a.xyz", content), valid_seed=3))
    chosen = sorted(np.random.default_rng(3).permutation(6)[:3])
    assert [frame.source for frame in data.valid] == [f"a.xyz, frame {number}" for number in chosen]


def test_e0s_are_those_of_isolated_atoms_beside_crystals_of_one_atom(tmp_path):
    content = with_atoms()
    crystal = alone("Na", -1290.0)
    crystal.set_cell([3.6, 3.6, 3.6])
    crystal.pbc = True
    ion = alone("Na", -1300.0, total_charge=1.0)
    path = training_file(tmp_path, write_frames(tmp_path / "a.xyz", [*content, crystal, ion]))
    config = load_config(path, ["statistics.E0s=isolated_atoms", "data.keys.dipole=null", "data.valid_seed=2",
                                *(f"train_schedule.{stage}.loss.dipole_per_atom=0" for stage in (0, 1))])  # fmt: skip
    problem = PotentialProblem(config, load_data(config.data))
    assert problem.statistics.atomic_energies == {1: -13.6, 8: -432.0, 11: -1280.0, 17: -450.0}


def test_isolated_atom_that_the_split_keeps_out_is_named(tmp_path):
    content = with_atoms()
    content[-1].info["split"] = "test"
    path = training_file(tmp_path, write_frames(tmp_path / "a.xyz", content))
    config = load_config(path, ["statistics.E0s=isolated_atoms"])
    with pytest.raises(InputError, match=r"the isolated atom of Cl \(a\.xyz, frame 14\) is in the test set"):
        PotentialProblem(config, load_data(config.data))
