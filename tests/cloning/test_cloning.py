"""Cloning: the known model is its own best clone, and the command runs from structures to report."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import read, write
from fp_potential.train.data.sets import load_data
from fp_potential.train.potential.samples import make_samples
from rich.console import Console

from fp_potential.cli.main import main
from fp_potential.cloning import CloningOptions, clone, compare, run
from fp_potential.cloning.structures import random_structures, read_structures, waters, wet_copper, write_structures
from fp_potential.reference import jacobian

TINY = {"train_frames": 6, "test_frames": 3, "seeds": [3], "density_epochs": 3, "force_epochs": 1}


def samples_of(known, path: Path, config) -> list:
    frames = run.test_frames(config, known)
    return make_samples(frames, known.elements, known.cutoff, torch.float64)


@pytest.mark.parametrize("teacher", ["charges", "both", "split_charges", "mixture"])
def test_the_known_model_is_its_own_clone(teacher: str, tmp_path: Path) -> None:
    """No error point by point or self-consistently, and the eigenvalues of its exact Jacobian."""
    options = CloningOptions(teacher=teacher, train_frames=2, test_frames=4)
    path = tmp_path / "structures.extxyz"
    known = write_structures(options, path)
    config = run.training_config(options, path, {}, 0, tmp_path / "run")
    samples = samples_of(known, path, config)
    found = compare(known, samples)
    for errors in (found.pointwise, found.self_consistent):
        # energies and forces are written with 8 digits, densities too
        assert max(errors.charge, errors.largest_charge, errors.atomic_dipole, errors.energy, errors.forces) < 1e-6
    assert np.isnan(found.fermi_level) if teacher == "split_charges" else found.fermi_level < 1e-6
    assert found.converged == 1.0
    assert 3 < found.applications <= found.most_applications < 40
    exact = torch.cat([torch.linalg.eigvals(jacobian(known, sample.graph)).real for sample in samples])
    assert found.smallest_eigenvalue == pytest.approx(exact.min().item(), rel=1e-2)
    assert found.largest_eigenvalue == pytest.approx(exact.max().item(), rel=1e-2, abs=1e-3)


def test_clones_and_their_report(tmp_path: Path) -> None:
    names = ["unconstrained", "split_charges", "insulator"]
    options = CloningOptions(**TINY, clones=names, overrides=["model.num_channels=4"], run_dir=str(tmp_path / "clone"))
    rows = clone(options, Console(quiet=True))
    assert [(row.model, row.seed) for row in rows] == [("known model", None), *((name, 3) for name in names)]
    for row in rows[1:]:
        assert 1e-3 < row.comparison.pointwise.charge < 3
        assert np.isfinite(row.comparison.self_consistent.charge)
        assert row.comparison.smallest_eigenvalue < row.comparison.largest_eigenvalue
        assert row.seconds > 0
    folder = tmp_path / "clone"
    assert len(read(folder / "structures.extxyz", ":")) == 9
    lines = (folder / "table.txt").read_text().splitlines()
    assert len(lines) == 6 and "SCF charge [me]" in lines[0]
    report = json.loads((folder / "cloning.json").read_text())
    assert report["options"]["seeds"] == [3]
    with open(folder / "cloning.csv", newline="") as file:
        columns = list(csv.DictReader(file))
    assert [row["model"] for row in columns] == [row["model"] for row in report["rows"]]
    assert float(columns[1]["self_consistent_charge"]) == report["rows"][1]["self_consistent_charge"]
    again = clone(options, Console(quiet=True))
    assert repr(again) == repr(rows)  # NaN is not equal to itself


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Given structures, with the labels of others and an isolated ion among them."""
    structures = [atoms for atoms in random_structures(8, 5)] + [Atoms("Na", info={"total_charge": 1.0})] * 2
    write(tmp_path / "given.extxyz", structures, format="extxyz")
    words = [
        "clone",
        "--clones",
        "symmetric",
        "--run",
        str(tmp_path / "clone"),
        "--structures",
        str(tmp_path / "given.extxyz"),
    ]
    words += ["--train_frames", "7", "--test_frames", "3", "--seeds", "0", "--density_epochs", "1"]
    assert main([*words, "--force_epochs", "0", "--teacher", "both", "model.num_channels=4"]) == 0
    assert "symmetric" in capsys.readouterr().out
    written = read(tmp_path / "clone" / "structures.extxyz", ":")
    assert sorted(len(atoms) for atoms in written)[:2] == [1, 1]
    assert main([*words, "--test_frames", "9"]) == 2
    assert "10 structures, 16 are needed" in capsys.readouterr().err
    assert main([*words, "model.chanels=4"]) == 2
    assert "did you mean" in capsys.readouterr().err


@pytest.mark.parametrize(("teacher", "expected"), [("mixture", ["Cu"]), ("split_charges", ["H", "O"])])
def test_what_may_conduct_in_a_clone(teacher: str, expected: list[str], tmp_path: Path) -> None:
    """What takes added charge; everything where no charge is added."""
    options = CloningOptions(teacher=teacher, train_frames=16, test_frames=1)
    write_structures(options, tmp_path / "structures.extxyz")
    config = run.training_config(options, tmp_path / "structures.extxyz", {}, 0, tmp_path / "run")
    conducting = run.may_conduct(load_data(config.data).train)
    assert conducting == expected
    assert run.architecture("split_charges", conducting)["fixedpoint_update_config"]["metallic"] == expected
    assert run.architecture("insulator", conducting)["fixedpoint_update_config"]["metallic"] == "none"


def test_structures_with_other_elements_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "iron.extxyz", [Atoms("Fe2", [[0, 0, 0], [0, 0, 2.2]])] * 3, format="extxyz")
    options = CloningOptions(structures=[str(tmp_path / "iron.extxyz")], train_frames=2, test_frames=1)
    with pytest.raises(ValueError, match="no built-in parameters for"):
        clone(options, Console(quiet=True))


@pytest.mark.parametrize("make", [random_structures, waters, wet_copper])
def test_random_structures(make) -> None:
    """The same for the same seed, with room between the atoms, periodic and open."""
    structures = make(6, 1)
    again = make(6, 1)
    for index, atoms in enumerate(structures):
        assert np.array_equal(atoms.positions, again[index].positions)
        distances = atoms.get_all_distances(mic=True)
        assert distances[distances > 0].min() > (1.2 if make is random_structures else 0.8)
        assert atoms.pbc.all() == (index % 2 == 0)
        assert ("external_field" in atoms.info) == (index % 2 == 1)


def test_given_structures_keep_charge_and_field_only(tmp_path: Path) -> None:
    atoms = random_structures(2, 1)[1]
    atoms.info |= {"total_charge": 1.0, "REF_energy": 3.0}
    atoms.arrays["REF_forces"] = np.zeros((len(atoms), 3))
    write(tmp_path / "given.extxyz", atoms, format="extxyz")
    (found,) = read_structures([str(tmp_path / "given.extxyz")], 1)
    assert set(found.info) == {"total_charge", "external_field"}
    assert set(found.arrays) == {"numbers", "positions"}


@pytest.mark.slow
def test_a_constrained_clone_is_right_self_consistently(tmp_path: Path) -> None:
    """Charges trained point by point are those of the known model after iteration, to a few 1e-3 e in a short run."""
    sizes = {"seeds": [0], "density_epochs": 50, "force_epochs": 0}
    options = CloningOptions(clones=["constrained"], run_dir=str(tmp_path / "clone"), **sizes)
    known, found = (row.comparison for row in clone(options, Console(quiet=True)))
    assert found.self_consistent.charge < 4e-3
    assert found.converged == 1.0
    assert found.most_applications <= known.most_applications + 3
    assert found.largest_eigenvalue == pytest.approx(known.largest_eigenvalue, abs=0.05)
