"""Kinds of random moves, tempering, replica exchange, the best parameters at the end, and gradients in pieces."""

import math

import pytest
import torch
from fp_potential.train.trainer import checkpoint
from fp_potential.train.trainer.gradients import BatchGradient
from fp_potential.train.trainer.monte_carlo_options import MonteCarloOptions
from fp_potential.train.trainer.moves import temperature_at
from fp_potential.train.trainer.optimizers import learning_rate
from fp_potential.train.trainer.options import Stage
from pydantic import ValidationError

from line_problem import Line, line_config, line_trainer, log_rows, monte_carlo, same_state, shown, values

EVERYTHING = torch.arange(12)


class Squares(Line):
    """A loss Σ k_i θ_i²/2 of two parameters whatever the points are: distributions of moves are known."""

    k = (4.0, 25.0)

    def loss(self, batch, stage, differentiable=True):
        result = super().loss(batch, stage, differentiable)
        a, b = self.module.weight, self.module.bias
        return result._replace(total=0.5 * (self.k[0] * a.square().sum() + self.k[1] * b.square().sum()))


class WithSteps(Squares):
    """Moves of its own: the slope, uniformly, and never to below zero."""

    def propose(self, stage, generator, factor):
        step = 0.3 * factor * (2 * torch.rand((1, 1), generator=generator, dtype=torch.float64) - 1)
        self.module.weight.add_(step).abs_()
        return True

    def improved(self, loss):
        self.smallest = loss


def test_acceptance_on_the_square_root():
    """Accepted with exp(-beta (sqrt L' - sqrt L)): never uphill in the limit of large beta, else by that rule."""
    cold = monte_carlo(Line(), move=0.3, temperature=1e-12, acceptance="root_loss", moves_per_batch=1)
    loss = math.inf
    for _ in range(100):
        after = cold.step(EVERYTHING, 0.0, 1.0).total
        assert after <= loss
        loss = after
    assert 0 < cold.accepted < 100
    workflow = monte_carlo(Line(), acceptance="root_loss")
    accepted = sum(workflow._accepts(0.7, 0.5) for _ in range(4000)) / 4000
    assert accepted == pytest.approx(math.exp(-0.7 / 0.5), abs=0.02)
    assert workflow._height(workflow._first(workflow.batches.load(EVERYTHING))) ** 2 == pytest.approx(
        workflow.batches.value(workflow.batches.load(EVERYTHING)).total
    )


def test_uniform_moves_of_each_parameter_and_of_a_part():
    problem = Line()
    with torch.no_grad():
        problem.module.weight.fill_(2.0)
        problem.module.bias.fill_(0.0)
    workflow = monte_carlo(problem, move=0.01, move_of="each", distribution="uniform", temperature=1e9)
    before, steps = problem.module.weight.item(), []
    for _ in range(300):
        workflow.step(EVERYTHING, 0.0, 1.0)
        steps.append((problem.module.weight.item() - before) / before)
        before = problem.module.weight.item()
    assert problem.module.bias.item() == 0.0  # 1 % of nothing
    assert max(map(abs, steps)) <= 0.01 and torch.tensor(steps).std().item() == pytest.approx(0.01 / 3**0.5, rel=0.1)
    workflow = monte_carlo(Line(), move=0.1, fraction=0.5, temperature=1e9)
    for _ in range(20):
        before = values(workflow.batches.problem)
        workflow.step(EVERYTHING, 0.0, 1.0)
        changed = [bool((a != b).any()) for a, b in zip(values(workflow.batches.problem), before, strict=True)]
        assert sum(changed) == 1


def test_moves_of_the_problem():
    problem = WithSteps()
    with torch.no_grad():
        problem.module.weight.fill_(0.05)
    constant = problem.module.bias.item()
    workflow = monte_carlo(problem, temperature=1e9)
    steps = []
    for _ in range(100):
        before = problem.module.weight.item()
        workflow.step(EVERYTHING, 0.0, 1.0)
        steps.append(problem.module.weight.item() - before)
        assert problem.module.weight.item() >= 0
    assert problem.smallest == workflow.best_loss
    assert max(steps) > 0.2 and max(map(abs, steps)) <= 0.3 and problem.module.bias.item() == constant


def test_tempering_goes_through_its_phases():
    phases = [
        {"temperature": 0.01, "moves": 3},
        {"temperature": 1.0, "moves": 2, "move_factor": 5.0},
    ]
    options = MonteCarloOptions(tempering=phases)
    assert [temperature_at(options, 0.0, n)[0] for n in range(7)] == [0.01] * 3 + [1.0] * 2 + [0.01] * 2
    assert temperature_at(options, 0.0, 4).move_factor == 5.0
    once = MonteCarloOptions(tempering=phases, repeat=False)
    assert [temperature_at(once, 0.0, n)[0] for n in (0, 3, 5, 99)] == [0.01, 1.0, 1.0, 1.0]
    workflow = monte_carlo(Line(), tempering=phases, moves_per_batch=4)
    workflow.step(EVERYTHING, 0.0, 1.0)
    assert workflow.row()["MC temperature"] == 1.0
    workflow.step(EVERYTHING, 0.0, 1.0)
    assert workflow.row()["MC temperature"] == 0.01


def test_replicas_sample_their_temperatures():
    """<k a²> = T of the coldest and of the hottest replica, exchanges included."""
    temperatures = [0.05, 0.2, 0.8]
    workflow = monte_carlo(Squares(), move=0.3, replicas=temperatures, exchange_every=2)
    workflow.moves.sizes = [0.35, 0.14]
    squares = torch.zeros(3, dtype=torch.float64)
    count = 0
    for step in range(1000):
        workflow.step(EVERYTHING, 0.0, 1.0)
        if step > 100:
            count += 1
            for place, (slope, constant) in enumerate(workflow.replicas):
                squares[place] += 0.5 * (4.0 * slope.item() ** 2 + 25.0 * constant.item() ** 2)
    assert (squares / count).tolist() == pytest.approx(temperatures, rel=0.25)
    problem = workflow.batches.problem
    assert same_state(values(problem), workflow.replicas[0])
    assert 20 < workflow.row()["MC exchanged [%]"] < 100


def test_exchange_of_a_hot_replica_that_is_lower_is_certain():
    workflow = monte_carlo(Squares(), replicas=[0.0, 1.0], exchange_every=1, moves_per_batch=1)
    cold, hot = [[torch.full_like(p, x) for p in workflow.parameters] for x in (1.0, 0.1)]
    workflow.replicas = [cold, hot]
    part = workflow.batches.load(EVERYTHING)
    losses = []
    for replica in (cold, hot):
        for parameter, value in zip(workflow.parameters, replica, strict=True):
            parameter.data.copy_(value)
        losses.append(workflow.batches.value(part))
    lower = losses[1]
    workflow.done = 1
    workflow._exchange(losses)
    assert workflow.replicas[0] is hot and losses[0] is lower
    workflow._exchange(losses)  # back uphill at temperature zero: never
    assert workflow.replicas[0] is hot and (workflow.exchanged, workflow.attempts) == (1, 2)


MOVES = {"move": 0.2, "temperature": 0.3, "moves_per_batch": 3}


@pytest.mark.parametrize("options", [MOVES, {"move": 0.2, "replicas": [0.01, 0.3], "exchange_every": 2}])
def test_stage_ends_with_the_best_and_resumes_bitwise(tmp_path, options):
    """Batches of all points: the smallest loss of the stage is that of the parameters it ends with."""

    class Whole(Line):
        def plan(self, split, seed=None):
            return [torch.arange(12)]

    stage = {"workflow": "monte_carlo", "epochs": 12, "monte_carlo": options | {"finish": "best"}}
    config = line_config(stage, checkpoint_every=5, ema_decay=None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    line_trainer(Whole(), config, whole).run()
    state = checkpoint.load(whole / "checkpoints" / "stage_0.pt")
    problem = Whole()
    problem.module.load_state_dict(state["module"])
    loss = problem.evaluate("valid", None, 0)["valid loss"]
    assert loss == pytest.approx(state["workflow"]["best_loss"], rel=1e-12)
    losses = [float(row["train loss"]) for row in log_rows(whole)]
    assert loss <= min(losses) * (1 + 1e-9)
    if "replicas" not in options:
        assert loss < losses[-1]

    interrupted = Whole()
    interrupted.stop_after = 40
    with pytest.raises(KeyboardInterrupt):
        line_trainer(interrupted, config, parts).run()
    resumed = checkpoint.load(parts / "checkpoints" / "latest.pt")
    assert 0 < resumed["epoch"] < 12
    line_trainer(Whole(), config, parts, resumed).run()
    assert log_rows(parts) == log_rows(whole)
    assert same_state(checkpoint.load(parts / "checkpoints" / "stage_0.pt"), state)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"replicas": [0.1, 0.2], "tempering": [{"temperature": 1, "moves": 2}]}, "tempering and replicas exclude"),
        ({"replicas": [0.2, 0.1]}, "two temperatures or more that rise"),
        ({"replicas": [0.2]}, "two temperatures or more that rise"),
        ({"replicas": [-1.0, 0.2]}, "at least zero"),
    ],
)
def test_temperatures_that_contradict(options, expected):
    with pytest.raises(ValidationError, match=expected):
        MonteCarloOptions(**options)


def test_rate_falls_by_steps():
    stage = Stage(name="a", lr=0.1, lr_decay="step", step_factor=0.5, step_epochs=3, epochs=10)
    rates = [learning_rate(stage, epoch / 10) for epoch in range(10)]
    assert rates == pytest.approx([0.1] * 3 + [0.05] * 3 + [0.025] * 3 + [0.0125])
    floor = stage.model_copy(update={"lr_final": 0.04})
    assert learning_rate(floor, 0.9) == 0.04


@pytest.mark.parametrize("pieces", [2, 5])
def test_gradients_in_pieces_are_those_of_the_whole(pieces):
    problem = Line()
    stage = line_config().train_schedule[1]
    parameters = list(problem.module.parameters())
    found = []
    for number in (1, pieces):
        gradient = BatchGradient(problem, parameters, stage, number)
        part = gradient.load(EVERYTHING)
        assert len(part) == number
        result = gradient.gradient(part)
        found.append((result.total, result.terms["square"], result.structures, [p.grad.clone() for p in parameters]))
        assert gradient.value(part).total == pytest.approx(result.total, rel=1e-15)
    whole, other = found
    assert other[:3] == pytest.approx(whole[:3], rel=1e-14)
    torch.testing.assert_close(other[3], whole[3], rtol=1e-14, atol=1e-15)


def test_patience_by_the_training_loss(tmp_path):
    problem = Line()
    plan = problem.plan
    problem.plan = lambda split, seed=None: [] if split == "valid" else plan(split, seed)
    stage = {"epochs": 30, "lr": 1e-300, "patience": 4, "paced_by": "train"}
    trainer = line_trainer(problem, line_config(stage), tmp_path)
    trainer.run()
    assert len(log_rows(tmp_path)) < 30
    assert "the smallest training loss was that of epoch" in shown(trainer)


class Kicked(Line):
    """Changes its parameters before every second epoch, and writes a file after each."""

    def before_epoch(self, stage, epoch_of_stage, seed):
        if epoch_of_stage == 0 or epoch_of_stage % 2:
            return []
        with torch.no_grad():
            kick = torch.randn((), generator=torch.Generator().manual_seed(seed))
            self.module.bias.add_(kick)
        return [f"kick before epoch {epoch_of_stage}"]

    def optimizer_built(self, optimizer):
        return [f"optimiser {type(optimizer).__name__}"]

    def after_epoch(self, stage, row, run_dir):
        with open(run_dir / "losses.txt", "a") as file:
            file.write(f"{row['epoch']} {row['train loss']:.6f} {self.module.bias.item():.6f}\n")


def test_problem_that_works_between_epochs(tmp_path):
    config = line_config({"epochs": 5, "lr": 0.01}, ema_decay=0.5)
    trainer = line_trainer(Kicked(), config, tmp_path)
    trainer.run()
    lines = (tmp_path / "losses.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "4"]
    assert "optimiser Adam" in shown(trainer)
    assert "kick before epoch 2" in shown(trainer) and "kick before epoch 1" not in shown(trainer)
    state = checkpoint.load(tmp_path / "checkpoints" / "latest.pt")
    assert float(lines[-1].split()[2]) == pytest.approx(state["average"]["average"][1].item(), abs=1e-6)
