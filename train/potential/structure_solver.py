"""A model archive on one structure at a time, for differences of its charges (`fp_potential.conduction`)."""

from __future__ import annotations

from typing import Any

import torch
from ase.data import atomic_numbers
from torch import Tensor

from ...conduction import StructureSolver
from ...export import run_model
from ...graph import Graph
from ...options import SCFOptions
from ...scf.settings import settings_of

#: tolerance and steps of loops whose charges are subtracted from one another, in double precision
TOLERANCE, STEPS = 1e-8, 200


def structure_solver(
    module: torch.jit.ScriptModule, metadata: dict[str, Any], options: SCFOptions, device: str | torch.device = "cpu"
) -> StructureSolver:
    """An archive, as `load_model` gives it, of any age: only its ``forward`` is called.

    The loop runs with ``options`` exactly; `tight` gives those that differences need.
    """
    settings = settings_of(options)

    def run(graph: Graph, constant_charge: bool, density: Tensor, level: Tensor) -> dict[str, Tensor]:
        # no forces are read, so that the adjoint is left out
        return run_model(module, *graph, *settings, constant_charge, False, density, level)

    elements = [atomic_numbers[symbol] for symbol in metadata["elements"]]
    dtype = getattr(torch, metadata["dtype"])
    return StructureSolver(run, elements, float(metadata["cutoff"]), dtype, torch.device(device))


def tight(options: SCFOptions, metadata: dict[str, Any]) -> SCFOptions:
    """``options`` with the tolerance and the steps that differences of charges need; in single precision their own."""
    tolerance = min(options.scf_tolerance, TOLERANCE) if metadata["dtype"] == "float64" else options.scf_tolerance
    steps = max(options.num_scf_steps, STEPS)
    return options.model_copy(update={"scf_tolerance": tolerance, "num_scf_steps": steps})
