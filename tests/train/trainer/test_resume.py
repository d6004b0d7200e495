"""A run that is stopped anywhere and resumed gives the bits of an uninterrupted one, whatever its stages do."""

import pytest
import torch
from fp_potential.train.trainer import checkpoint

from line_problem import Line, line_config, line_trainer, log_rows, same_state

MOVES = {"workflow": "monte_carlo", "epochs": 2}
SCHEDULES = {
    "adam": ([], {}),
    "no average": ([], {"ema_decay": None, "clip_grad": None}),
    "adamw": ([], {"optimizer": "adamw", "amsgrad": True}),
    "sgd": ([], {"optimizer": "sgd", "momentum": 0.9, "nesterov": True}),
    "rmsprop": ([], {"optimizer": "rmsprop", "momentum": 0.5}),
    "schedulefree": ([], {"optimizer": "schedulefree"}),
    "nadam": ([], {"optimizer": "nadam"}),
    "lbfgs": ([{"epochs": 3, "lr": 1.0}], {"optimizer": "lbfgs", "lbfgs_iterations": 3}),
    "optimiser kept": ([{"epochs": 3}, {"epochs": 3, "reset_optimizer": False, "freeze": ["slope"]}], {}),
    "plateau": (
        [{"epochs": 9, "lr": 2.0, "lr_decay": "plateau", "plateau_patience": 1, "patience": 2}, {"epochs": 3}],
        {"ema_decay": None},
    ),
    "monte carlo": (
        [MOVES | {"monte_carlo": {"move": 0.2, "moves_per_batch": 2, "temperature": 0.5, "temperature_final": 0.1}}],
        {},
    ),
    "chain": (
        [
            {"epochs": 3, "optimizer": "schedulefree", "lr": 0.1},
            {"workflow": "evaluate"},
            {"epochs": 1, "optimizer": "schedulefree", "lr": 0.1, "reset_optimizer": False},
            MOVES | {"monte_carlo": {"move": 0.1}},
            {"workflow": "initialise_only", "initialise": {"method": "random"}},
            {"epochs": 1, "optimizer": "sgd", "lr": 0.1},
        ],
        {},
    ),
}


def latest(folder):
    path = folder / "checkpoints" / checkpoint.LATEST
    return checkpoint.load(path) if path.is_file() else None


@pytest.mark.parametrize("often", [True, False], ids=["every step", "every epoch"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_resumed_run_gives_the_bits_of_an_uninterrupted_one(tmp_path, name, often):
    stages, training = SCHEDULES[name]
    config = line_config(*stages, **training, checkpoint_steps=1 if often else None)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    table = line_trainer(Line(), config, whole).run()
    generator = torch.Generator().manual_seed(3)
    stops = 0
    while True:
        problem = Line()
        problem.stop_after = 3 + int(torch.randint(10, (), generator=generator))
        trainer = line_trainer(problem, config, parts, latest(parts))
        try:
            found = trainer.run()
            break
        except KeyboardInterrupt:
            stops += 1
            assert stops < 200
    assert stops >= 2 and found == table
    assert log_rows(parts) == log_rows(whole)
    for file in (whole / "checkpoints").iterdir():
        assert same_state(checkpoint.load(file), checkpoint.load(parts / "checkpoints" / file.name)), file.name
    assert (parts / "test_table.txt").read_text() == (whole / "test_table.txt").read_text()


def test_position_inside_of_an_epoch_is_kept(tmp_path):
    problem = Line()
    problem.stop_after = 6
    with pytest.raises(KeyboardInterrupt):
        line_trainer(problem, line_config(checkpoint_steps=1), tmp_path).run()
    state = latest(tmp_path)
    assert (state["epoch"], state["step"], state["stage"]) == (1, 2, 0)
    assert state["epoch_so_far"]["structures"] == 6


def test_checkpoints_by_minutes(tmp_path, monkeypatch):
    clock = iter(range(0, 10_000, 20))  # seconds between one look at the clock and the next
    monkeypatch.setattr("fp_potential.train.trainer.trainer.time.monotonic", lambda: float(next(clock)))
    problem = Line()
    problem.stop_after = 3
    with pytest.raises(KeyboardInterrupt):
        line_trainer(problem, line_config(checkpoint_minutes=0.5), tmp_path).run()
    assert latest(tmp_path)["step"] == 2
