"""``fixedpoint train``: a training file in, a run folder out.

This is the one place that knows which `Problem` a training file means. The run folder holds ``config.yaml``
(all options as used), ``log.csv`` (one row per epoch), ``checkpoints/`` and, at the end, ``test_table.txt``.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from ..files import write_whole
from .data.frame_sequence import fingerprint
from .data.sets import load_data
from .errors import InputError
from .potential.config import TrainConfig
from .potential.problem import PotentialProblem
from .trainer import checkpoint, distributed
from .trainer.log import EVENTS
from .trainer.memory import keep_freed_memory
from .trainer.options import RunOptions
from .trainer.problem import Problem
from .trainer.trainer import Trainer


def train(config: TrainConfig, console: Console | None = None, restart: bool = False) -> str:
    """Train, or continue the run in ``config.run_dir``; returns the test table.

    Args:
        restart: start anew even if the folder holds a run (its results are removed).

    Raises:
        InputError: bad data or options, or a run with other options in the folder.
    """
    keep_freed_memory()
    with distributed.joined(config.training.device) as device:
        if distributed.ranks() > 1:
            config = _for_torchrun(config, device)
        console = (console or Console()) if distributed.is_main() else Console(quiet=True)
        return _train(config, console, restart)


def check(config: TrainConfig, console: Console | None = None, restart: bool = False) -> PotentialProblem:
    """Read and check everything that `train` would, print it and all options as resolved; nothing is written.

    Args:
        restart: what the folder holds of a run would be removed: it is not compared.

    Raises:
        InputError: bad data or options, or a run with other options in the folder.
    """
    console = console or Console()
    prepare_torch(config)
    _check_folder(Path(config.run_dir))
    problem, _, state = _problem(config, None, restart)
    _introduce(console, config, problem)
    if state is not None:
        total = sum(stage.length for stage in config.train_schedule)
        console.print(f"would continue the run in {config.run_dir} after epoch {state['epoch']} of {total}")
    resolved = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    console.print(f"\n{resolved}", highlight=False, markup=False, soft_wrap=True)
    return problem


def _check_folder(run_dir: Path) -> None:
    """Refuse a run folder that can be none.

    Raises:
        InputError: something in its path is a file.
    """
    for place in (run_dir, *run_dir.parents):
        if place.exists():
            if not place.is_dir():
                raise InputError(f"run_dir '{run_dir}': {place} is a file, expected a folder; name another one")
            return


def _problem(
    config: TrainConfig, console: Console | None, restart: bool = False
) -> tuple[PotentialProblem, str, dict[str, Any] | None]:
    """What a training file means: the problem, the fingerprint of its data, and the checkpoint to continue from.

    Raises:
        InputError: bad data or options, or a run with other options in the folder.
    """
    data = load_data(config.data, console)
    frames = fingerprint(data.train, data.valid)
    path = Path(config.run_dir) / "checkpoints" / checkpoint.LATEST
    state: dict[str, Any] | None = None
    if path.is_file() and not restart:
        state = checkpoint.load(path)
        checkpoint.check_resumable(state, config, frames, path, PotentialProblem)
    return PotentialProblem(config, data, state["problem"] if state else None), frames, state


def _train(config: TrainConfig, console: Console, restart: bool) -> str:
    prepare_torch(config)
    run_dir = Path(config.run_dir)
    _check_folder(run_dir)
    if restart:
        if distributed.is_main():
            _remove_results(run_dir)
        distributed.gather(None)  # nobody looks for a checkpoint before it is gone
    problem, frames, state = _problem(config, console)
    _introduce(console, config, problem)
    trainer = Trainer(problem, config, run_dir, console, frames, state)
    if distributed.is_main():
        write_whole(run_dir / "config.yaml", yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    total = sum(stage.length for stage in config.train_schedule)
    if state:
        inside = f", step {trainer.step}" if trainer.step else ""
        done = "is finished" if trainer.epoch >= total else f"continues at epoch {trainer.epoch}{inside} of {total}"
        trainer.say(f"the run in {run_dir} {done}")
    try:
        table = trainer.run()
    except KeyboardInterrupt:
        trainer.say(f"stopped in epoch {trainer.epoch}; the same command continues from the last checkpoint")
        raise
    trainer.say("\n" + (f"test set, {table}" if table else "no test set"))
    trainer.say(f"\nnext: fixedpoint export {run_dir} model.pt")
    return table


def _for_torchrun(config: TrainConfig, device: str) -> TrainConfig:
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
    for line in [*problem.introduction(), machine]:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
