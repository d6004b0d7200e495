"""A potential as the start of the training of another one, and last layers fitted to labels."""

import io

import pytest
import torch
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import InitialiseOptions, load_config
from fp_potential.train.potential.initialise.transfer import Source, element_axes, take_potential
from fp_potential.train.potential.problem import VALIDATION_SCF, PotentialProblem
from fp_potential.train.potential.solution import solve
from fp_potential.train.potential.trained import find_checkpoint, load_trained, training_summary
from fp_potential.train.run import train
from fp_potential.train.trainer import checkpoint
from rich.console import Console

from fp_potential.export import export_model
from fp_potential.graph import graph_from_atoms
from fp_potential.model import FixedPointPotential
from fp_potential.options import ModelOptions, ModelStatistics
from structures import UPDATES, water_cluster
from training_data import frames, training_file, write_frames

READOUTS = ["StrictQuadraticFieldEnergyReadout", "OneBodyMLPFieldReadout", "ManyBodyChargesFieldReadout"]


def model_of(elements, **options):
    settings = {"num_channels": 4, "radial_MLP": [8], "readout_channels": 4, "r_max": 4.0, "core_repulsion": 0.0}
    chosen = ModelOptions(**(settings | {"fixedpoint_initial_charge_head_scale": 0.1} | options))
    statistics = ModelStatistics(
        atomic_energies={z: -float(z) for z in elements},
        avg_num_neighbors=9.0,
        field_feature_norms=[9.0, 9.0, 0.6, 0.6],
    )
    return FixedPointPotential(chosen, list(elements), statistics).double(), chosen, statistics


def energy_of(model, atoms):
    graph = graph_from_atoms(atoms, model.elements, model.cutoff, torch.float64)
    out = solve(model, graph, VALIDATION_SCF)
    return out["energy"], out["forces"]


@pytest.mark.parametrize("elements", [[1, 6, 8, 17], [8, 1], [1, 8]], ids=["more", "other order", "same"])
@pytest.mark.parametrize("update", UPDATES)
def test_model_of_other_elements_gives_the_same_energies(update, elements):
    """On structures of the common elements; for every update, and a read-out that has rows of elements."""
    torch.manual_seed(3)
    options = {
        "fixedpoint_update_config": UPDATES[update],
        "field_readout_config": {"type": READOUTS[len(elements) % 3]},
    }
    source, _, known = model_of([1, 8], **options)
    model, chosen, statistics = model_of(elements, **options)
    given = {name: value.detach() for name, value in source.named_parameters()}
    lines = take_potential(model, chosen, statistics, Source("it", given, [1, 8], known, None))
    assert "elements H O (here" in lines[0] and not any("of another shape" in line for line in lines)
    atoms = water_cluster(2)
    for expected, found in zip(energy_of(source, atoms), energy_of(model, atoms), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_axes_of_elements_are_found_whatever_the_numbers():
    """Two elements and two rows of l, so that shapes alone do not say which axis is which."""
    model, options, statistics = model_of([1, 8])
    state = torch.get_rng_state()
    axes = element_axes(model, options, statistics)
    assert torch.equal(torch.get_rng_state(), state)
    assert axes["backbone.embedding"] == [0] and axes["solver.density_map.response.field_weight"] == [1]
    assert axes["solver.density_map.response.output.element_readout"] == [1]
    assert "feature_mixers.0.weight" not in axes


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("data") / "frames.xyz")


@pytest.fixture(scope="module")
def source(tmp_path_factory, data_file):
    """A short run on all elements."""
    folder = tmp_path_factory.mktemp("source")
    config = load_config(training_file(folder, data_file), ["model.core_repulsion=0"])
    train(config, Console(file=io.StringIO()))
    return config


def water_only(folder):
    content = [atoms for atoms in frames() if set(atoms.numbers) == {1, 8}]
    return write_frames(folder / "water.xyz", content)


def shown_by(config):
    screen = io.StringIO()
    train(config, Console(file=screen, width=400))
    return screen.getvalue()


@pytest.mark.parametrize("kind", ["run", "checkpoint", "model"])
def test_fine_tuning_starts_with_the_errors_of_the_source(tmp_path, source, kind):
    """From a run folder, a checkpoint file or an exported model, on fewer elements than the source has."""
    start = source.run_dir
    if kind == "checkpoint":
        start = find_checkpoint(start)
    if kind == "model":
        model, state = load_trained(find_checkpoint(start))
        start = tmp_path / "model.pt"
        export_model(model, start, training=training_summary(state, "average"))
    overrides = [f"training.initialise={{init_from: {start}}}", "data.valid_fraction=0", "model.core_repulsion=0"]
    config = load_config(training_file(tmp_path, water_only(tmp_path)), overrides)
    problem = PotentialProblem(config, load_data(config.data))
    lines = problem.initialise(config.training.initialise, 1)
    assert ("elements H O Na Cl (here H O)" in lines[0] and "average weights" in lines[0]) or kind == "model"
    model, _ = load_trained(find_checkpoint(source.run_dir))
    for atoms in load_data(config.data).test:
        for expected, found in zip(energy_of(model, atoms.atoms), energy_of(problem.module, atoms.atoms), strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_fine_tuning_with_a_frozen_backbone(tmp_path, source, data_file):
    overrides = [
        f"training.initialise={{init_from: {source.run_dir}, weights: last}}",
        "train_schedule.0.freeze=[backbone]",
        "train_schedule.1.freeze=[backbone, local_charges]",
        "train_schedule.1.readout_lr=0.1",
    ]
    config = load_config(training_file(tmp_path, data_file), overrides)
    text = shown_by(config)
    assert "tensors taken" in text and "(4 epochs, last weights)" in text and "frozen: backbone, local_charges" in text
    start = checkpoint.load(find_checkpoint(source.run_dir))
    end = checkpoint.load(find_checkpoint(config.run_dir))
    changed = {name for name, value in end["module"].items() if not torch.equal(value, start["module"][name])}
    groups = PotentialProblem(config, load_data(config.data)).module
    names = dict(groups.named_parameters())
    frozen = {id(p) for p in groups.parameter_groups()["backbone"]}
    assert changed and all(id(names[name]) not in frozen for name in changed)
    assert end["problem"]["statistics"] == start["problem"]["statistics"]


def test_resumed_run_does_not_need_its_source(tmp_path, source, data_file):
    config = load_config(training_file(tmp_path, data_file), [f"training.initialise.init_from={source.run_dir}"])
    shown_by(config)
    moved = config.model_copy(deep=True)
    path = find_checkpoint(config.run_dir)
    state = checkpoint.load(path)
    state["config"]["training"]["initialise"]["init_from"] = moved.training.initialise.init_from = "gone"
    del state["format"]
    checkpoint.save(state, path)
    assert "is finished" in shown_by(moved)


def test_constants_of_a_source(tmp_path, source, data_file):
    """Those of the source, but E0s of elements it lacks, and whatever the training file gives."""
    water = load_config(training_file(tmp_path, water_only(tmp_path)), ["data.valid_fraction=0"])
    train(water, Console(file=io.StringIO()))
    theirs = checkpoint.load(find_checkpoint(water.run_dir))["problem"]["statistics"]
    (tmp_path / "next").mkdir()
    start = f"training.initialise.init_from={water.run_dir}"
    config = load_config(training_file(tmp_path / "next", data_file), [start, "model.avg_num_neighbors=7.5"])
    own = PotentialProblem(config, load_data(config.data)).statistics
    assert own.atomic_energies[1] == theirs["atomic_energies"][1] and own.avg_num_neighbors == 7.5
    assert own.field_feature_norms == theirs["field_feature_norms"]
    # the boxes have six waters, one Na, one Cl: what remains of their energies is shared by the two
    rest = [
        float(frame.labels["energy"]) - 12 * own.atomic_energies[1] - 6 * own.atomic_energies[8]
        for frame in load_data(config.data).train
        if 11 in frame.atoms.numbers
    ]
    assert own.atomic_energies[11] + own.atomic_energies[17] == pytest.approx(sum(rest) / len(rest), rel=1e-6)
    (tmp_path / "third").mkdir()
    unmoved = load_config(
        training_file(tmp_path / "third", data_file), [start, "training.initialise.statistics=training"]
    )
    plain = load_config(training_file(tmp_path / "third", data_file))
    data = load_data(plain.data)
    assert PotentialProblem(unmoved, data).statistics == PotentialProblem(plain, data).statistics


def test_sources_that_cannot_be_used(tmp_path, source, data_file):
    def started(*overrides):
        config = load_config(training_file(tmp_path, data_file), list(overrides))
        problem = PotentialProblem(config, load_data(config.data))
        return problem.initialise(config.training.initialise, 1)

    with pytest.raises(InputError, match="init_from 'nowhere' does not exist; expected a run folder"):
        started("training.initialise.init_from=nowhere")
    other = tmp_path / "other.pt"
    torch.save({"a": 1}, other)
    with pytest.raises(InputError, match="checkpoint format None"):
        started(f"training.initialise.init_from={other}")
    lines = started(f"training.initialise.init_from={source.run_dir}", "model.num_channels=5")
    assert any("not taken, of another shape" in line for line in lines)
    model, _ = load_trained(find_checkpoint(source.run_dir))
    export_model(model, tmp_path / "bare.pt")
    with pytest.raises(InputError, match="the model does not hold its constants"):
        started(f"training.initialise.init_from={tmp_path / 'bare.pt'}")


@pytest.mark.parametrize("method", ["he", "xavier", "random"])
def test_drawn_parameters_are_logged_and_repeatable(tmp_path, data_file, method):
    config = load_config(training_file(tmp_path, data_file), [f"training.initialise.method={method}"])
    first, second = (PotentialProblem(config, load_data(config.data)) for _ in range(2))
    built = [p.detach().clone() for p in first.module.parameters()]
    lines = first.initialise(config.training.initialise, 7)
    second.initialise(config.training.initialise, 8)
    assert "seed 7" in lines[0] and (method == "random" or f"variance of {method.capitalize()}" in lines[0])
    same = [torch.equal(a, b) for a, b in zip(built, first.module.parameters(), strict=True)]
    assert all(same) if method == "random" else not all(same)
    assert not all(
        torch.equal(a, b) for a, b in zip(second.module.parameters(), first.module.parameters(), strict=True)
    )
    second.initialise(config.training.initialise, 7)
    assert all(torch.equal(a, b) for a, b in zip(second.module.parameters(), first.module.parameters(), strict=True))


def direct_errors(problem):
    from fp_potential.train.potential.losses import needs
    from fp_potential.train.potential.metrics import StructureErrors

    stage = problem.config.train_schedule[0]
    errors = StructureErrors()
    for batch in problem.batches("train"):
        output = problem._predict(batch, stage, needs(["energy_per_atom"]), training=False)
        errors.add(output, batch, ["all"] * len(batch.indices))
    return {name: errors.rmse_mae(name)[0] for name in ("charge", "energy")}


@pytest.mark.parametrize("linear", [False, True])
def test_fit_to_the_labels(tmp_path, data_file, linear):
    """The errors of the map at the labels are those that the log announces, and smaller than before."""
    config = load_config(training_file(tmp_path, data_file), [f"model.use_linear_local_charges={linear}"])
    problem = PotentialProblem(config, load_data(config.data))
    before = direct_errors(problem)
    lines = problem.initialise(InitialiseOptions(method="reference"), 1)
    after = direct_errors(problem)
    assert after["charge"] < 0.3 * before["charge"] and after["energy"] < 0.3 * before["energy"]
    announced = [float(part.split("->")[1].split()[0]) for part in lines]
    assert announced[1] == pytest.approx(after["energy"], rel=2e-3)
    # that of charges and dipoles together, three of four components being dipoles
    assert 0.3 * after["charge"] < announced[0] < after["charge"] * 1.2
    # E0s moved with the fit, and a checkpoint would hold them
    assert list(problem.statistics.atomic_energies.values()) == problem.module.atomic_energies


def test_given_e0s_are_not_fitted(tmp_path, data_file):
    given = {"H": -151.0, "O": -153.0, "Na": -227.0, "Cl": -228.0}
    config = load_config(training_file(tmp_path, data_file), [f"statistics.E0s={given}"])
    problem = PotentialProblem(config, load_data(config.data))
    problem.initialise(InitialiseOptions(method="reference"), 1)
    assert problem.module.atomic_energies == [-151.0, -153.0, -227.0, -228.0]


def test_fit_without_weights_changes_nothing_and_says_so(tmp_path):
    content = frames()
    for atoms in content:
        atoms.info["config_weight"] = 0.0
    path = training_file(tmp_path, write_frames(tmp_path / "a.xyz", content))
    config = load_config(path, ["model.field_feature_norms=null", "statistics.E0s={H: -1, O: -2, Na: -3, Cl: -4}"])
    problem = PotentialProblem(config, load_data(config.data))
    before = [parameter.detach().clone() for parameter in problem.module.parameters()]
    assert problem.initialise(InitialiseOptions(method="reference"), 1) == [
        "local charges and dipoles not fitted: no label has a weight",
        "energies not fitted: no label has a weight",
    ]
    assert all(torch.equal(one, other) for one, other in zip(before, problem.module.parameters(), strict=True))


def test_fit_needs_multipoles(tmp_path):
    content = frames()
    del content[0].arrays["REF_atomic_multipoles"]
    mode = "{mode: linearize_solve, scf: {num_scf_steps: 9, mixing_parameter: 0.3}}"
    overrides = [f"train_schedule.0.fixed_point_training_options={mode}", "training.initialise.method=reference"]
    config = load_config(training_file(tmp_path, write_frames(tmp_path / "a.xyz", content)), overrides)
    config.data.valid_fraction = 0.0
    with pytest.raises(InputError, match=r"1 training frames have no atomic multipoles, which initialise.method: ref"):
        PotentialProblem(config, load_data(config.data))


def test_chain_of_workflows_on_a_potential(tmp_path, data_file):
    """Drawn with He's variances, fitted, evaluated, moved, trained; resumed with the fitted E0s."""
    common = {
        "loss": {"energy_per_atom": 1.0, "forces": 1.0, "atomic_multipoles": 10.0},
        "fixed_point_training_options": {"mode": "direct"},
    }
    stages = [
        {"name": "fit", "workflow": "initialise_only", "initialise": {"method": "reference"}} | common,
        {"name": "look", "workflow": "evaluate"} | common,
        {"name": "moves", "workflow": "monte_carlo", "epochs": 2, "monte_carlo": {"move": 1e-3}} | common,
        {"name": "descent", "epochs": 2, "lr": 1e-3, "optimizer": "adamw"} | common,
    ]
    path = training_file(tmp_path, data_file, train_schedule=stages)
    config = load_config(path, ["training.initialise.method=he"])
    text = shown_by(config)
    assert (
        "variance of He" in text and "energies fitted to the labels" in text and "stage 2 'moves': monte_carlo" in text
    )
    state = checkpoint.load(find_checkpoint(config.run_dir))
    assert (
        state["problem"]["statistics"]["atomic_energies"]
        == PotentialProblem(config, load_data(config.data), state["problem"]).statistics.atomic_energies
    )
    model, _ = load_trained(find_checkpoint(config.run_dir))
    assert model.atomic_energies == list(state["problem"]["statistics"]["atomic_energies"].values())
