"""Scales of the training set that are none, E0s that no atom has, and what a set spans."""

import json

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.data.sets import load_data
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.scales import implausible_energies, usable
from fp_potential.train.potential.statistics import collect
from fp_potential.train.potential.trained import training_summary

from prepared_sets import CUTOFF, options_of, prepare
from training_data import KEYS, frames, training_file, write_frames


def problem_of(folder, content, *overrides, **model):
    path = training_file(folder, write_frames(folder / "a.xyz", content))
    options = [f"model.{name}={json.dumps(value)}" for name, value in model.items()]
    config = load_config(path, [*overrides, *options])
    return PotentialProblem(config, load_data(config.data))


def without_charges():
    """Boxes of a metal as far as the labels say: no charges, no dipoles, no levels, no field."""
    content = [atoms for atoms in frames() if atoms.pbc.any()]
    content += [atoms.copy() for atoms in content]
    for number, atoms in enumerate(content):
        atoms.positions[:, 0] += 0.001 * number
        atoms.arrays["REF_atomic_multipoles"][:] = 0.0
        atoms.info["split"] = "train"
        del atoms.info["REF_fermi_level"], atoms.info["external_field"]
    return content


KEYS_LEFT = ["data.keys.fermi_level=null", "data.keys.electric_field=null", "data.keys.dipole=null"]
LOSS = {"energy_per_atom": 1.0, "forces": 10.0, "atomic_multipoles": 100.0}


def test_training_set_without_charges_has_norms_of_one_and_says_so(tmp_path):
    """As with field_feature_norms: null; norms of 1e-8 made features of 1e8."""
    losses = [f"train_schedule.{stage}.loss={json.dumps(LOSS)}" for stage in (0, 1)]
    overrides = [*KEYS_LEFT, *losses, "model.use_linear_local_charges=true"]
    (tmp_path / "null").mkdir()
    average = problem_of(tmp_path, without_charges(), *overrides, atom_density_scaling="average")
    null = problem_of(tmp_path / "null", without_charges(), *overrides, field_feature_norms=None)
    assert average.statistics.field_feature_norms == [1.0] * 4 == null.statistics.field_feature_norms
    assert set(average.statistics.density_scaling.values()) == {1.0}
    lines = [line for line in average.introduction() if "is no scale" in line]
    assert len(lines) == 2 and "WARNING: model.atom_density_scaling: average: the RMS multipole of H 0, " in lines[0]
    assert lines[1].startswith(
        "WARNING: model.field_feature_norms: average: the RMS field feature of l = 0 and width 1.5 Å 0, "
    )
    assert not any("is no scale" in line for line in null.introduction())
    stage = average.config.train_schedule[0]
    totals = [float(p.loss(next(p.batches("train")), stage, False).total) for p in (average, null)]
    assert all(np.isfinite(totals)) and totals[0] == pytest.approx(totals[1], rel=1e-12)


def test_atoms_without_neighbours_give_no_divisor(tmp_path):
    atoms = [atoms for atoms in frames() if len(atoms) == 3]
    problem = problem_of(tmp_path, atoms, r_max=0.5)
    assert problem.statistics.avg_num_neighbors == 1.0
    assert any("model.avg_num_neighbors: the mean number of neighbours 0 in" in line for line in problem.introduction())


@pytest.mark.parametrize("scale", [0.0, 1e-8, 9.9e-4, float("nan")])
def test_small_scales_are_one_and_named(scale):
    values, (line,) = usable(["a", "b"], [2.0, scale], "option")
    assert values == [2.0, 1.0] and line.startswith(f"WARNING: option: b {scale:.2g} in the training set is no scale")
    assert usable(["a"], [1.1e-3], "option") == ([1.1e-3], [])


#: total energies of atoms, Hartree: non-relativistic to Ne, Dirac-Fock above (Visscher and Dyall,
#: At. Data Nucl. Data Tables 67, 207 (1997))
ALL_ELECTRONS = {1: -0.5, 2: -2.9037, 8: -75.067, 10: -128.938, 36: -2788.86, 79: -19039.8, 92: -28053.7}
HARTREE = 27.211386


def test_energies_of_atoms_are_plausible_and_the_same_in_a_wrong_unit_are_not():
    energies = {z: HARTREE * energy for z, energy in ALL_ELECTRONS.items()}
    assert implausible_energies(energies, "least_squares", {}) == []
    lines = implausible_energies({z: HARTREE * e for z, e in energies.items()}, "isolated_atoms", {"H": "a.xyz, 3"})
    assert len(lines) == len(energies)
    assert lines[0] == (
        "WARNING: the E0 of H (a.xyz, 3) is -370.23 eV, which no atom has (all electrons together bind 25.1 eV at "
        "most); check the frame and data.units.energy"
    )


def test_spread_of_e0s_that_compositions_hardly_determine(tmp_path):
    """H2O and H2O + a trace of noise in H4O2: E0s of thousands of eV that cancel."""
    content = [atoms for atoms in frames() if not atoms.pbc.any()]
    for atoms in content:
        hydrogen = int(np.sum(atoms.numbers == 1))
        atoms.info["REF_energy"] = 100.0 * hydrogen - 660.0 * (len(atoms) - hydrogen)
    odd = content[0].copy()
    del odd[1]
    odd.info["REF_energy"] = 100.0 - 660.0
    problem = problem_of(tmp_path, [*content, odd])
    (line,) = [line for line in problem.introduction() if "which no atom has" in line]
    assert "the E0 of H is 100 eV" in line and "the compositions of the training set hardly determine it" in line


def test_ranges_are_those_of_the_training_frames(tmp_path):
    content = frames()
    content[1].info["total_charge"] = 1.0
    content[6].info["total_charge"] = 99.0  # a test frame
    problem = problem_of(tmp_path, content, "data.valid_fraction=0")
    used = [atoms for atoms in content if atoms.info["split"] == "train"]
    found = problem.state()["ranges"]
    levels = [atoms.info["REF_fermi_level"] for atoms in used]
    assert found["charge_per_atom"] == [0.0, 1.0 / len(content[1])]
    assert found["fermi_level"] == [min(levels), max(levels)]
    assert found["field"] == pytest.approx(0.05)
    for symbol in ("H", "O", "Na", "Cl"):
        rows = np.concatenate([a.arrays["REF_atomic_multipoles"][a.symbols == symbol] for a in used])
        largest = [np.abs(rows[:, 0]).max(), np.linalg.norm(rows[:, 1:], axis=1).max()]
        assert found["density"][symbol] == pytest.approx(largest, abs=1e-7)
    oxygen = [Atoms.get_all_distances(a, mic=a.pbc.any())[np.ix_(a.symbols == "H", a.symbols == "O")] for a in used]
    assert found["distances"]["H-O"] == pytest.approx(min(d.min() for d in oxygen), abs=1e-7)
    assert "O-H" not in found["distances"]


def test_ranges_without_levels_and_of_prepared_sets(tmp_path):
    content = frames()
    write_frames(tmp_path / "a.xyz", content)
    prepare(options_of(tmp_path / "a.xyz", keys=KEYS), CUTOFF, tmp_path / "set")
    plain, prepared = (load_data(options_of(tmp_path / name, keys=KEYS)) for name in ("a.xyz", "set"))
    expected = collect(plain.train, CUTOFF).training_ranges()
    assert collect(prepared.train, CUTOFF).training_ranges() == expected
    for frame in plain.train:
        frame.labels["fermi_level"] = None
    assert collect(plain.train, CUTOFF).training_ranges().get("fermi_level") is None


def test_checkpoint_and_archive_know_units_and_ranges(tmp_path):
    problem = problem_of(tmp_path, frames(), "data.units.labels.dipole=D")
    state = problem.state()
    assert state["units"] == {"energy": "eV", "length": "Å", "labels": {"dipole": "D"}}
    checkpoint = {"config": problem.config.model_dump(mode="json"), "problem": state, "epoch": 1}
    summary = training_summary(checkpoint, "average")
    assert summary["data"]["units"] == state["units"] and summary["ranges"] == state["ranges"]
    assert json.loads(json.dumps(state["ranges"])) == state["ranges"]
    torch.save(state, tmp_path / "state.pt")
    again = PotentialProblem(problem.config, load_data(problem.config.data), torch.load(tmp_path / "state.pt"))
    assert again.state() == state
    # of a run of an earlier version the units are those of its training file
    del state["units"], state["ranges"]
    summary = training_summary(checkpoint, "average")
    assert summary["data"]["units"]["labels"] == {"dipole": "D"} and summary["ranges"] == {}


def test_units_of_a_prepared_set_are_those_of_its_files(tmp_path):
    content = frames()
    write_frames(tmp_path / "a.xyz", content)
    prepare(options_of(tmp_path / "a.xyz", keys=KEYS, units={"energy": "Ha"}), CUTOFF, tmp_path / "set")
    assert load_data(options_of(tmp_path / "set", keys=KEYS)).units.energy == "Ha"
