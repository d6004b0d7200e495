"""Options whose effect is on the training: what the data may hold, constants of the model, charges without dipoles."""

import csv

import numpy as np
import pytest
import torch
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.batch import with_charges_only
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.config.loss import Squares
from fp_potential.train.potential.losses import LOSSES
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.statistics import collect
from fp_potential.train.run import train
from rich.console import Console

from training_data import frames, training_file, write_frames


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("data") / "frames.xyz")


def problem_of(folder, data, overrides=()):
    config = load_config(training_file(folder, data), list(overrides))
    return PotentialProblem(config, load_data(config.data))


CLUSTERS, BOXES = frames()[:8], frames()[8:]


@pytest.mark.parametrize(
    ("method", "content", "accepted"),
    [
        ("auto", CLUSTERS + BOXES, True),
        ("mixed_periodic", CLUSTERS + BOXES, True),
        ("pbc", BOXES, True),
        ("pbc", CLUSTERS, False),
        ("realspace", CLUSTERS, True),
        ("realspace", BOXES, False),
        ("molecule_in_box", CLUSTERS, True),
        ("molecule_in_box", CLUSTERS + BOXES, False),
    ],
)
def test_electrostatic_pbc_method_checks_the_data(tmp_path, method, content, accepted):
    """Where it is accepted, the model is that of every other method."""
    data = write_frames(tmp_path / "a.xyz", content)
    keys = "" if any(not atoms.pbc.any() for atoms in content) else "null"
    overrides = [f"electrostatic_pbc_method={method}"]
    if keys:  # boxes have no dipole
        overrides += ["data.keys.dipole=null", *(f"train_schedule.{n}.loss.dipole_per_atom=0" for n in (0, 1))]
    if not accepted:
        with pytest.raises(InputError, match=f"pbc is [TF] [TF] [TF], but model.electrostatic_pbc_method '{method}'"):
            problem_of(tmp_path, data, overrides)
        return
    problem = problem_of(tmp_path, data, overrides)
    other = problem_of(tmp_path, data, [*overrides[1:], "electrostatic_pbc_method=auto"])
    assert problem.statistics == other.statistics


def test_constants_that_are_given_are_used(tmp_path, data_file):
    taken = problem_of(tmp_path, data_file).statistics
    overrides = [
        "avg_num_neighbors=7.5",
        "fermi_level_offset=-3.25",
        "field_feature_norms=[9, 8, 7, 6]",
        "E0s={1: -13.0, 8: -430.0, 11: -5.0, 17: -450.0}",
    ]
    given = problem_of(tmp_path, data_file, overrides).statistics
    assert (given.avg_num_neighbors, given.fermi_level_offset) == (7.5, -3.25)
    assert given.field_feature_norms == [9, 8, 7, 6] and given.atomic_energies[8] == -430.0
    assert taken.avg_num_neighbors != 7.5 and taken.fermi_level_offset != -3.25 and taken.atomic_energies[8] != -430.0


@pytest.mark.parametrize(("l_max", "number"), [(0, 2), (1, 4)])
def test_norms_are_averages_none_or_given(tmp_path, data_file, l_max, number):
    """One per l and width; those of l = 0 do not depend on whether l = 1 is there."""
    l_option = f"field_feature_max_l={l_max}"
    average = problem_of(tmp_path, data_file, [l_option, "field_feature_norms=average"]).statistics
    none = problem_of(tmp_path, data_file, [l_option, "field_feature_norms=None"]).statistics
    assert none.field_feature_norms == [1.0] * number and len(average.field_feature_norms) == number
    full = problem_of(tmp_path, data_file, ["field_feature_norms=average", "kspace_cutoff_factor=2"]).statistics
    assert average.field_feature_norms == pytest.approx(full.field_feature_norms[:number], rel=1e-3)


def test_density_scaling_averages_the_components_that_the_model_has(tmp_path, data_file):
    problem = problem_of(tmp_path, data_file)
    sums = collect(load_data(problem.config.data).train, problem.config.model.r_max)
    samples = problem.samples["train"]
    rows = torch.cat([sample.labels.multipoles for sample in samples])
    species = torch.cat([sample.graph.species for sample in samples])
    for l_max, columns in ((0, 1), (1, 4)):
        found = sums.density_scaling("average", problem.elements, l_max)
        for index, element in enumerate(problem.elements):
            expected = rows[species == index, :columns].square().mean().sqrt().item()
            assert found[element] == pytest.approx(expected, rel=1e-12)
    given = problem_of(
        tmp_path,
        data_file,
        ["use_linear_local_charges=true", "atom_density_scaling=average", "atomic_multipoles_max_l=0"],
    )
    assert given.statistics.density_scaling == pytest.approx(sums.density_scaling("average", problem.elements, 0))


# ---- charges without dipoles -----------------------------------------------------------------------------------------


def test_loss_of_charges_is_a_mean_over_charges(tmp_path, data_file):
    """Reference dipoles have no part in it."""
    batch = next(iter(problem_of(tmp_path, data_file).batches("train")))
    density = torch.randn_like(batch.labels.multipoles)
    density[:, 1:] = 0.0
    loss = LOSSES["atomic_multipoles"]({"density": density}, with_charges_only(batch), Squares())
    expected = (batch.labels.multipoles_weight * (density - batch.labels.multipoles)[:, :1].square()).mean()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)


UPDATES = ["OneBodyVariableUpdate", "ManyBodyUpdate", "SymmetricUpdate", "SplitChargeUpdate"]


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("mode", ["direct", "unroll_scf", "implicit", "linearize_solve"])
def test_modes_train_charges_without_dipoles(tmp_path, data_file, update, mode):
    """Dipoles of the reference act nowhere; every parameter that could learn from charges has a finite gradient."""
    options = {"mode": mode} | ({} if mode == "direct" else {"scf": {"num_scf_steps": 8, "mixing_parameter": 0.3}})
    overrides = [
        "atomic_multipoles_max_l=0",
        f"fixedpoint_update_config={{type: {update}}}",
        f"train_schedule.1.fixed_point_training_options={options}",
    ]
    problem = problem_of(tmp_path, data_file, overrides)
    stage = problem.config.train_schedule[1]
    batch = next(iter(problem.batches("train")))
    losses = []
    for factor in (1.0, 5.0):
        multipoles = batch.labels.multipoles.clone()
        multipoles[:, 1:] *= factor
        changed = batch._replace(labels=batch.labels._replace(multipoles=multipoles))
        losses.append(problem.loss(changed, stage).total)
    assert losses[0].item() == losses[1].item()
    losses[0].backward()
    gradients = {name: p.grad for name, p in problem.module.named_parameters() if p.requires_grad}
    missing = [name for name, gradient in gradients.items() if gradient is None or not gradient.isfinite().all()]
    assert not missing
    assert gradients["density_readouts.0.mlp.weights.2"].abs().max() > 0


def test_a_run_without_dipoles_and_gradients(tmp_path, data_file):
    update = "fixedpoint_update_config={type: SymmetricUpdate}"
    overrides = ["atomic_multipoles_max_l=0", "field_feature_max_l=0", update]
    config = load_config(training_file(tmp_path, data_file), overrides)
    table = train(config, Console(quiet=True))
    assert "atomic dipoles" in table and "converged" in table
    with open(tmp_path / "run" / "log.csv", encoding="utf-8", newline="") as file:
        losses = [float(row["train loss"]) for row in csv.DictReader(file)]
    assert len(losses) == 4 and np.isfinite(losses).all() and losses[1] < losses[0]


# ---- optimiser, batches, split ---------------------------------------------------------------------------------------


def test_weight_decays_are_those_of_their_groups(tmp_path, data_file):
    decays = ["weight_decay=1e-3", "local_charges_weight_decay=2e-3", "field_block_weight_decay=3e-3"]
    problem = problem_of(tmp_path, data_file, decays)
    found = {group["name"]: group["weight_decay"] for group in problem.parameter_groups()}
    assert found["backbone"] == 1e-3 and found["local_charges"] == 2e-3 and found["field_block"] == 3e-3
    heads = {id(p) for p in problem.module.density_readouts.parameters()}
    response = {id(p) for p in problem.module.solver.density_map.response.parameters() if p.requires_grad}
    parts = {group["name"]: {id(p) for p in group["params"]} for group in problem.parameter_groups()}
    assert heads == parts["local_charges"] and response <= parts["field_block"]


@pytest.mark.parametrize(("size", "valid_size"), [(1, 2), (3, 1)])
def test_batch_sizes(tmp_path, data_file, size, valid_size):
    problem = problem_of(
        tmp_path, data_file, [f"batch_size={size}", f"valid_batch_size={valid_size}", "valid_fraction=0.4"]
    )
    for split, limit in (("train", size), ("valid", valid_size)):
        numbers = [len(batch.indices) for batch in problem.batches(split)]
        assert max(numbers) == limit and sum(numbers) == len(problem.samples[split])


def test_seeds(tmp_path):
    """`seed` draws the weights, `valid_set_seed` the validation frames."""
    clusters = write_frames(tmp_path / "clusters.xyz", CLUSTERS)

    def drawn(*overrides):
        problem = problem_of(tmp_path, clusters, overrides)
        energies = [sample.labels.energy.item() for sample in problem.samples["valid"]]
        return problem.module.feature_mixers[0].weight.sum().item(), energies

    first = drawn("seed=3", "valid_set_seed=3")
    assert drawn("seed=3", "valid_set_seed=3") == first
    assert drawn("seed=4", "valid_set_seed=3")[0] != first[0]
    others = [drawn("seed=3", f"valid_set_seed={seed}") for seed in (4, 5, 6)]
    assert all(weight == first[0] for weight, _ in others) and any(valid != first[1] for _, valid in others)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_default_dtype(tmp_path, data_file, dtype):
    problem = problem_of(tmp_path, data_file, [f"default_dtype={dtype}"])
    assert {str(p.dtype) for p in problem.module.parameters()} == {f"torch.{dtype}"}
    assert str(next(iter(problem.batches("train"))).graph.positions.dtype) == f"torch.{dtype}"
