"""Training of the potential: from a file to a table, resumed, exported, and what its losses reach."""

import csv
import io

import pytest
import torch
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import load_config
from fp_potential.train.potential.evaluate import evaluate
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.trained import find_checkpoint, load_trained, training_summary
from fp_potential.train.run import train
from fp_potential.train.trainer import checkpoint
from rich.console import Console

from fp_potential.export import export_model
from fp_potential.options import SCFOptions
from training_data import KEYS, frames, training_file, write_frames


@pytest.fixture(scope="module")
def data_file(tmp_path_factory):
    return write_frames(tmp_path_factory.mktemp("data") / "frames.xyz")


def quiet_train(config, **options):
    screen = io.StringIO()
    table = train(config, Console(file=screen, width=200), **options)
    return table, screen.getvalue()


def rows(config):
    with open(f"{config.run_dir}/log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data_file):
    folder = tmp_path_factory.mktemp("finished")
    config = load_config(training_file(folder, data_file))
    table, screen = quiet_train(config)
    return config, table, screen


def test_run_folder_log_and_table(finished):
    config, table, screen = finished
    log = rows(config)
    assert [row["stage"] for row in log] == ["direct", "direct", "loop", "loop"]
    assert float(log[1]["train loss"]) < float(log[0]["train loss"])
    assert float(log[3]["valid SCF applications"]) > 1 and 0 <= float(log[3]["valid SCF converged [%]"]) <= 100
    assert log[2]["train SCF applications"] == "4" and log[0]["train SCF applications"] == ""
    assert log[0]["SCF forces [meV/Å]"] == "" and float(log[1]["SCF forces [meV/Å]"]) > 0
    assert [line.split()[0] for line in table.splitlines()[3:]] == ["cluster", "box", "all"]
    assert table in screen and "8 training frames have no dipole" not in screen
    again = load_config(f"{config.run_dir}/config.yaml")
    assert again.model_dump() == config.model_dump()


def test_same_command_again_reports_without_training(finished):
    config, table, _ = finished
    again, screen = quiet_train(config)
    assert again == table and "is finished" in screen


def test_resumed_run_gives_the_same_losses(finished, tmp_path, data_file, monkeypatch):
    whole, table, _ = finished
    config = load_config(training_file(tmp_path, data_file))
    steps = 0
    original = PotentialProblem.loss

    def interrupted(self, batch, stage):
        nonlocal steps
        steps += 1
        if steps == 6:  # of two per epoch: in the third
            raise KeyboardInterrupt
        return original(self, batch, stage)

    monkeypatch.setattr(PotentialProblem, "loss", interrupted)
    with pytest.raises(KeyboardInterrupt):
        quiet_train(config)
    monkeypatch.undo()
    found, screen = quiet_train(config)
    assert "continues at epoch 2 of 4" in screen
    for expected, row in zip(rows(whole), rows(config), strict=True):
        del expected["time [s]"], row["time [s]"]
        assert row == expected
    assert found == table


def test_resume_with_another_architecture_is_refused(finished, tmp_path, data_file):
    config, _, _ = finished
    other = load_config(training_file(tmp_path, data_file), [f"run_dir={config.run_dir}", "model.num_channels=5"])
    with pytest.raises(InputError, match=r"model\.num_channels: 4 -> 5"):
        quiet_train(other)


def test_restart_trains_anew(finished, tmp_path, data_file):
    config = load_config(training_file(tmp_path, data_file))
    config.train_schedule = config.train_schedule[:1]
    quiet_train(config)
    config.model.num_channels = 5
    _, screen = quiet_train(config, restart=True)
    assert "continues" not in screen and len(rows(config)) == 2


def test_archive_gives_the_errors_of_the_model(finished, tmp_path, data_file):
    config, _, _ = finished
    model, state = load_trained(find_checkpoint(config.run_dir))
    path = tmp_path / "model.pt"
    loop = SCFOptions(num_scf_steps=5, mixing_parameter=0.1, solver="linear")
    export_model(model, path, training=training_summary(state, "average"))
    result = evaluate(path, [str(data_file)], loop.model_dump(), split="test", keep=True)
    state_problem = checkpoint.load(find_checkpoint(config.run_dir))["problem"]
    problem = PotentialProblem(config, load_data(config.data), state_problem)
    problem.module = model
    expected = problem.solved("test", loop)
    for name in ("energy", "forces", "charge", "atomic_dipole", "dipole", "fermi_level"):
        assert result.errors.rmse_mae(name, "cluster") == pytest.approx(expected.rmse_mae(name, "cluster"), rel=1e-9)
    first = result.predictions[0]
    assert first.info["FP_scf_steps"] == 5 and first.arrays["FP_charges"].sum() == pytest.approx(0, abs=1e-10)
    assert "FP_stress" in result.predictions[-1].info and "FP_dipole" in first.info


def test_average_and_last_weights_differ(finished):
    config, _, _ = finished
    path = find_checkpoint(config.run_dir)
    average, state = load_trained(path)
    last, _ = load_trained(path, averaged=False)
    pairs = list(zip(average.parameters(), last.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in pairs)
    assert all(torch.equal(last.state_dict()[name], state["module"][name]) for name in state["module"])


def test_unknown_checkpoint_names_those_present(finished, tmp_path):
    config, _, _ = finished
    with pytest.raises(InputError, match="has no checkpoint 'stage_9'; present: best, latest, stage_0, stage_1"):
        find_checkpoint(config.run_dir, "stage_9")
    with pytest.raises(InputError, match="is no run folder"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("stage", [0, 1])
def test_every_parameter_receives_a_gradient(tmp_path, data_file, stage):
    config = load_config(training_file(tmp_path, data_file))
    problem = PotentialProblem(config, load_data(config.data))
    problem.loss(next(problem.batches("train")), config.train_schedule[stage]).total.backward()
    without = [name for name, parameter in problem.module.named_parameters() if parameter.grad is None]
    assert not without
    assert all(parameter.grad.isfinite().all() for parameter in problem.module.parameters())


def test_gradient_of_the_loss_agrees_with_differences(tmp_path, data_file):
    config = load_config(training_file(tmp_path, data_file))
    problem = PotentialProblem(config, load_data(config.data))
    batch = next(problem.batches("train"))
    generator = torch.Generator().manual_seed(1)
    for stage in config.train_schedule:
        problem.module.zero_grad()
        problem.loss(batch, stage).total.backward()
        parameters = list(problem.module.parameters())
        direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        slope = sum((p.grad * d).sum().item() for p, d in zip(parameters, direction, strict=True))
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.add_(sign * 1e-6 * d)
            values.append(problem.loss(batch, stage).total.item())
            with torch.no_grad():
                for p, d in zip(parameters, direction, strict=True):
                    p.sub_(sign * 1e-6 * d)
        assert slope == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_training_does_not_depend_on_the_zero_of_the_fermi_level(tmp_path, data_file):
    shifted = frames()
    for atoms in shifted:
        atoms.info["REF_fermi_level"] += 3.0
    other = write_frames(tmp_path / "shifted.xyz", shifted)
    losses = []
    for path in (data_file, other):
        config = load_config(training_file(tmp_path, path))
        problem = PotentialProblem(config, load_data(config.data))
        batch = next(problem.batches("train"))
        losses.append([problem.loss(batch, stage).total.item() for stage in config.train_schedule])
    assert losses[1] == pytest.approx(losses[0], rel=1e-9)


def test_float32_agrees_with_float64(tmp_path, data_file):
    losses = []
    for dtype in ("float64", "float32"):
        config = load_config(training_file(tmp_path, data_file), [f"training.default_dtype={dtype}"])
        problem = PotentialProblem(config, load_data(config.data))
        weights = PotentialProblem(load_config(training_file(tmp_path, data_file)), load_data(config.data)).module
        problem.module.load_state_dict(weights.state_dict())
        batch = next(problem.batches("train", seed=1))
        losses.append([problem.loss(batch, stage).total.item() for stage in config.train_schedule])
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_direct_needs_multipoles_on_every_frame(tmp_path):
    content = frames()
    del content[0].arrays["REF_atomic_multipoles"]
    config = load_config(training_file(tmp_path, write_frames(tmp_path / "a.xyz", content)))
    with pytest.raises(InputError, match=r"train_schedule\.0 \('direct'\): 1 .* frames have no atomic multipoles"):
        PotentialProblem(config, load_data(config.data))


def test_constant_fermi_level_needs_levels(tmp_path, data_file):
    keys = {name: key for name, key in KEYS.items() if name != "fermi_level"}
    scf = "train_schedule.1.fixed_point_training_options.scf.constant_charge=false"
    config = load_config(training_file(tmp_path, data_file), [scf, f"data.keys={keys}", "data.valid_fraction=0"])
    with pytest.raises(InputError, match="8 train frames have no Fermi level"):
        PotentialProblem(config, load_data(config.data))


def test_training_without_validation_test_or_average(tmp_path, data_file):
    overrides = ["data.valid_fraction=0", "training.ema_decay=null", "data.split=null", "training.clip_grad=null"]
    config = load_config(training_file(tmp_path, data_file), [*overrides, "training.group_by_size=true"])
    config.train_schedule = config.train_schedule[:1]
    table, screen = quiet_train(config)
    assert table == "" and "no test set" in screen
    assert checkpoint.load(find_checkpoint(config.run_dir))["average"] is None
    assert load_trained(find_checkpoint(config.run_dir))[1]["epoch"] == 2


def test_unusable_device_is_named(tmp_path, data_file):
    config = load_config(training_file(tmp_path, data_file), ["training.device=nonsense"])
    with pytest.raises(InputError, match=r"training\.device 'nonsense' cannot be used"):
        quiet_train(config)


def test_energies_at_constant_fermi_level_are_compared_with_those_of_the_labels(tmp_path, data_file):
    """Ω = E + μQ has the label E* + μ*Q*: shifting E by −μ*Q of a frame's charge changes the loss as it must."""
    config = load_config(training_file(tmp_path, data_file))
    problem = PotentialProblem(config, load_data(config.data))
    stage = config.train_schedule[1]
    options = stage.fixed_point_training_options
    stage.fixed_point_training_options = options.model_copy(
        update={"scf": options.scf.model_copy(update={"constant_charge": False})}
    )
    batch = problem.batch("train", problem.plan("train")[0])
    charged = batch._replace(graph=batch.graph._replace(total_charge=torch.full_like(batch.graph.total_charge, 0.5)))
    labels = problem._as_labelled(charged, stage.constant_charge).labels
    assert torch.allclose(labels.energy, batch.labels.energy + 0.5 * batch.labels.fermi_level.double())
    assert problem._as_labelled(charged, True).labels.energy is batch.labels.energy
    # the loss of the stage is that of Ω against these labels
    result = problem.loss(charged, stage)
    output = problem._predict(charged, stage, problem._needs(["energy_per_atom"]), training=False)
    expected = ((output["energy"] - labels.energy) / charged.num_atoms).square().mean()
    assert float(result.terms["energy_per_atom"]) == pytest.approx(float(expected), rel=1e-9)
