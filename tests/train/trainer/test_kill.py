"""Runs that are killed (SIGKILL) at any moment and started again by the same command give the bits of a whole run."""

import csv
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from fp_potential.train.potential.trained import find_checkpoint
from fp_potential.train.trainer import checkpoint

from line_problem import Line, line_config, line_trainer, log_rows, same_state
from training_data import training_file, write_frames


def run_line(config, folder, kill_at=None):
    """A run of :class:`Line`, resumed if it can be; killed at its ``kill_at``-th operation on a file."""
    operations = 0

    def counted(function, before):
        def call(*arguments, **named):
            nonlocal operations
            operations += 1
            if operations == kill_at:
                before(*arguments)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return call

    def half(state, file):
        file.write(os.urandom(1000))
        file.flush()

    os.fsync = counted(os.fsync, lambda *_: None)
    os.replace = counted(os.replace, lambda *_: None)
    torch.save = counted(torch.save, half)
    path = folder / "checkpoints" / checkpoint.LATEST
    line_trainer(Line(), config, folder, checkpoint.load(path) if path.is_file() else None).run()


def assert_same_run(one, other):
    assert log_rows(one) == log_rows(other)
    assert (one / "test_table.txt").read_text() == (other / "test_table.txt").read_text()
    names = sorted(path.name for path in (one / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (other / "checkpoints").iterdir())
    for name in names:
        states = [checkpoint.load(folder / "checkpoints" / name) for folder in (one, other)]
        for state in states:
            del state["config"]["run_dir"]
        assert same_state(*states), name


def test_killed_at_any_operation_on_a_file(tmp_path):
    """Before each fsync and rename, and half way through writing a checkpoint."""
    config = line_config(
        {"epochs": 8, "lr": 0.1},
        {"epochs": 4, "workflow": "monte_carlo", "monte_carlo": {"move": 0.1, "temperature": 0.5}},
        checkpoint_steps=2,
    )
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    line_trainer(Line(), config, whole).run()
    context = multiprocessing.get_context("fork")
    chosen = random.Random(5)
    kills = 0
    while True:
        process = context.Process(target=run_line, args=(config, parts, chosen.randint(1, 22)))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        assert kills < 300
    assert kills >= 10
    assert_same_run(whole, parts)


def test_row_that_was_half_written_is_dropped(tmp_path):
    config = line_config()
    line_trainer(Line(), config, tmp_path / "whole").run()
    folder = tmp_path / "parts"
    problem = Line()
    problem.stop_after = 14
    with pytest.raises(KeyboardInterrupt):
        line_trainer(problem, config, folder).run()
    with open(folder / "log.csv", "a", encoding="utf-8") as file:
        file.write("1")  # of epoch 12, say
    state = checkpoint.load(folder / "checkpoints" / checkpoint.LATEST)
    line_trainer(Line(), config, folder, state).run()
    assert log_rows(folder) == log_rows(tmp_path / "whole")


def training_command(folder, name):
    return [sys.executable, "-m", "fp_potential.train", str(folder / "train.yaml"), f"run_dir={folder / name}"]


@pytest.mark.slow
def test_killed_at_ten_random_moments(tmp_path):
    """The command itself, on a potential; moments counted from the start and from the first sign of training."""
    path = training_file(tmp_path, write_frames(tmp_path / "frames.xyz"))
    content = yaml.safe_load(path.read_text())
    content["training"] |= {"batch_size": 2, "checkpoint_steps": 1}
    for stage in content["train_schedule"]:
        stage["epochs"] = 12
    path.write_text(yaml.safe_dump(content))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "env": environment, "cwd": tmp_path}
    subprocess.run(training_command(tmp_path, "whole"), check=True, **quiet)
    latest = tmp_path / "parts" / "checkpoints" / checkpoint.LATEST
    chosen = random.Random(11)
    positions = []
    for kill in range(10):
        before = latest.stat().st_mtime_ns if latest.is_file() else 0
        process = subprocess.Popen(training_command(tmp_path, "parts"), **quiet)
        if kill % 4 == 3:
            time.sleep(chosen.uniform(0, 4))
        else:
            while not latest.is_file() or latest.stat().st_mtime_ns == before:
                assert process.poll() is None, process.stderr.read().decode()
                time.sleep(0.002)
            time.sleep(chosen.uniform(0, 0.25))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        state = checkpoint.load(latest)
        positions.append((state["epoch"], state["step"]))
    assert positions == sorted(positions) and any(step for _, step in positions)
    assert positions[-1] < (24, 0)
    subprocess.run(training_command(tmp_path, "parts"), check=True, **quiet)
    assert_same_run(tmp_path / "whole", tmp_path / "parts")
    with open(tmp_path / "parts" / "log.csv", newline="", encoding="utf-8") as file:
        assert [int(row["epoch"]) for row in csv.DictReader(file)] == list(range(24))
    assert checkpoint.load(find_checkpoint(tmp_path / "parts"))["epoch"] == 24
