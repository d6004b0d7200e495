"""Runs with losses of responses, potentials and stability: the log, its counts, and the tables of the result."""

import csv
import io

import numpy as np
import pytest
import torch
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.error_tables import error_table
from fp_potential.train.potential.evaluate import evaluate
from fp_potential.train.potential.modes import density as densities
from fp_potential.train.potential.modes.predict import predict
from fp_potential.train.potential.trained import find_checkpoint, load_trained
from fp_potential.train.run import train
from rich.console import Console

from fp_potential.export import export_model
from fp_potential.graph import graph_from_atoms
from fp_potential.options import SCFOptions
from structures import ELEMENTS, make_model, salt_water_box, water_cluster
from training_data import KEYS, labelled, training_file, write_frames

ALL_KEYS = KEYS | {
    "electrostatic_potentials": "v",
    "polarizability": "alpha",
    "born_charges": "bec",
    "stress": "S",
    "molecules": "molID",
}
PROPERTIES = ("esps", "polarizability", "born_charges")


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    """Frames labelled by another model: everything that it gives."""
    teacher = make_model(seed=5)
    content = []
    for number in range(6):
        atoms = water_cluster(1 + number % 2, seed=number) if number < 4 else salt_water_box(seed=number)[:6]
        kind, split = "box" if number > 3 else "cluster", {2: "valid", 3: "test"}.get(number, "train")
        atoms = labelled(atoms, teacher, kind, split)
        graph = graph_from_atoms(atoms, ELEMENTS, teacher.cutoff, torch.float64)
        scf = SCFOptions(scf_tolerance=1e-10)
        out = predict(teacher, graph, "implicit", scf, None, None, True, True, False, PROPERTIES)
        atoms.arrays["v"] = out["esps"].numpy()
        atoms.arrays["molID"] = np.arange(len(atoms)) // 3
        if not atoms.pbc.any():
            atoms.info["alpha"] = out["polarizability"][0].numpy()
            atoms.arrays["bec"] = out["born_charges"].reshape(-1, 9).numpy()
        else:
            atoms.info["S"] = out["stress"][0].numpy()
        content.append(atoms)
    return write_frames(tmp_path_factory.mktemp("data") / "frames.xyz", content)


def configuration(folder, data_file, keys=ALL_KEYS, dtype="float64"):
    common = {
        "energy_per_atom": 1.0,
        "forces": {"weight": 10.0, "huber": 0.5},
        "field_features": 1.0,
        "esps": 1.0,
        "fixedpoint_scf_stability": {"weight": 1.0, "upper": 0.0, "lower": -1.0},
        "fermi_level_gradient": 1.0,
    }
    solved = common | {
        "polarizability": 1.0,
        "born_charges": 1.0,
        "legendre": 1.0,
        "stress": 1.0,
        "fragment_charges": 1.0,
        "fragment_response": 1.0,
        "molecular_forces": 1.0,
        "cluster_virial_per_atom": 1.0,
    }
    if "polarizability" not in keys:
        solved = common
    loop = {"num_scf_steps": 6, "mixing_parameter": 0.3}
    stages = [
        {
            "name": mode,
            "epochs": 1,
            "lr": 1e-4,
            "loss": loss,
            "fixed_point_training_options": {"mode": mode} | ({} if mode == "direct" else {"scf": loop | scf}),
        }
        for mode, loss, scf in (
            ("direct", common, {}),
            ("unroll_scf", solved | {"final_terms_fixedpoint_scf_stability": 1.0}, {}),
            ("implicit", solved, {"num_scf_steps": 1}),
            ("linearize_solve", solved, {}),
        )
    ]
    training = {"batch_size": 2, "num_threads": 1, "seed": 7, "default_dtype": dtype}
    path = training_file(folder, data_file, train_schedule=stages, training=training)
    return load_config(path, [f"data.keys.{name}={key}" for name, key in keys.items()] + ["data.split.valid=valid"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_file):
    config = configuration(tmp_path_factory.mktemp("run"), data_file)
    table = train(config, Console(file=io.StringIO(), width=200))
    with open(f"{config.run_dir}/log.csv", newline="", encoding="utf-8") as file:
        return config, table, list(csv.DictReader(file))


def test_columns_and_counts(finished) -> None:
    _, table, rows = finished
    assert [row["stage"] for row in rows] == ["direct", "unroll_scf", "implicit", "linearize_solve"]
    for row in rows:
        for column in ("train potentials [mV]", "valid potentials [mV]", "train loss", "valid loss"):
            assert float(row[column]) > 0, column
    for row in rows[1:]:
        assert float(row["train Born charges [me]"]) > 0 and float(row["train polarizability [me·Å²/V/atom]"]) > 0
        assert float(row["valid Born charges [me]"]) > 0 and float(row["valid polarizability [me·Å²/V]"]) > 0
    # one step is too few for every structure of the stage; a linear solve needs no steps
    assert rows[2]["train SCF fallbacks"] == "4"
    assert rows[3]["train SCF fallbacks"] == "0" and rows[3]["train failed solves"] == "0"
    assert rows[0]["train SCF fallbacks"] == "" and float(rows[2]["train SCF converged [%]"]) == 0.0
    for heading in ("potentials [mV]", "polarizability [me·Å²/V]", "Born charges [me]"):
        assert heading in table


def test_evaluation_of_an_archive_has_them_too(finished, tmp_path, data_file) -> None:
    config, table, _ = finished
    model, _ = load_trained(find_checkpoint(config.run_dir))
    export_model(model, tmp_path / "model.pt")
    keys = [f"{name}={key}" for name, key in ALL_KEYS.items()]
    result = evaluate(
        tmp_path / "model.pt", [str(data_file)], {"scf_tolerance": 1e-8}, split="test", given_keys=keys, keep=True
    )
    # the table of the run, which is that of the weights' average, in its own words
    expected = error_table(result.errors).splitlines()
    assert [line.split()[0] for line in expected[3:]] == [line.split()[0] for line in table.splitlines()[3:]]
    pairs = {name: result.errors.rmse_mae(name) for name in PROPERTIES}
    assert all(pairs.values())
    (first,) = result.predictions
    assert first.arrays["FP_born_charges"].shape == (len(first), 9)
    error = first.arrays["FP_electrostatic_potentials"] - first.arrays["v"]
    assert pairs["esps"][0] == pytest.approx(1000 * np.sqrt(np.mean(error**2)), rel=1e-6)
    alpha = first.info["FP_polarizability"] - first.info["alpha"]
    assert pairs["polarizability"][0] == pytest.approx(1000 * np.sqrt(np.mean(alpha**2)), rel=1e-6)


def test_a_run_in_single_precision_without_labels_of_potentials(tmp_path, data_file, monkeypatch) -> None:
    """Potentials and features are then compared with those of the multipoles; large structures have no matrix."""
    monkeypatch.setattr(densities, "DENSE_ATOMS", 4)
    config = configuration(tmp_path, data_file, KEYS, "float32")
    train(config, Console(file=io.StringIO(), width=200))
    with open(f"{config.run_dir}/log.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows[3]["train SCF fallbacks"] == "0" and float(rows[3]["train SCF converged [%]"]) == 100.0
    assert all(float(row["train potentials [mV]"]) > 0 and float(row["valid potentials [mV]"]) > 0 for row in rows)
