"""``fixedpoint train``: a training file in, a run folder out.

This is the one place that knows which `Problem` a training file means. The run folder holds ``config.yaml``
(all options as used), ``log.csv`` (one row per epoch), ``checkpoints/`` and, at the end, ``test_table.txt``.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from ..files import write_whole
from .bands.config import BandsTrainConfig
from .bands.data import fingerprint as bands_fingerprint
from .bands.problem import BandsProblem
from .bands.systems import load_systems
from .data.frame_sequence import fingerprint
from .data.sets import load_data
from .errors import InputError
from .potential.config import TrainConfig
from .potential.problem import PotentialProblem
from .trainer import checkpoint, distributed
from .trainer.idle import idle_options
from .trainer.log import EVENTS
from .trainer.memory import keep_freed_memory
from .trainer.options import RunOptions
from .trainer.problem import Problem
from .trainer.trainer import Trainer


def train(config: RunOptions, console: Console | None = None, restart: bool = False) -> str:
    """Train, or continue the run in ``config.run_dir``; returns the test table.

    Args:
        restart: start anew even if the folder holds a run (its results are removed).

    Raises:
        InputError: bad data or options, or a run with other options in the folder.
    """
    check_run_dir(config.run_dir)
    keep_freed_memory()
    with distributed.joined(config.training.device) as device:
        if distributed.ranks() > 1:
            config = _for_torchrun(config, device)
        console = (console or Console()) if distributed.is_main() else Console(quiet=True)
        return _train(config, console, restart)


def check(config: RunOptions, console: Console | None = None, restart: bool = False) -> Problem:
    """Read and check everything that `train` would, print it and all options as resolved; nothing is written.

    Args:
        restart: whether a run in the folder would be removed, and does not count.

    Raises:
        InputError: bad data or options, or a run with other options in the folder.
    """
    check_run_dir(config.run_dir)
    console = console or Console()
    prepare_torch(config)
    problem, _, state = _problem(config, None, restart)
    _introduce(console, config, problem)
    latest = Path(config.run_dir) / "checkpoints" / checkpoint.LATEST
    text = f"a new run in {config.run_dir}"
    if state is not None:
        text = _continued(config, state["epoch"], state["step"])
    elif latest.is_file():
        text += "; --restart removes the one that is there"
    console.print(text, highlight=False, markup=False, soft_wrap=True)
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    console.print(f"\n{resolved}", highlight=False, markup=False, soft_wrap=True)
    return problem


def check_run_dir(run_dir: str) -> None:
    """Refuse a folder of results that cannot be written, before anything is read.

    Raises:
        InputError: naming it, and what is in its place.
    """
    place = Path(run_dir).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        where = "is a file" if place == Path(run_dir).absolute() else f"cannot be made: '{place}' is a file"
        raise InputError(f"run_dir '{run_dir}' {where}; expected a folder, or a name that is free")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"run_dir '{run_dir}': no permission to write into '{place}'")


def _continued(config: RunOptions, epoch: int, step: int) -> str:
    total = sum(stage.length for stage in config.train_schedule)
    inside = f", step {step}" if step else ""
    done = "is finished" if epoch >= total else f"continues at epoch {epoch}{inside} of {total}"
    return f"the run in {config.run_dir} {done}"


def _problem(
    config: RunOptions, console: Console | None, restart: bool = False
) -> tuple[Problem, str, dict[str, Any] | None]:
    """What a training file means: the problem, the fingerprint of its data, and the checkpoint to continue from.

    Raises:
        InputError: bad data or options, or a run with other options in the folder.
    """
    if isinstance(config, BandsTrainConfig):
        systems = load_systems(config.systems)
        data = bands_fingerprint(systems)
        state = _state(config, data, BandsProblem, restart)
        return BandsProblem(config, systems), data, state
    assert isinstance(config, TrainConfig)
    sets = load_data(config.data, console)
    data = fingerprint(sets.train, sets.valid)
    state = _state(config, data, PotentialProblem, restart)
    return PotentialProblem(config, sets, state["problem"] if state else None), data, state


def _state(config: RunOptions, data: str, problem: type[Problem], restart: bool) -> dict[str, Any] | None:
    """The checkpoint to continue from, if there is one."""
    path = Path(config.run_dir) / "checkpoints" / checkpoint.LATEST
    if restart or not path.is_file():
        return None
    state = checkpoint.load(path)
    checkpoint.check_resumable(state, config, data, path, problem)
    return state


def _train(config: RunOptions, console: Console, restart: bool) -> str:
    prepare_torch(config)
    run_dir = Path(config.run_dir)
    if restart:
        if distributed.is_main():
            _remove_results(run_dir)
        distributed.gather(None)  # nobody looks for a checkpoint before it is gone
    problem, frames, state = _problem(config, console)
    _introduce(console, config, problem)
    if isinstance(problem, BandsProblem):
        config = problem.in_pieces()
    trainer = Trainer(problem, config, run_dir, console, frames, state)
    if distributed.is_main():
        write_whole(run_dir / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    if state:
        trainer.say(_continued(config, trainer.epoch, trainer.step))
    try:
        table = trainer.run()
    except KeyboardInterrupt:
        trainer.say(f"stopped in epoch {trainer.epoch}; the same command continues from the last checkpoint")
        raise
    if isinstance(problem, BandsProblem):
        with trainer.evaluated():
            trainer.say("", table, "", *problem.finish(), "", f"next: fixedpoint report {run_dir}")
        return table
    trainer.say("\n" + (f"test set, {table}" if table else "no test set"))
    trainer.say(f"\nnext: fixedpoint export {run_dir} model.pt")
    return table


def _for_torchrun(config: RunOptions, device: str) -> RunOptions:
    if config.training.workers > 1:
        raise InputError(
            f"training.workers: {config.training.workers} forks processes by itself; with torchrun leave it at 1"
        )
    return config.model_copy(update={"training": config.training.model_copy(update={"device": device})})


def prepare_torch(config: RunOptions) -> None:
    """Threads and device of the run.

    Raises:
        InputError: the device does not exist.
    """
    threads = config.training.num_threads or (1 if config.training.workers > 1 else None)
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        torch.zeros(1, device=config.training.device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"training.device '{config.training.device}' cannot be used: {str(error).splitlines()[0]}; use cpu or cuda"
        ) from error


def _remove_results(run_dir: Path) -> None:
    for name in ("checkpoints", EVENTS):
        shutil.rmtree(run_dir / name, ignore_errors=True)
    for name in ("log.csv", "test_table.txt", "config.yaml"):
        (run_dir / name).unlink(missing_ok=True)


def _introduce(console: Console, config: RunOptions, problem: Problem) -> None:
    parameters = sum(parameter.numel() for parameter in problem.module.parameters())
    processes = max(config.training.workers, distributed.ranks())
    machine = (
        f"{parameters} parameters, {config.training.default_dtype}, {config.training.device}, "
        f"{torch.get_num_threads()} threads" + (f" in each of {processes} processes" if processes > 1 else "")
    )
    for line in [*problem.introduction(), *idle_options(config), machine]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
