"""Monte Carlo, evaluation and initialisation as stages."""

import math

import pytest
import torch
from fp_potential.train.trainer import checkpoint
from fp_potential.train.trainer.options import InitialiseOptions, MonteCarloOptions, RunningOptions
from pydantic import ValidationError

from line_problem import Line, line_config, line_trainer, log_rows, monte_carlo, same_state, shown, values


def test_rejected_move_restores_the_bits():
    problem = Line()
    workflow = monte_carlo(problem, move=0.3)
    everything = torch.arange(12)
    rejected = accepted = 0
    for _ in range(200):
        before = values(problem)
        loss = workflow.batches.value(workflow.batches.load(everything)).total
        count = workflow.accepted
        after = workflow.step(everything, 0.0, 1.0).total
        if workflow.accepted == count:
            rejected += 1
            assert same_state(values(problem), before) and after == loss
        else:
            accepted += 1
            assert not same_state(values(problem), before) and after <= loss  # at temperature 0
    assert rejected > 10 and accepted > 10


def test_cold_moves_find_the_line(tmp_path):
    stages = {"workflow": "monte_carlo", "epochs": 60, "monte_carlo": {"move": 0.1, "moves_per_batch": 5}}
    assert float(line_trainer(Line(), line_config(stages, checkpoint_every=60), tmp_path).run()) < 1e-2
    rows = log_rows(tmp_path)
    assert all(0 <= float(row["MC accepted [%]"]) <= 100 and row["lr"] == "" for row in rows)
    assert float(rows[0]["MC accepted [%]"]) > float(rows[-1]["MC accepted [%]"])


def test_parameters_that_are_all_zero_move():
    problem = Line()
    with torch.no_grad():
        for parameter in problem.module.parameters():
            parameter.zero_()
    workflow = monte_carlo(problem, move=0.3)
    assert workflow.moves.sizes == [0.3, 0.3]


def test_moves_sample_the_distribution_of_boltzmann():
    """At temperature T a loss k a²/2 gives <k a²> = T: equipartition, by 8000 moves of one parameter."""
    problem = Line()
    group = {"name": "slope", "params": [problem.module.weight], "weight_decay": 0.0}
    with torch.no_grad():
        problem.module.weight.fill_(1.0)
    k, temperature = 4.0, 0.3
    exact = problem.loss

    def quadratic(batch, stage, differentiable=True):
        return exact(batch, stage, differentiable)._replace(total=0.5 * k * problem.module.weight.square().sum())

    problem.loss = quadratic
    workflow = monte_carlo(problem, groups=[group], move=0.5, moves_per_batch=1, temperature=temperature)
    squares = []
    for step in range(8_000):
        workflow.step(torch.arange(3), 0.0, 1.0)
        if step > 200:
            squares.append(k * problem.module.weight.item() ** 2)
    assert sum(squares) / len(squares) == pytest.approx(temperature, rel=0.15)
    assert 0.3 < workflow.accepted / workflow.tried < 0.95


def test_temperature_falls_exponentially():
    workflow = monte_carlo(Line(), temperature=1.0, temperature_final=0.01)
    for epochs, expected in ((0.0, 1.0), (5.0, 0.1), (10.0, 0.01)):
        workflow.step(torch.arange(3), epochs, 0.25)
        assert workflow.row()["MC temperature"] == pytest.approx(expected)


def test_only_the_groups_named_move_and_by_their_sizes(tmp_path):
    problem = Line()
    workflow = monte_carlo(problem, move={"constant": 0.01}, temperature=1e9)
    slope, size = problem.module.weight.item(), abs(problem.module.bias.item())
    moves = []
    for _ in range(400):
        before = problem.module.bias.item()
        workflow.step(torch.arange(3), 0.0, 1.0)
        moves.append(problem.module.bias.item() - before)
    assert problem.module.weight.item() == slope
    assert math.sqrt(sum(move**2 for move in moves) / 400) == pytest.approx(0.01 * size, rel=0.15)


def test_loss_that_is_not_finite_is_a_rejected_move():
    problem = Line()
    exact = problem.loss
    allowed = problem.module.weight.item()

    def walled(batch, stage, differentiable=True):
        result = exact(batch, stage, differentiable)
        return result if problem.module.weight.item() == allowed else result._replace(total=result.total * math.nan)

    problem.loss = walled
    workflow = monte_carlo(problem, temperature=1e9)
    before = values(problem)
    for _ in range(5):
        workflow.step(torch.arange(3), 0.0, 1.0)
    assert same_state(values(problem), before) and workflow.accepted == 0


def test_evaluation_changes_nothing(tmp_path):
    stages = [{"epochs": 2, "lr": 0.1}, {"workflow": "evaluate", "epochs": 2}, {"epochs": 2, "reset_optimizer": False}]
    with_it, without = tmp_path / "with", tmp_path / "without"
    line_trainer(Line(), line_config(*stages), with_it).run()
    line_trainer(Line(), line_config(stages[0]), without).run()
    before, after = (checkpoint.load(with_it / "checkpoints" / f"stage_{n}.pt") for n in (0, 1))
    for part in ("module", "optimizer", "average", "generators"):
        assert same_state(before[part], after[part])
    rows = log_rows(with_it)
    assert rows[2]["valid loss"] == rows[3]["valid loss"] == rows[1]["valid loss"] and rows[2]["lr"] == ""
    # the batches of an epoch hold every point once: the mean of their losses is that of the set
    assert float(rows[2]["train loss"]) == pytest.approx(float(rows[2]["valid loss"]))
    best = checkpoint.load(with_it / "checkpoints" / "best.pt")
    assert best["stage"] != 1


def test_initialise_only_sets_parameters_and_trains_nothing(tmp_path):
    stages = [
        {"epochs": 1},
        {"workflow": "initialise_only", "initialise": {"method": "he"}, "freeze": ["slope"]},
    ]
    problem = Line()
    trainer = line_trainer(problem, line_config(*stages), tmp_path)
    trainer.run()
    first, second = (checkpoint.load(tmp_path / "checkpoints" / f"stage_{n}.pt") for n in (0, 1))
    assert "initialised: he" in shown(trainer)
    assert first["module"]["bias"] != second["module"]["bias"]
    slope, constant = first["average"]["average"]
    assert torch.equal(second["module"]["weight"], slope)  # frozen, at the value that was validated
    assert not torch.equal(second["module"]["bias"], constant)
    assert same_state(second["average"]["average"], list(second["module"].values()))
    assert log_rows(tmp_path)[1]["train loss"] == "" and log_rows(tmp_path)[1]["valid loss"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"monte_carlo": {}}, "monte_carlo belongs to workflow: monte_carlo, not to workflow: gradient"),
        ({"workflow": "initialise_only"}, "go together"),
        ({"initialise": {}}, "go together"),
        ({"lr": 0.1, "lr_final": 0.2, "lr_decay": "plateau"}, "a plateau only lowers it"),
        ({"workflow": "monte_carlo", "monte_carlo": {"temperature_final": 1.0}}, "needs a temperature above zero"),
        ({"workflow": "monte_carlo", "monte_carlo": {"move": 0}}, "move must be above zero"),
    ],
)
def test_options_of_other_workflows_are_refused(options, expected):
    with pytest.raises(ValidationError, match=expected):
        RunningOptions(**options)


def test_source_of_an_initialisation():
    given = RunningOptions(workflow="initialise_only", initialise={"init_from": "run"}).initialise
    assert given == InitialiseOptions(method="checkpoint", init_from="run")
    with pytest.raises(ValidationError, match="go together"):
        InitialiseOptions(method="checkpoint")
    with pytest.raises(ValidationError, match="go together"):
        InitialiseOptions(method="he", init_from="run")
    assert RunningOptions(workflow="monte_carlo").monte_carlo == MonteCarloOptions()
