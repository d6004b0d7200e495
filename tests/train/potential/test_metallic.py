"""Metals in training: what is shown of their softness, and where Fermi levels count."""

import csv
import io

import pytest
import torch
from fp_potential.train.data.read import read_frames
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Keys, load_config
from fp_potential.train.potential.metrics import compared
from fp_potential.train.potential.modes.predict import predict
from fp_potential.train.potential.samples import batch_samples, make_samples
from fp_potential.train.run import train
from rich.console import Console

from metals import KEYS, charged_frames
from structures import ELEMENTS, make_model
from training_data import training_file, write_frames

METAL = "model.fixedpoint_update_config={'type': 'SplitChargeUpdate', 'metallic': ['Na']}"


def samples_of(folder, frames):
    read = read_frames([str(write_frames(folder / "a.xyz", frames))], Keys(**KEYS), demanded=[])
    return make_samples(read, ELEMENTS, 4.0, torch.float64)


def test_levels_count_where_something_conducts(tmp_path) -> None:
    """The same labels, with a model that conducts and with one that does not."""
    samples = samples_of(tmp_path, charged_frames())
    batch = batch_samples(samples, range(len(samples)))
    weights = {}
    for metallic in ("none", ["Na"]):
        model = make_model(fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": metallic}, r_max=4.0)
        known = batch.labels.fermi_level
        out = predict(model, batch.graph, "direct", None, batch.labels.multipoles, known, False, False, False)
        weights[str(metallic)] = compared(out, batch)["fermi_level"].weight
        charge = torch.zeros(len(samples), dtype=torch.float64).index_add(0, batch.graph.batch, out["density"][:, 0])
        # at known levels a metal has a charge of its own, an insulator that of the frame
        missed = (charge - batch.graph.total_charge).abs().max().item()
        assert (missed < 1e-9) == (metallic == "none")
    assert not weights["none"].any() and weights["['Na']"].all()


def test_the_log_shows_the_softness_of_metals(tmp_path) -> None:
    """Its mean over the atoms of the element, in every epoch; an insulator's file with a Fermi level to hold is
    refused."""
    data = write_frames(tmp_path / "data.xyz", charged_frames())
    stage = {
        "name": "only",
        "epochs": 2,
        "lr": 1e-3,
        "loss": {"forces": 1.0, "atomic_multipoles": 1.0, "metallic_softness": 0.1, "fragment_charges": 1.0},
        "fixed_point_training_options": {
            "mode": "linearize_solve",
            "scf": {"num_scf_steps": 50, "mixing_parameter": 0.3},
        },
    }
    content = {"files": [str(data)], "keys": KEYS, "valid_fraction": 0.2}
    config = load_config(training_file(tmp_path, data, data=content, train_schedule=[stage]), [METAL])
    train(config, console=Console(file=io.StringIO()))
    with open(f"{config.run_dir}/log.csv", newline="", encoding="utf-8") as log:
        rows = list(csv.DictReader(log))
    assert all(0.0 < float(row["s Na [e/V]"]) < 0.5 for row in rows)
    assert abs(float(rows[0]["s Na [e/V]"]) - 0.05) < 0.05


def test_an_insulator_has_no_level_to_hold(tmp_path) -> None:
    data = write_frames(tmp_path / "data.xyz", charged_frames())
    options = [f"data.keys.{name}={key}" for name, key in KEYS.items()]
    options += ["model.fixedpoint_update_config={'type': 'SplitChargeUpdate', 'metallic': 'none'}"]
    options += ["train_schedule.1.fixed_point_training_options.scf.constant_charge=false"]
    with pytest.raises(InputError, match=r"metallic: none does not have"):
        load_config(training_file(tmp_path, data), options)
    soft = ["train_schedule.0.loss.metallic_softness=1.0"]
    with pytest.raises(InputError, match=r"metallic_softness.*SplitChargeUpdate"):
        load_config(training_file(tmp_path, data), soft)
