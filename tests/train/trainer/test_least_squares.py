"""Damped Gauss-Newton steps: exact for a line, taken back where the loss rises, the same in processes and resumed."""

import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint
from fp_potential.train.trainer.least_squares import NormalEquations

from line_problem import Line, line_config, line_trainer, log_rows, same_state


class Squares(Line):
    """A line whose loss is known as a sum of squares; all points in one batch."""

    def plan(self, split, seed=None):
        return [torch.arange(12)]

    def normal_equations(self, batch, stage, parameters):
        indices, whole = batch
        result = self.loss(batch, stage, differentiable=False)
        x = self.x[indices, 0]
        columns = {id(self.module.weight): x, id(self.module.bias): torch.ones_like(x)}
        jacobian = torch.stack([columns[id(parameter)] for parameter in parameters], dim=1)
        errors = (self.module(self.x[indices]) - self.y[indices])[:, 0].detach()
        weight = 2 * stage.weight / whole
        return NormalEquations(result, weight * jacobian.T @ errors, weight * jacobian.T @ jacobian)


STAGE = {"workflow": "least_squares", "epochs": 4, "damping": 1e-6}


@pytest.mark.parametrize("options", [{}, {"workers": 3}, {"accumulate": 2}])
@pytest.mark.parametrize("damping_by", ["largest", "each"])
def test_line_is_found_at_once(tmp_path, options, damping_by):
    config = line_config(STAGE | {"damping_by": damping_by}, ema_decay=None, **options)
    problem = Squares()
    assert float(line_trainer(problem, config, tmp_path).run()) < 1e-20
    rows = log_rows(tmp_path)
    assert float(rows[1]["train loss"]) < 1e-9 * float(rows[0]["train loss"]) and rows[0]["lr"] == ""
    assert float(rows[0]["damping"]) == pytest.approx(1e-6 / 3)


def test_step_is_that_of_the_normal_equations(tmp_path):
    """θ - (A + λ diag A)⁻¹ g with a damping that matters, and the slope frozen."""
    problem = Squares()
    config = line_config(
        STAGE | {"epochs": 1, "damping": 0.5, "damping_by": "each", "freeze": ["slope"]}, ema_decay=None
    )
    trainer = line_trainer(problem, config, tmp_path)
    slope, constant = (parameter.detach().clone() for parameter in problem.module.parameters())
    gradient = 2 * (problem.module(problem.x) - problem.y).mean()
    trainer.run()
    assert torch.equal(problem.module.weight, slope)
    assert problem.module.bias.item() == pytest.approx(float((constant - gradient / (2 * 1.5)).detach()))


def test_step_that_raises_the_loss_is_taken_back(tmp_path):
    """A curvature that is far too small: the damping rises until a step helps, or the parameters stay bit for bit."""

    class Misled(Squares):
        def normal_equations(self, *arguments):
            found = super().normal_equations(*arguments)
            return found._replace(curvature=1e-6 * found.curvature)

    for tries, moved in ((3, False), (20, True)):
        problem = Misled()
        config = line_config(STAGE | {"epochs": 1, "damping": 1.0, "tries": tries}, ema_decay=None)
        trainer = line_trainer(problem, config, tmp_path / str(tries))
        before = [parameter.detach().clone() for parameter in problem.module.parameters()]
        trainer.run()
        after = [parameter.detach() for parameter in problem.module.parameters()]
        assert same_state(before, after) != moved
        assert float(log_rows(tmp_path / str(tries))[0]["damping"]) >= 4.0**3


def test_resumed_bitwise(tmp_path):
    config = line_config(STAGE | {"epochs": 6, "damping": 10.0}, ema_decay=0.9)
    line_trainer(Squares(), config, tmp_path / "whole").run()
    interrupted = Squares()
    interrupted.stop_after = 9
    with pytest.raises(KeyboardInterrupt):
        line_trainer(interrupted, config, tmp_path / "parts").run()
    state = checkpoint.load(tmp_path / "parts" / "checkpoints" / "latest.pt")
    assert 0 < state["epoch"] < 6
    line_trainer(Squares(), config, tmp_path / "parts", state).run()
    assert log_rows(tmp_path / "parts") == log_rows(tmp_path / "whole")
    ends = [checkpoint.load(tmp_path / name / "checkpoints" / "latest.pt") for name in ("whole", "parts")]
    assert same_state(*ends)


def test_other_problems_are_refused(tmp_path):
    with pytest.raises(InputError, match="least_squares needs a loss that is a sum of squares of few residuals"):
        line_trainer(Line(), line_config(STAGE), tmp_path)
