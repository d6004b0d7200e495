"""Metals in training: what is shown of their softness, and where Fermi levels count."""

import csv
import io
import re

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import Keys, load_config
from fp_potential.train.potential.error_tables import error_table
from fp_potential.train.potential.evaluate import evaluate as run_archive
from fp_potential.train.potential.evaluation_tables import write_table
from fp_potential.train.potential.metrics import StructureErrors, compared
from fp_potential.train.potential.modes.predict import predict
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.samples import batch_samples, make_samples
from fp_potential.train.report.convergence import failures
from fp_potential.train.run import train
from rich.console import Console

from fp_potential.export import export_model
from fp_potential.graph import collate
from fp_potential.options import SCFOptions
from fp_potential.scf.status import CONVERGED, NO_FERMI_LEVEL
from metals import KEYS, charged_frames
from structures import ELEMENTS, evaluate, local_state, make_model, to_graph, water_cluster
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


@pytest.mark.parametrize("mode", ["unroll_scf", "implicit", "linearize_solve"])
def test_modes_say_where_there_is_a_level(mode) -> None:
    """A sodium dimer beside water, and water alone: as the model's own solution says, with either held."""
    model = make_model(fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": ["Na"]})
    metal = water_cluster(1) + Atoms("Na2", [[-3.0, 0, 0], [-3.0, 3.0, 0]])
    graph = collate([to_graph(metal, model, fermi_level=-2.1), to_graph(water_cluster(2), model, fermi_level=-2.1)])
    scf = SCFOptions(num_scf_steps=200, scf_tolerance=1e-11, mixing_parameter=0.2)
    found = predict(model, graph, mode, scf, None, None, False, False, False)
    own = evaluate(model, graph)
    assert found["conducts"].tolist() == own["conducts"].tolist() == [True, False]
    assert found["status"].tolist() == [CONVERGED, CONVERGED]
    assert found["fermi_level"][1].item() == own["fermi_level"][1].item() == model.fermi_level_offset
    assert torch.allclose(found["fermi_level"], own["fermi_level"], rtol=0, atol=1e-9)
    held = predict(
        model, graph, mode, scf.model_copy(update={"constant_charge": False}), None, None, False, False, False
    )
    assert held["status"].tolist() == evaluate(model, graph, constant_charge=False)["status"].tolist()
    assert held["status"].tolist() == [CONVERGED, NO_FERMI_LEVEL]


def test_tables_count_frames_without_a_level(tmp_path) -> None:
    """Water beside sodium dimers: on the screen, in the files for programs, in the predictions and in the report."""
    frames = charged_frames(1)
    for level in (-2.0, -3.0):
        water = frames[0][:3]
        water.info |= {"mu": level, "charge": 0.0, "kind": "water"}
        frames.append(water)
    data = write_frames(tmp_path / "a.xyz", frames)
    model = make_model(fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": ["Na"]})
    keys = [f"{name}={key}" for name, key in KEYS.items()]
    export_model(model, tmp_path / "model.pt")
    evaluation = run_archive(tmp_path / "model.pt", [str(data)], given_keys=keys, keep=True)
    errors = evaluation.errors
    assert (errors.no_level(), errors.no_level("a"), errors.no_level("water")) == (2, 0, 2)
    level = torch.cat(errors.sums["fermi_level"])
    assert level[:, 2].tolist() == [1, 1, 1, 0, 0]
    head, _, metal, water, every = error_table(errors).splitlines()[1:]
    column = re.split(" {2,}", head).index("no level [frames]")
    assert [re.split(" {2,}", row)[column] for row in (metal, water, every)] == ["0", "2", "2"]
    levels = [np.isnan(atoms.info["FP_fermi_level"]) for atoms in evaluation.predictions]
    assert levels == [False, False, False, True, True]
    write_table(tmp_path / "table.csv", [evaluation], model.elements)
    with open(tmp_path / "table.csv", newline="", encoding="utf-8") as file:
        assert [row["no_level"] for row in csv.DictReader(file) if row["of"] == "kind"] == ["0", "2", "2"]
    both = StructureErrors()
    both.extend(errors)
    both.extend(errors)
    assert both.no_level() == 4
    at_level = run_archive(tmp_path / "model.pt", [str(data)], {"constant_charge": False}, given_keys=keys)
    assert at_level.errors.no_level() == 0 and failures(at_level).endswith("2 no Fermi level")
    # nothing is said where every level means something
    whole = run_archive(tmp_path / "model.pt", [str(write_frames(tmp_path / "b.xyz", frames[:3]))], given_keys=keys)
    assert "no level" not in error_table(whole.errors)


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
    assert abs(float(rows[0]["s Na [e/V]"]) - 0.05) < 0.02


def test_the_mean_softness_of_an_element_is_over_its_atoms(tmp_path) -> None:
    """Of all batches of an epoch, against the response of the model itself."""
    data = write_frames(tmp_path / "data.xyz", charged_frames())
    overrides = [METAL, "data.valid_fraction=0", "training.batch_size=4", "default_dtype=float64"]
    overrides += [f"data.keys={KEYS}", "data.split=null", "train_schedule.0.loss={forces: 1.0}"]
    overrides += ["train_schedule.1.loss={forces: 1.0, metallic_softness: 3.0}"]
    config = load_config(training_file(tmp_path, data), overrides)
    problem = PotentialProblem(config, load_data(config.data))
    problem.initialise(config.training.initialise, 1)
    with torch.no_grad():  # every atom has its own
        problem.module.solver.density_map.response.metallic_weight.normal_()
    sums, expected, penalty = {}, [], []
    for batch in problem.batches("train"):
        result = problem.loss(batch, config.train_schedule[1])
        for name, value in result.counts.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        graph = batch.graph
        i, j = graph.edge_index
        local = problem.module.local(graph, graph.positions[j] + graph.edge_shifts - graph.positions[i])
        receiver = problem.module.solver.density_map.first_used
        softness = -local.response.matrix[:, 0, receiver, 0].detach()
        expected.append(softness[graph.species == problem.elements.index(11)])
        penalty.append((result.terms["metallic_softness"].item(), softness.mean().item()))
    column = problem.summarise({name: value / 6 for name, value in sums.items()})["s Na [e/V]"]
    assert torch.cat(expected).std() > 1e-6 and len(torch.cat(expected)) == 12
    assert column == pytest.approx(torch.cat(expected).mean().item(), rel=1e-12)
    for found, mean in penalty:
        assert found == pytest.approx(mean, rel=1e-12)


def test_an_insulator_has_no_level_to_hold(tmp_path) -> None:
    data = write_frames(tmp_path / "data.xyz", charged_frames())
    options = [f"data.keys.{name}={key}" for name, key in KEYS.items()]
    options += ["model.fixedpoint_update_config={'type': 'SplitChargeUpdate', 'metallic': 'none'}"]
    options += ["train_schedule.1.fixed_point_training_options.scf.constant_charge=false"]
    with pytest.raises(InputError, match=r"metallic: none does not have"):
        load_config(training_file(tmp_path, data), options)
    for name in ("fermi_level", "metallic_softness", "legendre"):
        zero = [*options[:-1], f"train_schedule.1.loss.{name}=1.0"]
        with pytest.raises(InputError, match=rf"loss\.{name} is zero where nothing conducts.*metallic: none"):
            load_config(training_file(tmp_path, data), zero)
    soft = ["train_schedule.0.loss.metallic_softness=1.0"]
    with pytest.raises(InputError, match=r"metallic_softness.*SplitChargeUpdate"):
        load_config(training_file(tmp_path, data), soft)


def test_the_softness_of_dipoles_is_that_of_the_whole_response() -> None:
    """A third of the traces of the diagonal blocks of -dF/du, bonds included, column by column."""
    model = make_model(3, fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": ["Na"]})
    atoms = water_cluster(2, 1)
    graph = to_graph(atoms, model)
    scf = SCFOptions()
    output = predict(model, graph, "implicit", scf, None, None, False, False, False, {"dipole_softness"})
    state = local_state(model, atoms).response
    update = model.solver.density_map.response
    n = graph.batch.shape[0]
    expected = torch.zeros(n, dtype=torch.float64)
    for atom in range(n):
        for component in (1, 2, 3):
            u = torch.zeros(n, update.n_widths, 4, dtype=torch.float64)
            u[atom, update.receiver, component] = 1.0
            expected[atom] -= update.slope(state, u, False)[atom, component].detach() / 3
    assert expected.min() > 0 and (expected - output["dipole_softness"].detach()).abs().max() < 1e-14
