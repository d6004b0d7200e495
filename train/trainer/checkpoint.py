"""Checkpoints: written whole or not at all, and compared with the configuration that wants to resume them.

A checkpoint is a dictionary saved by torch: ``format``, ``config`` (resolved), ``data`` (fingerprint), ``problem``
(`Problem.state`), ``module``, ``optimizer`` (state) and ``optimizer_name``, ``average`` (the values that the
parameters have in evaluation, and the steps of the running average), ``average_names``, ``generators``, ``epoch`` (the
one to go on with), ``step`` (number of its steps that are done), ``epoch_so_far`` (sums over these), ``stage`` (the one
that began last), ``pacing`` and ``workflow`` (its state), and ``best``. It serves to resume; a model to run is exported
from it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...files import replaced
from ..config.schema import validate
from ..errors import InputError
from .options import RunOptions, TrainingOptions
from .problem import Problem

FORMAT = 2
#: what format 1, which had no steps inside of an epoch, did not hold
SINCE_1: dict[str, Any] = {"step": 0, "epoch_so_far": None, "pacing": None, "workflow": {}}
LATEST = "latest.pt"
BEST = "best.pt"

#: options that may differ between a checkpoint and the run that resumes it, besides `Problem.free_options`
FREE_OPTIONS = (
    "run_dir",
    "training.device",
    "training.num_threads",
    "training.eval_every",
    "training.checkpoint_every",
    "training.tensorboard",
    "training.valid_batch_size",
    "training.workers",
    "training.accumulate",
    "training.checkpoint_minutes",
    "training.checkpoint_steps",
)


def save(state: dict[str, Any], path: Path) -> None:
    """Write ``state`` so that ``path`` holds the old or the new checkpoint, never a part of one."""
    # the inner block ends first: the file is closed when it takes its place
    with replaced(path) as temporary, open(temporary, "wb") as file:
        torch.save({"format": FORMAT, **state}, file)


def due(options: TrainingOptions, step: int, saved: float) -> bool:
    """Whether a checkpoint inside of the epoch is due after ``step`` steps, the last being of the time ``saved``."""
    if options.checkpoint_steps is not None and step % options.checkpoint_steps == 0:
        return True
    minutes = options.checkpoint_minutes
    return minutes is not None and time.monotonic() - saved >= 60 * minutes


def remove_unfinished(folder: Path) -> None:
    """Remove what processes that were killed while they wrote left in ``folder``."""
    for path in folder.glob("*.pt*.tmp"):
        path.unlink(missing_ok=True)


def load(path: Path) -> dict[str, Any]:
    """The checkpoint at ``path`` on the CPU.

    Raises:
        InputError: missing, unreadable, or of another format.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint '{path}'; train first")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: not a readable checkpoint ({type(error).__name__}: {error}); remove it or train "
            "into another folder"
        ) from error
    found = state.get("format") if isinstance(state, dict) else None
    if found == 1:
        begun = [
            number for number, stage in enumerate(state["config"]["train_schedule"]) if stage["start"] < state["epoch"]
        ]
        name = state["config"]["training"]["optimizer"]
        return SINCE_1 | {"stage": max(begun, default=-1), "optimizer_name": name} | state
    if found != FORMAT:
        raise InputError(f"{path}: checkpoint format {found}, this version reads 1 and {FORMAT}")
    return state


def generators(device: torch.device) -> dict[str, Tensor | None]:
    """States of torch's generators of random numbers, that of ``device`` among them."""
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_generators(states: dict[str, Any], device: torch.device) -> None:
    """Continue from `generators`."""
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and states.get("cuda") is not None:
        torch.cuda.set_rng_state(states["cuda"], device)


def check_resumable(state: dict[str, Any], config: RunOptions, data: str, path: Path, problem: type[Problem]) -> None:
    """Refuse a resume that would not continue the same run.

    Stages that have not begun may be changed, added or removed.

    Args:
        state: the checkpoint, read from ``path``.
        config: options of the run that wants to resume it.
        data: fingerprint of its data.
        path: named in messages.
        problem: what is trained; it knows the class of the options, and those that may differ.

    Raises:
        InputError: naming each differing option with both values.
    """
    # through the schema, so that options newer than the checkpoint have their defaults
    old = validate(state["config"], problem.config_type, f"options in {path}").model_dump(mode="json")
    new = config.model_dump(mode="json")
    begun = state["epoch"] + (1 if state["step"] else 0)
    free = (*FREE_OPTIONS, *problem.free_options)
    differing = _differences(_comparable(old, begun, free), _comparable(new, begun, free))
    if data != state["data"]:
        differing.append(f"the frames of the data files (fingerprint {state['data']} -> {data})")
    if differing:
        raise InputError(
            f"cannot resume {path}: it was made with other options:\n  "
            + "\n  ".join(differing)
            + "\nrestore them, choose another run_dir, or start anew with --restart"
        )


def _comparable(config: dict[str, Any], begun: int, free: Sequence[str]) -> dict[str, Any]:
    """Options that must agree, by their dotted names: all but ``free`` ones and those of stages from ``begun`` on."""
    flat = _flatten({key: value for key, value in config.items() if key != "train_schedule"})
    for number, stage in enumerate(config["train_schedule"]):
        if stage["start"] < begun:
            flat |= _flatten(stage, f"train_schedule.{number}.")
    return {
        name: value
        for name, value in flat.items()
        if not any(name == option or name.startswith(option + ".") for option in free)
    }


def _flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, content in value.items():
        if isinstance(content, dict):
            flat |= _flatten(content, f"{prefix}{key}.")
        else:
            flat[prefix + str(key)] = content
    return flat


def _differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    absent = "(absent)"
    return [
        f"{name}: {old.get(name, absent)} -> {new.get(name, absent)}"
        for name in sorted(old.keys() | new.keys())
        if old.get(name, absent) != new.get(name, absent)
    ]
