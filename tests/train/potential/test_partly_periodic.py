"""Slabs and wires beside boxes and molecules: read, labelled, trained on, prepared, evaluated."""

import csv

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import DataOptions, Keys
from fp_potential.train.potential.evaluate import evaluate, write_predictions
from fp_potential.train.potential.modes.predict import predict
from fp_potential.train.potential.samples import batch_samples, make_samples

from fp_potential.cli.main import main
from fp_potential.export import export_model
from fp_potential.options import SCFOptions
from structures import ELEMENTS, make_model, salt_water, water_cluster
from training_data import training_file

#: what the model that labels the frames writes
KEYS = {
    "energy": "FP_energy",
    "forces": "FP_forces",
    "stress": "FP_stress",
    "dipole": "FP_dipole",
    "fermi_level": "FP_fermi_level",
    "atomic_multipoles": "FP_atomic_multipoles",
    "electrostatic_potentials": "FP_electrostatic_potentials",
    "polarizability": "FP_polarizability",
    "born_charges": "FP_born_charges",
    "total_charge": "total_charge",
    "electric_field": "electric_field",
}
TIGHT = {"scf_tolerance": 1e-10, "num_scf_steps": 200}
LOOP = {"num_scf_steps": 100, "mixing_parameter": 0.3}


def structures() -> list[Atoms]:
    """A box, slabs with and without a vector along the open axis, a wire, molecules; charged, some in a field."""
    slab = salt_water("TTF", seed=3)
    slab.cell[2] = [0.0, 0.0, 20.0]
    slab.info["electric_field"] = np.array([0.0, 0.0, 0.05])
    molecule = water_cluster(2)
    molecule.set_cell(9.0 * np.eye(3))  # its middle is the origin of the field
    molecule.info["electric_field"] = np.array([0.02, 0.0, 0.05])
    out = [salt_water("TTT"), slab, salt_water("FTT", seed=4), salt_water("FFT", seed=5), molecule, water_cluster(1)]
    for number, atoms in enumerate(out):
        kind = "".join("T" if axis else "F" for axis in atoms.pbc)
        atoms.info |= {"total_charge": 0.1 * (number % 3), "split": "train", "kind": kind}
        atoms.info["REF_polarizability"] = np.zeros(9)
        atoms.arrays |= {"REF_potentials": np.zeros(len(atoms)), "REF_born": np.zeros((len(atoms), 9))}
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The model, and the structures with its predictions as labels."""
    path = tmp_path_factory.mktemp("mixed")
    export_model(make_model(seed=5), path / "model.pt")
    write(path / "bare.xyz", structures(), format="extxyz")
    names = {"polarizability": "REF_polarizability", "electrostatic_potentials": "REF_potentials"}
    names |= {"born_charges": "REF_born", "total_charge": "total_charge", "electric_field": "electric_field"}
    keys = [f"{name}={key}" for name, key in names.items()]
    found = evaluate(path / "model.pt", [str(path / "bare.xyz")], TIGHT, given_keys=keys, batch_size=4, keep=True)
    assert not found.errors.not_converged()
    for atoms in found.predictions:
        for name in ("REF_potentials", "REF_born"):
            del atoms.arrays[name]
    write_predictions(path / "labelled.xyz", found.predictions)
    return path


@pytest.fixture(scope="module")
def frames(folder):
    return read_frames([str(folder / "labelled.xyz")], Keys(**KEYS))


def test_labels_of_partly_periodic_frames(folder, frames):
    """`pbc="T T F"` is read as it is; what is not defined along periodic axes has no weight, stress needs a volume."""
    assert 'pbc="T T F"' in (folder / "labelled.xyz").read_text()
    patterns = ["TTT", "TTF", "FTT", "FFT", "FFF", "FFF"]
    assert [frame.kind for frame in frames] == patterns
    assert [frame.weights["stress"] for frame in frames] == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    for frame, pattern in zip(frames, patterns, strict=True):
        # periodic vectors of TTF lie in the xy plane, that of FFT and those of FTT are skewed
        axes = {"TTT": [0, 0, 0], "TTF": [0, 0, 1], "FTT": [0, 0, 0], "FFT": [0, 0, 0], "FFF": [1, 1, 1]}[pattern]
        assert frame.weights["dipole"].tolist() == axes
        if any(axes):
            assert np.isfinite(frame.labels["dipole"]).all() and np.isfinite(frame.labels["polarizability"]).all()
            assert np.array_equal(frame.labels["dipole"] != 0, np.array(axes, bool))


def test_dipoles_are_about_the_origin_of_the_coordinates(frames):
    """Charged, in cells whose middle is elsewhere."""
    for frame in (frames[1], frames[4]):
        density = frame.labels["atomic_multipoles"]
        expected = density[:, 0] @ frame.atoms.positions + density[:, [3, 1, 2]].sum(0)
        axes = frame.weights["dipole"] > 0
        assert abs(frame.total_charge) > 0.05
        assert frame.labels["dipole"][axes] == pytest.approx(expected[axes], abs=1e-6)


def test_nan_with_a_weight_of_its_own_is_an_error(folder, tmp_path):
    text = (folder / "labelled.xyz").read_text().replace("FP_scf_steps", 'config_dipole_weight="1 1 1" FP_scf_steps')
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(InputError, match="frame 1: 'FP_dipole' is not finite"):
        read_frames([str(tmp_path / "a.xyz")], Keys(**KEYS))


def test_evaluation_reproduces_the_labels(folder):
    """Every label of every pattern, charged and in fields, in batches that mix them."""
    keys = [f"{name}={key}" for name, key in KEYS.items()]
    found = evaluate(folder / "model.pt", [str(folder / "labelled.xyz")], TIGHT, given_keys=keys, batch_size=3)
    seen = set()
    for pattern in ("TTT", "TTF", "FTT", "FFT", "FFF"):
        for name in ("energy", "forces", "charge", "esps", "dipole", "polarizability", "stress", "born_charges"):
            pair = found.errors.rmse_mae(name, pattern)
            if pair is not None:
                # in milli-units; the file holds 8 digits
                assert pair[0] < 2e-3, (pattern, name)
                seen.add((pattern, name))
    assert {("TTF", name) for name in ("energy", "stress", "dipole", "polarizability", "esps")} <= seen


@pytest.mark.parametrize("mode", ["linearize_solve", "implicit"])
def test_modes_agree_with_the_model(frames, mode):
    model = make_model(seed=5)
    samples = make_samples(frames, ELEMENTS, model.cutoff, torch.float64)
    batch = batch_samples(samples, range(len(samples)))
    scf = SCFOptions(scf_tolerance=1e-11, num_scf_steps=200)
    wanted = ("esps", "polarizability")
    out = predict(model, batch.graph, mode, scf, None, None, True, True, True, wanted)
    assert not out["fallback"].any()
    labels = batch.labels
    assert torch.allclose(out["energy"], labels.energy, atol=1e-6)
    assert torch.allclose(out["forces"], labels.forces, atol=1e-6)
    assert torch.allclose(out["esps"], labels.potentials, atol=1e-5)
    for name, label in (
        ("stress", labels.stress),
        ("dipole", labels.dipole),
        ("polarizability", labels.polarizability),
    ):
        weight = getattr(labels, f"{name}_weight") > 0
        assert weight.any() and torch.allclose((out[name] * weight), label * weight, atol=1e-6), name


def test_training_on_every_pattern(folder, tmp_path):
    """One epoch in each of two modes, on the files and on the prepared set: the same run."""
    loss = {"energy_per_atom": 1.0, "forces": 10.0, "stress": 10.0, "atomic_multipoles": 100.0, "dipole": 10.0}
    stages = [
        {"name": "direct", "epochs": 1, "lr": 0.01, "loss": loss, "fixed_point_training_options": {"mode": "direct"}},
        {
            "name": "loop",
            "epochs": 1,
            "lr": 0.001,
            "loss": loss | {"polarizability": 1.0, "esps": 1.0},
            "fixed_point_training_options": {"mode": "linearize_solve", "scf": dict(LOOP)},
        },
    ]
    data = {"files": [str(folder / "labelled.xyz")], "keys": dict(KEYS), "valid_fraction": 0.2}
    path = training_file(tmp_path, folder / "labelled.xyz", data=data, train_schedule=stages)
    assert main(["train", str(path)]) == 0
    assert main(["prepare", str(path), "--output", str(tmp_path / "set.fp")]) == 0
    other = ["data.files=[" + str(tmp_path / "set.fp") + "]", "run_dir=" + str(tmp_path / "prepared")]
    assert main(["train", str(path), *other]) == 0
    logs = [list(csv.DictReader((tmp_path / run / "log.csv").read_text().splitlines())) for run in ("run", "prepared")]
    for rows in zip(*logs, strict=True):
        assert rows[0]["train loss"] == rows[1]["train loss"] and rows[0]["valid loss"] == rows[1]["valid loss"]
        assert float(rows[0]["train loss"]) > 0 and float(rows[0]["valid loss"]) > 0


def test_slab_method_takes_any_open_axis(folder, tmp_path):
    found = load_data(DataOptions(files=str(folder / "labelled.xyz"), keys=Keys(**KEYS), valid_fraction=0.0))
    slabs = [frame.atoms for frame in found.train if frame.atoms.pbc.sum() == 2]
    assert sorted(atoms.pbc.tolist() for atoms in slabs) == [[False, True, True], [True, True, False]]
    write(tmp_path / "slabs.xyz", slabs, format="extxyz")
    data = {"files": [str(tmp_path / "slabs.xyz")], "keys": dict(KEYS, born_charges=None)}
    stage = {
        "name": "loop",
        "epochs": 1,
        "lr": 0.01,
        "loss": {"energy_per_atom": 1.0},
        "fixed_point_training_options": {"mode": "linearize_solve", "scf": dict(LOOP)},
    }
    path = training_file(tmp_path, tmp_path / "slabs.xyz", data=data, train_schedule=[stage])
    assert main(["train", str(path), "--dry-run", "--electrostatic_pbc_method", "slab"]) == 0
    assert main(["train", str(path), "--dry-run", "--electrostatic_pbc_method", "pbc"]) == 2
