"""Several processes give the losses, gradients and parameters of one; what goes wrong in one ends all."""

import multiprocessing
import os
import time

import pytest
import torch
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint, distributed
from fp_potential.train.trainer.gradients import BatchGradient

from line_problem import Line, line_config, line_trainer, log_rows


def in_worker():
    return multiprocessing.parent_process() is not None


def gradients_of_an_epoch(problem, workers):
    stage = line_config().train_schedule[1]
    parameters = list(problem.module.parameters())

    def epoch():
        distributed.same_start(problem.module)
        gradient = BatchGradient(problem, parameters, stage)
        found = []
        for content in problem.plan("train", seed=5):
            part = gradient.load(content)
            value = gradient.value(part)
            result = gradient.gradient(part)
            assert value.total == result.total
            found.append(
                (result.total, result.terms["square"], result.structures, [p.grad.clone() for p in parameters])
            )
            with torch.no_grad():
                for parameter in parameters:
                    parameter.sub_(0.1 * parameter.grad)
        return found

    return distributed.run_together(workers, epoch)


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_workers_give_the_losses_and_gradients_of_one_process(workers):
    start, problem = Line(), Line()
    problem.module.load_state_dict(start.module.state_dict())
    expected = gradients_of_an_epoch(start, 1)
    found = gradients_of_an_epoch(problem, workers)
    for (loss, term, structures, gradient), other in zip(expected, found, strict=True):
        assert other[:2] == pytest.approx((loss, term), rel=1e-12) and other[2] == structures == 3
        torch.testing.assert_close(other[3], gradient)


@pytest.mark.parametrize("optimizer", ["adam", "lbfgs", "schedulefree"])
def test_run_with_workers_is_that_of_one_process(tmp_path, optimizer):
    stages = [{"epochs": 2, "lr": 0.1}, {"epochs": 1, "workflow": "monte_carlo", "monte_carlo": {"move": 0.1}}]
    for workers in (1, 2):
        config = line_config(*stages, optimizer=optimizer, workers=workers)
        line_trainer(Line(), config, tmp_path / str(workers)).run()
    for expected, row in zip(log_rows(tmp_path / "1"), log_rows(tmp_path / "2"), strict=True):
        assert row.pop("stage") == expected.pop("stage")
        assert [float(x or 0) for x in row.values()] == pytest.approx([float(x or 0) for x in expected.values()], 1e-9)
    ends = [checkpoint.load(tmp_path / n / "checkpoints" / "latest.pt")["module"] for n in ("1", "2")]
    torch.testing.assert_close(*ends, rtol=1e-10, atol=1e-10)


def test_run_with_workers_resumes_as_well(tmp_path):
    config = line_config(workers=2, checkpoint_steps=1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    line_trainer(Line(), config, whole).run()
    interrupted = Line()
    interrupted.stop_after = 6
    with pytest.raises((KeyboardInterrupt, RuntimeError)):
        line_trainer(interrupted, config, parts).run()
    state = checkpoint.load(parts / "checkpoints" / checkpoint.LATEST)
    assert (state["epoch"], state["step"]) == (1, 2)
    line_trainer(Line(), config, parts, state).run()
    assert log_rows(parts) == log_rows(whole)


def failing_in_worker(fail):
    problem = Line()
    batch = problem.batch

    def fail_there(*arguments):
        if in_worker():
            fail()
        return batch(*arguments)

    problem.batch = fail_there
    return problem


def test_failure_of_a_worker_is_reported(tmp_path):
    def fail():
        raise ValueError("no such part")

    with pytest.raises(RuntimeError, match=r"worker 1 failed:(.|\n)*no such part"):
        line_trainer(failing_in_worker(fail), line_config(workers=2), tmp_path).run()
    assert not multiprocessing.active_children()


def test_bad_input_found_by_a_worker_is_reported_as_such(tmp_path):
    def fail():
        raise InputError("frame 7: bad")

    with pytest.raises(InputError, match=r"^frame 7: bad$"):
        line_trainer(failing_in_worker(fail), line_config(workers=3), tmp_path).run()


def test_end_of_a_worker_is_reported(tmp_path):
    with pytest.raises(RuntimeError, match="worker 1 ended with status 7"):
        line_trainer(failing_in_worker(lambda: os._exit(7)), line_config(workers=2), tmp_path).run()


def test_failure_of_the_main_process_ends_the_workers(tmp_path):
    problem = Line()
    batch = problem.batch

    def fail_here(*arguments):
        if not in_worker():
            time.sleep(0.2)  # the worker waits for the sum
            raise MemoryError("too large")
        return batch(*arguments)

    problem.batch = fail_here
    with pytest.raises(MemoryError):
        line_trainer(problem, line_config(workers=2), tmp_path).run()
    assert not multiprocessing.active_children()


def test_loss_that_is_not_finite_in_one_part_stops_all(tmp_path):
    problem = Line()
    exact = problem.loss

    def spoilt(batch, stage, differentiable=True):
        problem.spoil = in_worker()
        return exact(batch, stage, differentiable)

    problem.loss = spoilt
    with pytest.raises(InputError, match="the loss is nan in epoch 0, step 0"):
        line_trainer(problem, line_config(workers=2), tmp_path).run()


def test_shares_and_gathers():
    def all_of_it():
        return [item for part in distributed.gather(list(distributed.own(list("abcdefg")))) for item in part]

    assert distributed.run_together(3, all_of_it) == list("abcdefg")
    assert all_of_it() == list("abcdefg")
    assert distributed.run_together(2, lambda: distributed.from_main("main" if not in_worker() else "worker")) == "main"
