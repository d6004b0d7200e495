"""The trainer on a problem of its own: stages, resume, averages, early stop, log."""

import math

import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint
from fp_potential.train.trainer.weight_average import WeightAverage, applied

from line_problem import Line, line_config, line_trainer, log_rows, same_state, shown


@pytest.fixture
def config():
    return line_config()


def test_trains_logs_and_reports(config, tmp_path):
    problem = Line()
    table = line_trainer(problem, config, tmp_path).run()
    log = log_rows(tmp_path)
    assert [row["epoch"] for row in log] == [str(n) for n in range(7)]
    assert [row["stage"] for row in log] == ["first"] * 4 + ["second"] * 3
    assert float(log[-1]["valid loss"]) < 0.5 * float(log[0]["valid loss"])
    assert set(log[0]) == {"epoch", "stage", "lr", "train loss", "train error [mm]", "valid loss"}
    assert (tmp_path / "test_table.txt").read_text() == table + "\n"
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "latest.pt", "stage_0.pt", "stage_1.pt"]


def test_finished_run_only_reports(config, tmp_path):
    first = line_trainer(Line(), config, tmp_path).run()
    state = checkpoint.load(tmp_path / "checkpoints" / checkpoint.LATEST)
    problem = Line()
    problem.stop_after = 0
    assert line_trainer(problem, config, tmp_path, state).run() == first
    assert len(log_rows(tmp_path)) == 7


def test_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    problem = Line()
    problem.spoil = True
    with pytest.raises(InputError, match=r"loss is nan in epoch 0, step 0 of stage 0 \('first'\); lower its lr"):
        line_trainer(problem, config, tmp_path).run()


def test_parameters_outside_of_all_groups_are_refused(config, tmp_path):
    problem = Line()
    problem.parameter_groups = lambda: [{"name": "a", "params": [problem.module.weight], "weight_decay": 0.0}]
    with pytest.raises(RuntimeError, match="left out: \\['bias'\\]"):
        line_trainer(problem, config, tmp_path)


def test_weight_average_follows_its_formula():
    parameter = torch.nn.Parameter(torch.tensor([1.0]))
    average = WeightAverage([parameter], 0.5)
    expected = 1.0
    for step in range(5):
        with torch.no_grad():
            parameter.fill_(float(step))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with applied([parameter], average.values):
        assert parameter.item() == pytest.approx(expected)
    assert parameter.item() == 4.0
    average.reset()
    assert average.values[0].item() == 4.0 and average.steps == 0


def test_gradient_that_is_not_finite_stops_the_run_before_the_step(config, tmp_path):
    problem = Line()
    exact = problem.loss

    def with_infinite_slope(batch, stage, differentiable=True):
        result = exact(batch, stage, differentiable)
        # finite here, but its derivative is that of a square root at zero
        return result._replace(total=result.total + (problem.module.weight - problem.module.weight).sqrt().sum())

    problem.loss = with_infinite_slope
    trainer = line_trainer(problem, config, tmp_path)
    before = [parameter.detach().clone() for parameter in problem.module.parameters()]
    with pytest.raises(InputError, match="the norm of the gradient is nan in epoch 0, step 0"):
        trainer.run()
    assert same_state(before, [parameter.detach() for parameter in problem.module.parameters()])


def test_early_stop_goes_on_with_the_next_stage(tmp_path):
    config = line_config({"epochs": 10, "patience": 3}, {"epochs": 2})
    problem = Line()
    problem.valid_losses = [5.0, 3.0, 4.0, 4.0, 4.0, 2.0, 1.0, 0.5]
    trainer = line_trainer(problem, config, tmp_path)
    trainer.run()
    assert [row["epoch"] for row in log_rows(tmp_path)] == ["0", "1", "2", "3", "4", "10", "11"]
    assert "early stop of stage 0 'stage0' after 5 epochs: the smallest validation loss was that of epoch 1" in shown(
        trainer
    )
    assert (tmp_path / "checkpoints" / "stage_0.pt").is_file()


def test_best_checkpoint_is_the_smallest_loss_that_is_a_number(tmp_path):
    problem = Line()
    problem.valid_losses = [math.nan, 3.0, math.inf, 2.0, math.nan, 0.0]
    line_trainer(problem, line_config({"epochs": 5}), tmp_path).run()
    best = checkpoint.load(tmp_path / "checkpoints" / checkpoint.BEST)
    assert (best["epoch"], best["best"]) == (4, {"stage": 0, "loss": 2.0})


def test_early_stop_counts_epochs_between_validations(tmp_path):
    config = line_config({"epochs": 20, "patience": 3}, eval_every=2)
    problem = Line()
    problem.valid_losses = [5.0, 6.0, 6.0, 1.0]
    line_trainer(problem, config, tmp_path).run()
    assert len(log_rows(tmp_path)) == 6


def test_learning_rate_falls_on_a_plateau(tmp_path):
    stage = {"epochs": 9, "lr": 0.1, "lr_final": 0.03, "lr_decay": "plateau", "plateau_patience": 2}
    problem = Line()
    problem.valid_losses = [5.0, 6.0, 6.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 0.0]
    line_trainer(problem, line_config(stage), tmp_path).run()
    rates = [float(row["lr"]) for row in log_rows(tmp_path)]
    assert rates == pytest.approx([0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.03, 0.03, 0.03])


def test_warm_up(tmp_path):
    line_trainer(Line(), line_config({"epochs": 3, "lr": 0.1, "warmup_epochs": 1.5}), tmp_path).run()
    # logged is the last of the four steps of an epoch
    assert [float(row["lr"]) for row in log_rows(tmp_path)] == pytest.approx([0.1 / 1.5, 0.1, 0.1])


def test_frozen_groups_do_not_change(tmp_path):
    config = line_config({"epochs": 2, "freeze": ["constant"]}, {"epochs": 2, "freeze": ["slope"]})
    problem = Line()
    trainer = line_trainer(problem, config, tmp_path)
    slope, constant = problem.module.weight.item(), problem.module.bias.item()
    trainer.run()
    folder = tmp_path / "checkpoints"
    first, second = (checkpoint.load(folder / f"stage_{number}.pt")["module"] for number in (0, 1))
    assert first["bias"].item() == constant and first["weight"].item() != slope
    assert torch.equal(second["weight"], first["weight"]) and second["bias"].item() != constant
    assert all(parameter.requires_grad for parameter in problem.module.parameters())


@pytest.mark.parametrize("optimizer", ["lbfgs", "schedulefree", "sgd"])
def test_group_that_is_frozen_later_does_not_move_by_what_was_before(tmp_path, optimizer):
    """Neither by momentum nor by the curvature of the stage before."""
    stages = [{"epochs": 1, "lr": 0.1}, {"epochs": 2, "lr": 0.1, "freeze": ["slope"], "reset_optimizer": False}]
    config = line_config(*stages, optimizer=optimizer, ema_decay=None, momentum=0.9, lbfgs_iterations=1)
    line_trainer(Line(), config, tmp_path).run()
    first, second = (checkpoint.load(tmp_path / "checkpoints" / f"stage_{n}.pt") for n in (0, 1))
    assert torch.equal(first["module"]["weight"], second["module"]["weight"])
    assert not torch.equal(first["module"]["bias"], second["module"]["bias"])


def test_groups_have_their_own_learning_rates(tmp_path):
    stage = {"epochs": 1, "lr": 0.1, "lr_final": 0.01, "constant_lr": 0.02}
    trainer = line_trainer(Line(), line_config(stage, optimizer="sgd"), tmp_path)
    trainer.run()
    rates = {group["name"]: group["lr"] for group in trainer.optimizer.param_groups}
    last = 0.1 * 0.1**0.75
    assert rates == pytest.approx({"slope": last, "constant": 0.2 * last})


@pytest.mark.parametrize(
    ("stage", "training", "expected"),
    [
        ({"freeze": ["slopes"]}, {}, "freeze names 'slopes', no group that it may; did you mean 'slope'"),
        ({"freeze": ["slope", "constant"]}, {}, "all groups are frozen"),
        ({"constant_lr": 0.1}, {"optimizer": "lbfgs"}, "lbfgs has one learning rate for all parameters, got slope"),
        ({}, {"optimizer": "sgd", "amsgrad": True}, "amsgrad belongs to adam and adamw, not to sgd"),
        ({}, {"optimizer": "schedulefree", "beta_one": 0.0}, "schedulefree needs training.beta_one above zero"),
        (
            {"workflow": "monte_carlo", "freeze": ["constant"], "monte_carlo": {"move": {"constant": 0.1}}},
            {},
            "monte_carlo.move names 'constant', no group that it may; valid names: slope",
        ),
    ],
)
def test_stage_that_cannot_run_is_refused_before_the_first(tmp_path, stage, training, expected):
    config = line_config({"epochs": 1}, {"epochs": 1} | stage, **training)
    with pytest.raises(InputError, match=expected):
        line_trainer(Line(), config, tmp_path)


def test_patience_needs_a_validation_set(tmp_path):
    problem = Line()
    plan = problem.plan
    problem.plan = lambda split, seed=None: [] if split == "valid" else plan(split, seed)
    with pytest.raises(InputError, match="patience and lr_decay: plateau follow the validation loss"):
        line_trainer(problem, line_config({"epochs": 1, "patience": 1}), tmp_path)


def test_loss_of_frozen_parameters_only_is_named(tmp_path):
    problem = Line()
    exact = problem.loss

    def of_the_slope(batch, stage, differentiable=True):
        result = exact(batch, stage, differentiable)
        return result._replace(total=problem.module.weight.square().sum())

    problem.loss = of_the_slope
    with pytest.raises(InputError, match="its loss does not depend on any parameter that is not frozen"):
        line_trainer(problem, line_config({"epochs": 1, "freeze": ["slope"]}), tmp_path).run()
