"""Small training files of pseudopotentials, whose reference is another potential of the same form."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from fp_potential.train.bands.config import BandsTrainConfig
from fp_potential.train.bands.problem import BandsProblem
from fp_potential.train.bands.systems import load_systems
from fp_potential.train.config.schema import validate
from fp_potential.train.trainer.trainer import Trainer
from rich.console import Console

ZUNGER = {
    "In": [50.61980368, 2.16277701, 3.04453741, 0.54417263, 0.3, 0.25, 0.1, -0.05, 0.2],
    "Ga": [50.77527, 2.29528, 3.72039, 0.59164, 0.2, 0.2, -0.1, 0.05, 0.3],
    "As": [25.80944629, 2.58859458, 1.58196225, 0.51424374, -0.3, 0.4, 0.05, 0.02, -0.1],
}
#: Γ and L, whose states are degenerate, and two points of no symmetry
KPOINTS = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.1, 0.25, 0.4], [0.3, 0.05, 0.2]]
CELL = {"In": 11.4485278, "Ga": 10.6826}


def system(cation: str = "In", **options: Any) -> dict[str, Any]:
    """Zinc-blende arsenide with a reference of zeros, to be replaced by `reference`."""
    cell = {
        "scale": CELL[cation],
        "vectors": [[0.0, 0.5, 0.5], [0.5, 0.0, 0.5], [0.5, 0.5, 0.0]],
        "atoms": [[cation, 0.125, 0.125, 0.125], ["As", -0.125, -0.125, -0.125]],
    }
    own = {"name": f"{cation}As", "cell": cell, "max_ke": 1.5, "n_bands": 10, "kpoints": KPOINTS}
    own["bands"] = [[float(row)] + [0.0] * 10 for row in range(len(options.get("kpoints", KPOINTS)))]
    return own | options


def bands_config(
    *stages: dict[str, Any],
    model: dict[str, Any] | None = None,
    systems: list[dict[str, Any]] | None = None,
    objective: dict[str, Any] | None = None,
    run_dir: str = "run",
    **training: Any,
) -> BandsTrainConfig:
    """A training file; the model is analytic unless ``model`` says otherwise."""
    default = [{"name": "descent", "epochs": 3, "lr": 0.01}]
    content = {
        "run_dir": run_dir,
        "model": {"type": "bands", "parameters": ZUNGER} | (model or {}),
        "systems": systems or [system("In"), system("Ga")],
        "objective": objective or {},
        "training": {"seed": 3} | training,
        "train_schedule": [{"name": f"stage{number}"} | stage for number, stage in enumerate(stages or default)],
        "outputs": {"plots": False, "n_q": 400, "n_r": 50, "q_max": 12.0},
    }
    return validate(content, BandsTrainConfig, "test")


def bands_problem(config: BandsTrainConfig, shift: float = 0.02) -> BandsProblem:
    """The problem, whose reference is the bands of analytic parameters larger by the part ``shift``."""
    problem = BandsProblem(config, load_systems(config.systems))
    set_reference(problem, shift)
    return problem


def set_reference(problem: BandsProblem, shift: float) -> None:
    """Bands of analytic parameters that are larger by the part ``shift``."""
    parameters = {name: [x * (1 + shift) for x in row] for name, row in ZUNGER.items()}
    model = problem.config.model.model_dump() | {"parameters": parameters, "local": {"form": "zunger"}}
    config = problem.config.model_copy(update={"model": type(problem.config.model)(**model)})
    other = BandsProblem(config, [own.data for own in problem.systems])
    for own, result in zip(problem.systems, other.results().systems, strict=True):
        own.reference.copy_(result.energies)


def bands_trainer(problem: BandsProblem, folder: Path, resumed: dict[str, Any] | None = None) -> Trainer:
    """A trainer that shows nothing."""
    problem.outputs.folder = folder
    return Trainer(problem, problem.in_pieces(), folder, Console(file=io.StringIO(), width=200), "data", resumed)


def start(problem: BandsProblem) -> list[str]:
    """Initialise as a run would."""
    return problem.initialise(problem.config.training.initialise, problem.config.training.seed)


def parameters_of(problem: BandsProblem) -> list[torch.Tensor]:
    """All that are trained."""
    return [p for group in problem.parameter_groups() for p in group["params"]]
