"""A run of a pseudopotential, read back: its problem with the parameters of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..config.schema import validate
from ..errors import InputError
from ..trainer import checkpoint
from .config import BandsTrainConfig
from .problem import BandsProblem
from .systems import load_systems


def load_run(folder: Path, which: str = "latest") -> tuple[BandsProblem, dict[str, Any]]:
    """The problem of a run folder with the parameters that its checkpoint has in evaluation, and the checkpoint.

    Args:
        folder: of the run.
        which: latest, best or stage_N.

    Raises:
        InputError: no such checkpoint, or data that cannot be read.
    """
    path = folder / "checkpoints" / f"{which}.pt"
    state = checkpoint.load(path)
    if "species" not in state["problem"]:
        raise InputError(f"{path}: not a run of a pseudopotential fitted to bands")
    config = validate(state["config"], BandsTrainConfig, str(path))
    problem = BandsProblem(config.model_copy(update={"run_dir": str(folder)}), load_systems(config.systems))
    problem.module.load_state_dict(state["module"])
    if state["average"] is not None:
        values = dict(zip(state["average_names"], state["average"]["average"], strict=True))
        with torch.no_grad():
            for name, parameter in problem.module.named_parameters():
                if name in values:
                    parameter.copy_(values[name])
    return problem, state


def is_bands_run(folder: Path) -> bool:
    """Whether ``folder`` is a run of a pseudopotential, by its resolved options."""
    path = folder / "config.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return False
    return any(line.strip() == "type: bands" for line in text.splitlines())
