"""The parts of a batch of structures add up to it: losses, terms, gradients, parameters, errors and tables."""

import csv
import io

import numpy as np
import pytest
import torch
from fp_potential.train.data.sets import load_data
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.config.loss import unavailable
from fp_potential.train.potential.losses import LOSSES
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.trained import find_checkpoint
from fp_potential.train.run import train
from fp_potential.train.trainer import checkpoint
from rich.console import Console

from training_data import frames, training_file, write_frames

MODES = {
    "direct": {"mode": "direct"},
    "unroll_scf": {"mode": "unroll_scf", "scf": {"num_scf_steps": 4, "mixing_parameter": 0.3}},
    "linearize_solve": {"mode": "linearize_solve", "scf": {"num_scf_steps": 100, "mixing_parameter": 0.3}},
    "implicit": {
        "mode": "implicit",
        "scf": {"num_scf_steps": 100, "mixing_parameter": 0.3, "scf_tolerance": 1e-13},
    },
}


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    content = frames()
    del content[1].arrays["REF_forces"], content[3].info["REF_fermi_level"], content[4].info["REF_energy"]
    for number, atoms in enumerate(atoms for atoms in content if atoms.pbc.all()):
        atoms.info["REF_stress"] = (0.01 * (number + 1) * np.eye(3)).reshape(-1)
    rng = np.random.default_rng(5)
    for atoms in content:
        atoms.info["REF_polarizability"] = rng.normal(size=9)
        atoms.arrays["REF_born_charges"] = rng.normal(size=(len(atoms), 9))
        atoms.arrays["REF_potentials"] = rng.normal(size=len(atoms))
        atoms.arrays["molID"] = np.arange(len(atoms)) // 3
    return write_frames(tmp_path_factory.mktemp("data") / "frames.xyz", content)


@pytest.fixture(scope="module")
def problem(tmp_path_factory, data_file):
    keys = {
        "stress": "REF_stress",
        "polarizability": "REF_polarizability",
        "born_charges": "REF_born_charges",
        "electrostatic_potentials": "REF_potentials",
        "molecules": "molID",
    }
    options = [f"data.keys.{name}={key}" for name, key in keys.items()]
    config = load_config(training_file(tmp_path_factory.mktemp("parts"), data_file), options)
    return PotentialProblem(config, load_data(config.data))


def stage_with(problem, weights, mode):
    stage = problem.config.train_schedule[0]
    return stage.model_validate(
        stage.model_dump(exclude_none=True) | {"loss": weights, "fixed_point_training_options": MODES[mode]}
    )


def test_parts_hold_every_structure_once_and_differ_in_size(problem):
    content = problem.plan("train")[0]
    parts = [problem.batch("train", content, part, 2) for part in range(2)]
    assert sorted(index for part in parts for index in part.indices) == sorted(content)
    assert len({len(part.num_atoms) for part in parts} | {int(part.num_atoms.sum()) for part in parts}) > 2
    assert problem.batch("train", content, 5, 6) is None and problem.batch("train", content, 0, 6) is not None


TERMS = [
    (name, mode)
    for name in LOSSES
    for mode in MODES
    if unavailable(name, mode, constant_charge=True, update="OneBodyVariableUpdate") is None
]


@pytest.mark.parametrize(("name", "mode"), TERMS)
def test_loss_and_gradient_of_the_parts_add_up(problem, name, mode):
    """Every term, in parts that differ in numbers of structures and of atoms."""
    stage = stage_with(problem, {name: 1.0}, mode)
    bias = problem.module.solver.density_map.response.scalars.skip_bias
    kept = bias.detach().clone()
    if name == "fermi_level_gradient":  # one element answers with the wrong sign
        with torch.no_grad():
            bias[0, 0] *= -0.3
    # the estimated ends of the spectrum, in the tail of softplus, amplify rounding
    precision = 1e-10 if name != "fixedpoint_scf_stability" else 1e-6
    content = problem.plan("train", seed=2)[0] + problem.plan("train", seed=2)[1]  # boxes and clusters
    results = []
    for number in (1, 4):
        problem.module.zero_grad()
        parts = [problem.batch("train", content, part, number) for part in range(number)]
        found = [problem.loss(part, stage) for part in parts]
        sum(result.total for result in found).backward()
        gradients = [p.grad.clone() for p in problem.module.parameters() if p.grad is not None]
        terms = {term: sum(float(result.terms[term]) for result in found) for term in found[0].terms}
        results.append((terms, gradients))
    with torch.no_grad():
        bias.copy_(kept)
    (whole, expected), (summed, gradients) = results
    assert whole[name] > 0 and summed == pytest.approx(whole, rel=precision, abs=1e-20)
    largest = max(float(gradient.abs().max()) for gradient in expected)
    for a, b in zip(expected, gradients, strict=True):
        torch.testing.assert_close(b, a, rtol=100 * precision, atol=10 * precision * largest + 1e-20)


@pytest.mark.parametrize("mode", MODES)
def test_loss_without_derivatives_is_the_same(problem, mode):
    stage = stage_with(problem, {"energy_per_atom": 1.0, "forces": 1.0, "atomic_multipoles": 1.0}, mode)
    batch = problem.batch("train", problem.plan("train")[0])
    exact = problem.loss(batch, stage)
    value = problem.loss(batch, stage, differentiable=False)
    assert not value.total.requires_grad
    assert float(value.total) == pytest.approx(exact.total.item(), rel=1e-9)


@pytest.mark.parametrize("mode", MODES)
def test_frozen_backbone(problem, mode):
    """The gradients of the other groups are those of the whole model."""
    stage = stage_with(problem, {"energy_per_atom": 1.0, "forces": 1.0, "atomic_multipoles": 1.0}, mode)
    batch = problem.batch("train", problem.plan("train")[0])
    groups = problem.module.parameter_groups()
    rest = [p for name, parameters in groups.items() if name != "backbone" for p in parameters]
    problem.module.zero_grad()
    problem.loss(batch, stage).total.backward()
    expected = [p.grad.clone() for p in rest]
    problem.module.zero_grad()
    try:
        for parameter in groups["backbone"]:
            parameter.requires_grad_(False)
            parameter.grad = None
        problem.loss(batch, stage).total.backward()
    finally:
        for parameter in groups["backbone"]:
            parameter.requires_grad_(True)
    assert all(parameter.grad is None for parameter in groups["backbone"])
    for parameter, gradient in zip(rest, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)


def test_run_with_workers_is_that_of_one_process(tmp_path, data_file):
    """Losses of all epochs to 1e-10, tables alike; batches filled by atoms."""
    ends, logs, tables = [], [], []
    for workers in (1, 2):
        folder = tmp_path / str(workers)
        folder.mkdir()
        options = [f"training.workers={workers}", "training.max_atoms_per_batch=25"]
        config = load_config(training_file(folder, data_file), options)
        tables.append(train(config, Console(file=io.StringIO())))
        with open(f"{config.run_dir}/log.csv", newline="", encoding="utf-8") as file:
            logs.append(list(csv.DictReader(file)))
        ends.append(checkpoint.load(find_checkpoint(config.run_dir)))
    for one, two in zip(*logs, strict=True):
        assert float(two["train loss"]) == pytest.approx(float(one["train loss"]), rel=1e-9)
        assert float(two["valid loss"]) == pytest.approx(float(one["valid loss"]), rel=1e-9)
    assert tables[0] == tables[1] and ends[0]["best"]["loss"] == pytest.approx(ends[1]["best"]["loss"], rel=1e-10)
    for name, value in ends[0]["module"].items():
        torch.testing.assert_close(ends[1]["module"][name], value, rtol=1e-8, atol=1e-10)
