"""Optimisers and learning rates of stages."""

import math

import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint
from fp_potential.train.trainer.optimizers import WeightDecay, averaged_values, build_optimizer, learning_rate, warmup
from fp_potential.train.trainer.options import Stage, TrainingOptions

from line_problem import Line, line_config, line_trainer, log_rows


def test_learning_rate():
    stage = {"name": "s", "epochs": 10}
    exponential = Stage(lr=0.1, lr_final=0.001, **stage)
    cosine = Stage(lr=0.1, lr_final=0.001, lr_decay="cosine", **stage)
    assert [learning_rate(exponential, f) for f in (0, 0.5, 1)] == pytest.approx([0.1, 0.01, 0.001])
    assert [learning_rate(cosine, f) for f in (0, 0.5, 1)] == pytest.approx([0.1, 0.0505, 0.001])
    assert learning_rate(Stage(lr=0.1, **stage), 0.7) == 0.1


def test_warm_up_rises_linearly():
    stage = Stage(name="s", epochs=9, warmup_epochs=2.0)
    assert [warmup(stage, epochs) for epochs in (0.5, 1.0, 2.0, 5.0)] == [0.25, 0.5, 1.0, 1.0]


RATES = {"sgd": 0.1, "rmsprop": 0.1, "adam": 0.1, "adamw": 0.1, "schedulefree": 0.1, "lbfgs": 1.0}
RATES |= {"nadam": 0.1, "radam": 0.3, "adamax": 0.3, "adagrad": 1.0, "adadelta": 10.0, "asgd": 0.1}


@pytest.mark.parametrize("name", RATES)
def test_every_optimiser_finds_the_line(tmp_path, name):
    problem = Line()
    final = None if name == "schedulefree" else 0.1 * RATES[name]
    config = line_config({"epochs": 150, "lr": RATES[name], "lr_final": final}, optimizer=name, checkpoint_every=150)
    trainer = line_trainer(problem, config, tmp_path)
    assert float(trainer.run()) < 1e-3
    assert float(log_rows(tmp_path)[-1]["valid loss"]) == pytest.approx(float(trainer.run()), rel=1e-3)


def test_lbfgs_on_all_points_solves_the_least_squares_problem_in_one_epoch(tmp_path):
    """With its weight decay: minimum of mean (a x + b - y)² + decay/2 (a² + b²), known in closed form."""
    problem = Line()
    problem.plan = lambda split, seed=None: [torch.arange(12)]
    groups = problem.parameter_groups
    decay = 0.1
    problem.parameter_groups = lambda: [group | {"weight_decay": decay} for group in groups()]
    config = line_config({"epochs": 1, "lr": 1.0}, optimizer="lbfgs", ema_decay=None)
    line_trainer(problem, config, tmp_path).run()
    x = torch.cat([problem.x, torch.ones_like(problem.x)], dim=1)
    system = 2 / 12 * x.T @ x + decay * torch.eye(2, dtype=torch.float64)
    exact = torch.linalg.solve(system, 2 / 12 * x.T @ problem.y)
    found = torch.stack([problem.module.weight.squeeze(), problem.module.bias.squeeze()])
    torch.testing.assert_close(found.detach(), exact.squeeze(), atol=1e-5, rtol=0)


def test_weight_decay_is_the_gradient_of_its_sum():
    free, frozen = (torch.nn.Parameter(torch.tensor([2.0, -1.0])) for _ in range(2))
    free.grad = torch.tensor([0.5, 0.0])
    decay = WeightDecay([{"params": [free, frozen], "weight_decay": 0.2}, {"params": [frozen], "weight_decay": 0.0}])
    assert decay.add() == pytest.approx(0.5 * 0.2 * 5)
    assert free.grad.tolist() == pytest.approx([0.9, -0.2]) and frozen.grad is None


def test_schedule_free_evaluates_its_average_without_touching_what_it_trains():
    """Against the recursions of the paper: z <- z - lr g, x <- (1 - c) x + c z, y = (1 - beta) z + beta x, c = 1/n."""
    y = torch.nn.Parameter(torch.tensor([1.0, -2.0], dtype=torch.float64))
    options = TrainingOptions(beta_one=0.9, beta_two=0.99)
    optimizer = build_optimizer("schedulefree", [{"name": "a", "params": [y], "weight_decay": 0.0, "lr": 0.1}], options)
    z, x, v = y.detach().clone(), y.detach().clone(), torch.zeros(2, dtype=torch.float64)
    for n in range(1, 6):
        gradient = 2 * y.detach() + torch.tensor([0.3, -0.1]) * n
        y.grad = gradient.clone()
        optimizer.step()
        v = 0.99 * v + 0.01 * gradient.square()
        z = z - 0.1 * gradient / ((v / (1 - 0.99**n)).sqrt() + 1e-8)
        x = (1 - 1 / n) * x + z / n
        torch.testing.assert_close(y.detach(), 0.1 * z + 0.9 * x)
        before = y.detach().clone()
        torch.testing.assert_close(averaged_values(optimizer, [y])[0], x)
        assert torch.equal(y.detach(), before)


def test_schedule_free_is_validated_exported_and_continued_at_its_average(tmp_path):
    config = line_config(
        {"epochs": 2, "lr": 0.1, "optimizer": "schedulefree"}, {"epochs": 1, "lr": 1e-12, "optimizer": "sgd"}
    )
    problem = Line()
    line_trainer(problem, config, tmp_path).run()
    state = checkpoint.load(tmp_path / "checkpoints" / "stage_0.pt")
    slope, constant = (value.item() for value in state["average"]["average"])
    assert slope != state["module"]["weight"].item()
    loss = (slope * problem.x + constant - problem.y).square().mean().item()
    assert float(log_rows(tmp_path)[1]["valid loss"]) == pytest.approx(loss)
    end = checkpoint.load(tmp_path / "checkpoints" / "latest.pt")["module"]
    assert end["weight"].item() == pytest.approx(slope, abs=1e-9)


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "schedulefree", None)
    with pytest.raises(InputError, match=r"needs the package schedulefree: pip install 'fp-potential\[schedulefree\]'"):
        build_optimizer("schedulefree", [], TrainingOptions())


def test_line_search_that_ends_nowhere_keeps_the_parameters(tmp_path):
    problem = Line()
    calls = iter(range(1000))
    exact = problem.loss

    def worse(batch, stage, differentiable=True):
        result = exact(batch, stage, differentiable)
        return result if next(calls) == 0 else result._replace(total=result.total * math.nan)

    problem.loss = worse
    trainer = line_trainer(problem, line_config({"epochs": 1, "lr": 1.0}, optimizer="lbfgs"), tmp_path)
    before = problem.module.weight.item()
    with pytest.raises(InputError, match=r"epoch 0, step [01] of stage 0"):
        trainer.run()
    assert math.isfinite(problem.module.weight.item()) and math.isfinite(before)


def adam_by_hand(config, start):
    """Parameters and their average after the run of ``config``, by the formulas of Adam, AMSGrad, clipping and EMA."""
    options, problem = config.training, Line()
    problem.module.load_state_dict(start)
    values = list(problem.module.parameters())
    first, second, largest = ([torch.zeros_like(value) for value in values] for _ in range(3))
    average = [value.detach().clone() for value in values]
    step = 0
    for epoch in range(config.train_schedule[0].epochs):
        for content in problem.plan("train", options.seed * 1_000_003 + epoch):
            loss = problem.loss(problem.batch("train", content), config.train_schedule[0]).total
            gradients = torch.autograd.grad(loss, values)
            norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
            shrink = min(1.0, options.clip_grad / (norm + 1e-6)) if options.clip_grad else 1.0
            step += 1
            with torch.no_grad():
                for k, gradient in enumerate(gradients):
                    first[k] = options.beta_one * first[k] + (1 - options.beta_one) * shrink * gradient
                    second[k] = options.beta_two * second[k] + (1 - options.beta_two) * (shrink * gradient) ** 2
                    corrected = second[k] / (1 - options.beta_two**step)
                    largest[k] = torch.maximum(largest[k], second[k])
                    if options.amsgrad:
                        corrected = largest[k] / (1 - options.beta_two**step)
                    move = first[k] / (1 - options.beta_one**step) / (corrected.sqrt() + 1e-8)
                    values[k] -= config.train_schedule[0].lr * move
                    decay = min(options.ema_decay, step / (9 + step))
                    average[k] = decay * average[k] + (1 - decay) * values[k]
    return values, average


@pytest.mark.parametrize(
    "options",
    [{}, {"beta_one": 0.5}, {"beta_two": 0.7}, {"amsgrad": True, "beta_two": 0.7}, {"clip_grad": 0.3}]
    + [{"clip_grad": None}, {"ema_decay": 0.3}],
)
def test_options_of_adam_clipping_and_average_are_their_formulas(tmp_path, options):
    problem = Line()
    config = line_config({"epochs": 6, "lr": 0.2}, **({"clip_grad": 10.0} | options))
    trainer = line_trainer(problem, config, tmp_path)
    start = {name: value.clone() for name, value in problem.module.state_dict().items()}
    trainer.run()
    values, average = adam_by_hand(config, start)
    default, _ = adam_by_hand(line_config({"epochs": 6, "lr": 0.2}, clip_grad=10.0), start)
    for found, expected in zip(problem.module.parameters(), values, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    for found, expected in zip(trainer.average.values, average, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    changes = bool(options) and set(options) != {"ema_decay"} and options.get("clip_grad", 1) is not None
    same = all(torch.allclose(a, b, rtol=1e-6) for a, b in zip(values, default, strict=True))
    assert same != changes
