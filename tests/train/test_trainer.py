"""The trainer on a problem of its own: stages, resume, weight average, checkpoints, log."""

import csv
import io
import math
import multiprocessing
import os

import pytest
import torch
from fp_potential.train import checkpoint
from fp_potential.train.config import Stage, TrainConfig
from fp_potential.train.ema import WeightAverage
from fp_potential.train.errors import InputError
from fp_potential.train.gradients import BatchGradient
from fp_potential.train.problem import LossResult
from fp_potential.train.schema import validate
from fp_potential.train.trainer import Trainer, learning_rate
from rich.console import Console


class Line:
    """Fits y = a x + b: a problem that has nothing to do with potentials."""

    name = "line"

    def __init__(self) -> None:
        self.module = torch.nn.Linear(1, 1, dtype=torch.float64)
        self.x = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]
        self.y = 3 * self.x - 0.5
        self.stop_after = math.inf
        self.spoil = False

    def parameter_groups(self):
        return [{"name": "all", "params": list(self.module.parameters()), "weight_decay": 0.0}]

    def initialise(self):
        torch.nn.init.normal_(self.module.weight)
        torch.nn.init.normal_(self.module.bias)

    def state(self):
        return {}

    def number_of_batches(self, split):
        return {"train": 4, "valid": 1, "test": 1}[split]

    def batches(self, split, seed=None):
        order = torch.arange(12)
        if seed is not None:
            order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        yield from order.split(3 if split == "train" else 12)

    def parts(self, batch, number):
        return list(batch.chunk(number))

    def loss(self, batch, stage):
        self.stop_after -= 1
        if self.stop_after < 0:
            raise KeyboardInterrupt
        error = (self.module(self.x[batch]) - self.y[batch]).square().mean()
        if self.spoil:
            error = error * math.nan
        return LossResult(stage.loss.active()["forces"] * error, {"forces": error.detach()}, len(batch))

    def columns(self):
        return ["train forces [meV/Å]", "valid loss"]

    def summarise(self, terms):
        return {"train forces [meV/Å]": 1000 * terms["forces"] ** 0.5}

    def evaluate(self, split, stage, epoch_of_stage):
        return {"valid loss": (self.module(self.x) - self.y).square().mean().item()}

    def report(self, split):
        return f"{self.evaluate(split, None, 0)['valid loss']:.3e}"

    def export(self, path):
        raise NotImplementedError


@pytest.fixture
def config():
    stage = {"loss": {"forces": 1.0}, "fixed_point_training_options": {"mode": "direct"}}
    data = {
        "data": {"files": "none.xyz", "keys": {"forces": "F", "atomic_multipoles": "M"}},
        "model": {},
        "training": {"seed": 4, "ema_decay": 0.9},
        "train_schedule": [
            {"name": "first", "epochs": 4, "lr": 0.5, "lr_final": 0.05} | stage,
            {"name": "second", "epochs": 3, "lr": 0.01} | stage,
        ],
    }
    return validate(data, TrainConfig, "test")


def trainer(problem, config, folder, resumed=None):
    return Trainer(problem, config, folder, Console(file=io.StringIO()), "data", resumed)


def rows(folder):
    with open(folder / "log.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_trains_logs_and_reports(config, tmp_path):
    problem = Line()
    table = trainer(problem, config, tmp_path).run()
    log = rows(tmp_path)
    assert [row["epoch"] for row in log] == [str(n) for n in range(7)]
    assert [row["stage"] for row in log] == ["first"] * 4 + ["second"] * 3
    assert float(log[-1]["valid loss"]) < 0.5 * float(log[0]["valid loss"])
    assert set(log[0]) == {"epoch", "stage", "lr", "time [s]", "train loss", "train forces [meV/Å]", "valid loss"}
    assert (tmp_path / "test_table.txt").read_text() == table + "\n"
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == ["best.pt", "latest.pt", "stage_0.pt", "stage_1.pt"]


@pytest.mark.parametrize("steps", [6, 16, 19])
def test_resumed_run_gives_the_numbers_of_an_uninterrupted_one(config, tmp_path, steps):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(Line(), config, whole).run()
    interrupted = Line()
    interrupted.stop_after = steps
    with pytest.raises(KeyboardInterrupt):
        trainer(interrupted, config, parts).run()
    state = checkpoint.load(parts / "checkpoints" / checkpoint.LATEST)
    assert state["epoch"] == steps // 4
    table = trainer(Line(), config, parts, state).run()
    for expected, found in zip(rows(whole), rows(parts), strict=True):
        del expected["time [s]"], found["time [s]"]
        assert found == expected
    assert (whole / "test_table.txt").read_text() == table + "\n"


def test_finished_run_only_reports(config, tmp_path):
    first = trainer(Line(), config, tmp_path).run()
    state = checkpoint.load(tmp_path / "checkpoints" / checkpoint.LATEST)
    problem = Line()
    problem.stop_after = 0
    assert trainer(problem, config, tmp_path, state).run() == first
    assert len(rows(tmp_path)) == 7


def test_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    problem = Line()
    problem.spoil = True
    with pytest.raises(InputError, match=r"loss is nan in epoch 0, step 0 of stage 0 \('first'\); lower its lr"):
        trainer(problem, config, tmp_path).run()


def test_parameters_outside_of_all_groups_are_refused(config, tmp_path):
    problem = Line()
    problem.parameter_groups = lambda: [{"name": "a", "params": [problem.module.weight], "weight_decay": 0.0}]
    with pytest.raises(RuntimeError, match="left out: \\['bias'\\]"):
        trainer(problem, config, tmp_path)


def test_checkpoint_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "latest.pt"
    checkpoint.save({"epoch": 1}, path)

    def half(state, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"epoch": 2}, path)
    assert checkpoint.load(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["latest.pt"]


@pytest.mark.parametrize(("content", "expected"), [(b"garbage", "not a readable checkpoint"), (None, "no checkpoint")])
def test_unreadable_checkpoint(tmp_path, content, expected):
    path = tmp_path / "latest.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        checkpoint.load(path)


def test_checkpoint_of_another_format(tmp_path):
    torch.save({"format": 99}, tmp_path / "latest.pt")
    with pytest.raises(InputError, match="checkpoint format 99, this version reads 1"):
        checkpoint.load(tmp_path / "latest.pt")


def state_of(config, epoch):
    return {"config": config.model_dump(mode="json"), "data": "abc", "epoch": epoch}


def changed(config, **updates):
    data = config.model_dump(mode="json")
    for name, value in updates.items():
        place = data
        *parents, last = name.split("__")
        for part in parents:
            place = place[int(part)] if part.isdigit() else place[part]
        place[last] = value
    return validate(data, TrainConfig, "test")


def test_resume_with_another_architecture_names_the_options(config, tmp_path):
    other = changed(config, model__num_channels=32, training__batch_size=2)
    with pytest.raises(InputError) as caught:
        checkpoint.check_resumable(state_of(config, 2), other, "abc", tmp_path)
    text = str(caught.value)
    assert "model.num_channels: 16 -> 32" in text and "training.batch_size: 8 -> 2" in text and "--restart" in text


def test_options_newer_than_the_checkpoint_are_taken_as_their_defaults(config, tmp_path):
    state = state_of(config, 2)
    del state["config"]["training"]["workers"]
    checkpoint.check_resumable(state, config, "abc", tmp_path)
    with pytest.raises(InputError, match=r"training\.workers: 1 -> 2"):
        checkpoint.check_resumable(state, changed(config, training__workers=2), "abc", tmp_path)


def test_resume_with_other_data_is_refused(config, tmp_path):
    with pytest.raises(InputError, match="frames of the data files"):
        checkpoint.check_resumable(state_of(config, 2), config, "xyz", tmp_path)


def test_machine_and_coming_stages_may_change(config, tmp_path):
    longer = changed(config, train_schedule__1__epochs=9, train_schedule__1__end=12, train_schedule__1__lr=0.5)
    checkpoint.check_resumable(state_of(config, 4), longer, "abc", tmp_path)
    with pytest.raises(InputError, match=r"train_schedule\.1\.lr: 0\.01 -> 0\.5"):
        checkpoint.check_resumable(state_of(config, 5), longer, "abc", tmp_path)
    elsewhere = changed(config, run_dir="other", training__num_threads=2, data__files=["moved.xyz"])
    checkpoint.check_resumable(state_of(config, 5), elsewhere, "abc", tmp_path)


def gradients_of_an_epoch(problem, config, workers):
    parameters = list(problem.module.parameters())
    gradient = BatchGradient(problem, parameters, config.train_schedule, workers)
    gradient.start()
    found = []
    for result in gradient.epoch(1, seed=5):
        found.append((result.total.item(), result.terms["forces"].item(), [p.grad.clone() for p in parameters]))
        with torch.no_grad():
            for parameter in parameters:
                parameter.sub_(0.1 * parameter.grad)
    processes = [worker.process for worker in gradient.workers]
    gradient.close()
    assert len(processes) == workers - 1 and not any(process.is_alive() for process in processes)
    return found


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_give_the_losses_and_gradients_of_one_process(config, workers):
    start, problem = Line(), Line()
    problem.module.load_state_dict(start.module.state_dict())
    expected = gradients_of_an_epoch(start, config, 1)
    for (loss, term, gradient), found in zip(expected, gradients_of_an_epoch(problem, config, workers), strict=True):
        assert found[:2] == pytest.approx((loss, term), rel=1e-12)
        torch.testing.assert_close(found[2], gradient)


def test_run_with_workers_resumes_as_well(config, tmp_path):
    config.training.workers = 2
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    trainer(Line(), config, whole).run()
    interrupted = Line()
    interrupted.stop_after = 6
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        trainer(interrupted, config, parts).run()
    state = checkpoint.load(parts / "checkpoints" / checkpoint.LATEST)
    trainer(Line(), config, parts, state).run()
    for expected, found in zip(rows(whole), rows(parts), strict=True):
        del expected["time [s]"], found["time [s]"]
        assert found == expected


def test_failure_of_a_worker_is_reported(config, tmp_path):
    problem = Line()
    config.training.workers = 2
    calls = problem.parts

    def fail_in_worker(batch, number):
        if multiprocessing.parent_process() is not None:
            raise ValueError("no such part")
        return calls(batch, number)

    problem.parts = fail_in_worker
    with pytest.raises(RuntimeError, match=r"worker 1 failed:(.|\n)*no such part"):
        trainer(problem, config, tmp_path).run()


def test_end_of_a_worker_is_reported(config, tmp_path):
    problem = Line()
    config.training.workers = 2
    calls = problem.parts

    def die_in_worker(batch, number):
        if multiprocessing.parent_process() is not None:
            os._exit(7)
        return calls(batch, number)

    problem.parts = die_in_worker
    with pytest.raises(RuntimeError, match="worker 1 ended with status 7"):
        trainer(problem, config, tmp_path).run()


def test_learning_rate():
    stage = {"name": "s", "epochs": 10, "loss": {}, "fixed_point_training_options": {"mode": "direct"}}
    exponential = Stage(lr=0.1, lr_final=0.001, **stage)
    cosine = Stage(lr=0.1, lr_final=0.001, lr_decay="cosine", **stage)
    assert [learning_rate(exponential, f) for f in (0, 0.5, 1)] == pytest.approx([0.1, 0.01, 0.001])
    assert [learning_rate(cosine, f) for f in (0, 0.5, 1)] == pytest.approx([0.1, 0.0505, 0.001])
    assert learning_rate(Stage(lr=0.1, **stage), 0.7) == 0.1


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
    with average.applied():
        assert parameter.item() == pytest.approx(expected)
    assert parameter.item() == 4.0
