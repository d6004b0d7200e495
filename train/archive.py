"""From options or a checkpoint to a model, from a model to numbers: what training, export and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..electrostatics import Electrostatics
from ..electrostatics.nuclei import potentials_at_nuclei
from ..graph import Graph
from ..model import FixedPointPotential
from ..options import ModelOptions, ModelStatistics, SCFOptions
from . import checkpoint
from .config import TrainConfig
from .errors import InputError
from .modes import stress_of
from .schema import validate


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
    config, data = state["config"], state["config"]["data"]
    return {
        "epochs": state["epoch"],
        "weights": weights,
        "frames": state["problem"]["frames"],
        # what a training that starts from the archive needs (transfer.py)
        "statistics": state["problem"]["statistics"],
        "field_feature_widths": config["model"]["field_feature_widths"],
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
            "units": data.get("units"),
        },
    }


#: further properties of a solution -> the label they are compared with
LABEL_OF_PROPERTY = {
    "esps": "electrostatic_potentials",
    "polarizability": "polarizability",
    "born_charges": "born_charges",
}


def solve(
    model: FixedPointPotential, graph: Graph, scf: SCFOptions, properties: Collection[str] = ()
) -> dict[str, Tensor]:
    """The model's own solution from the local guess: energy, forces, stress and density, without gradients left.

    Keys are those of the model archive, ``stress`` [B, 3, 3] in eV/Å³ (`modes.stress_of`), and ``properties``, names
    of ``LABEL_OF_PROPERTY``.
    """
    nothing = graph.positions.new_zeros((0, 4))
    loop = (scf.num_scf_steps, scf.scf_tolerance, scf.mixing_parameter, scf.solver, scf.constant_charge)
    output = model.evaluate(graph, *loop, scf.use_autograd_forces, True, nothing, nothing[:, 0])

    def responses() -> dict[str, Tensor]:
        return model.responses(graph, *loop, nothing, nothing[:, 0])

    return with_properties(with_stress(output, graph), graph, properties, model.electrostatics, responses)


def with_properties(
    output: dict[str, Tensor],
    graph: Graph,
    properties: Collection[str],
    electrostatics: Electrostatics,
    responses: Callable[[], dict[str, Tensor]],
) -> dict[str, Tensor]:
    """``output`` with ``properties``, names of ``LABEL_OF_PROPERTY``, of its density.

    ``responses`` gives those of the dipole as `SelfConsistentModel.responses` does; they are defined along open axes.
    """
    found = dict(output)
    if "esps" in properties:
        arguments = (electrostatics, graph.positions, graph.cell, graph.pbc, graph.batch, output["density"])
        external = (graph.external_field[graph.batch] * graph.positions).sum(1)
        found["esps"] = potentials_at_nuclei(*arguments) + external
    if {"polarizability", "born_charges"} & set(properties):
        response = responses()
        found["status"] = torch.where(output["status"] == 0, response["status"], output["status"])
        # the field is F = -E
        found["polarizability"] = -response["dipole_by_field"].detach()
        found["born_charges"] = response["dipole_by_positions"].detach()
    return found


def with_stress(output: dict[str, Tensor], graph: Graph) -> dict[str, Tensor]:
    """``output`` with the stress dE/d(strain)/V, symmetric, from ``strain_gradient`` (`modes.stress_of`)."""
    return output | {"stress": stress_of(output["strain_gradient"], graph)}
