"""torchrun gives the run of one process, and ends with the message of a process that fails."""

import csv
import os
import subprocess
import sys

import pytest
import torch
from fp_potential.train.potential.trained import find_checkpoint
from fp_potential.train.trainer import checkpoint

from training_data import training_file, write_frames

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]

FAILING = """
import os, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from rich.console import Console
from fp_potential.train.trainer import distributed
from line_problem import Line, line_config, line_trainer

problem = Line()
batch = problem.batch
def fail_in_process_1(*arguments):
    if os.environ["RANK"] == "1":
        raise MemoryError("no more memory in process 1")
    return batch(*arguments)
problem.batch = fail_in_process_1
with distributed.joined("cpu"):
    assert distributed.ranks() == 2
    line_trainer(problem, line_config(), Path({folder!r})).run()
"""


def environment():
    kept = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE", "LOCAL_RANK")}
    return kept | {"OMP_NUM_THREADS": "1"}


def losses(folder):
    with open(folder / "log.csv", newline="", encoding="utf-8") as file:
        return [(row["stage"], float(row["train loss"]), float(row["valid loss"])) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_two_processes_give_the_run_of_one(tmp_path):
    """Losses of all epochs to 1e-10 relative (what the log shows), parameters to 1e-10, one log, one table."""
    path = training_file(tmp_path, write_frames(tmp_path / "frames.xyz"))
    arguments = ["-m", "fp_potential.train", str(path), "train_schedule.1.epochs=3"]
    for name, start in (("one", [sys.executable]), ("two", TORCHRUN)):
        command = [*start, *arguments, f"run_dir={tmp_path / name}"]
        subprocess.run(command, check=True, env=environment(), cwd=tmp_path, timeout=300, capture_output=True)
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(one) == len(two) == 5
    for (stage, *expected), (other, *found) in zip(one, two, strict=True):
        assert other == stage and found == pytest.approx(expected, rel=2e-10)
    states = [checkpoint.load(find_checkpoint(tmp_path / name)) for name in ("one", "two")]
    sums = [state["best"]["loss"] for state in states]
    assert sums[1] == pytest.approx(sums[0], rel=1e-12)
    for name, value in states[0]["module"].items():
        torch.testing.assert_close(states[1]["module"][name], value, rtol=1e-10, atol=1e-10)
    tables = [(tmp_path / name / "test_table.txt").read_text() for name in ("one", "two")]
    assert tables[0] == tables[1]


def test_failing_process_ends_all_with_its_message(tmp_path):
    script = tmp_path / "failing.py"
    tests = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    script.write_text(FAILING.format(tests=tests, folder=str(tmp_path / "run")))
    done = subprocess.run(
        [*TORCHRUN, str(script)], env=environment(), cwd=tmp_path, timeout=120, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "no more memory in process 1" in done.stderr
