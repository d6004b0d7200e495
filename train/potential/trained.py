"""From options or a checkpoint to a model, from a model to numbers: what training, export and evaluation share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ...model import FixedPointPotential
from ...options import ModelOptions, ModelStatistics
from ..config.schema import validate
from ..errors import InputError
from ..trainer import checkpoint
from .config import TrainConfig


def build_model(
    options: ModelOptions, elements: Sequence[int], statistics: ModelStatistics, dtype: torch.dtype
) -> FixedPointPotential:
    """A new model in ``dtype``; its initial weights are those of torch's present random state."""
    return FixedPointPotential(options, list(elements), statistics).to(dtype)


def find_checkpoint(run: str | Path, which: str = "latest") -> Path:
    """The checkpoint file of a run folder, or ``run`` itself if it is a file.

    Raises:
        InputError: no such run or checkpoint; names those that exist.
    """
    run = Path(run)
    if run.is_file():
        if which != "latest":
            raise InputError(
                f"'{run}' is a checkpoint: there is no '{which}' of it; name the run folder, or no other one"
            )
        return run
    path = run / "checkpoints" / f"{which}.pt"
    if not path.is_file():
        present = sorted(file.stem for file in (run / "checkpoints").glob("*.pt"))
        if not present:
            raise InputError(f"'{run}' is no run folder: it has no checkpoints/; train first")
        raise InputError(f"'{run}' has no checkpoint '{which}'; present: {', '.join(present)}")
    return path


def load_trained(
    path: Path, averaged: bool = True, dtype: torch.dtype = torch.float64
) -> tuple[FixedPointPotential, dict[str, Any]]:
    """The model of a checkpoint, with the average of its weights if wanted and there is one, and the checkpoint.

    The model is built in ``dtype``, not converted to it: its coupling coefficients have the full precision of it,
    whatever the weights were trained in.
    """
    state = checkpoint.load(path)
    config = validate(state["config"], TrainConfig, str(path))
    problem = state["problem"]
    model = build_model(config.model, problem["elements"], ModelStatistics(**problem["statistics"]), dtype)
    model.load_state_dict(state["module"])
    if averaged and state["average"] is not None:
        names = state["average_names"]
        parameters = dict(model.named_parameters())
        with torch.no_grad():
            for name, value in zip(names, state["average"]["average"], strict=True):
                parameters[name].copy_(value)
    return model, state


def training_summary(state: dict[str, Any], weights: str) -> dict[str, Any]:
    """What the archive's metadata say of the training; ``data`` is what evaluation reads files with."""
    config, data, problem = state["config"], state["config"]["data"], state["problem"]
    return {
        "epochs": state["epoch"],
        "weights": weights,
        "frames": state["problem"]["frames"],
        # what a training that starts from the archive needs (transfer.py)
        "statistics": state["problem"]["statistics"],
        "field_feature_widths": config["model"]["field_feature_widths"],
        # beyond which calculations are said to be far from the training (fp_potential.training_ranges)
        "ranges": problem.get("ranges") or {},
        "stages": [
            {"name": stage["name"], "epochs": stage["epochs"], "mode": stage["fixed_point_training_options"]["mode"]}
            for stage in config["train_schedule"]
            if stage["start"] < state["epoch"]
        ],
        "data": {
            "files": [Path(name).name for name in data["files"]],
            "keys": {name: key for name, key in data["keys"].items() if key is not None},
            "split": data["split"],
            "kind_key": data["kind_key"],
            # of a prepared set those of its files
            "units": problem.get("units") or data.get("units"),
        },
    }
