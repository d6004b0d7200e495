"""Options of the self-consistent loop that a stage gives and that change nothing in its mode."""

from __future__ import annotations

from collections.abc import Iterator

from ...density.density_map import DensityMap
from ...options import SCFOptions
from ...options.scf import HISTORY
from ..trainer.idle import given, no_effect
from .config import Stage, TrainConfig
from .modes.density import DENSE_ATOMS

_NO_SOLUTION = "but where a structure has no solution and is unrolled"


def idle_scf_options(config: TrainConfig, density_map: DensityMap) -> list[str]:
    """A line for each option, or several with one reason, that has no effect in its stage.

    Args:
        config: the training file.
        density_map: whose update is linear, affine or neither.
    """
    lines = []
    for number, stage in enumerate(config.train_schedule):
        for text in _of_stage(stage, density_map):
            lines.append(f"train_schedule.{number} ('{stage.name}'): scf.{text}")
    return lines


def _of_stage(stage: Stage, density_map: DensityMap) -> Iterator[str]:
    mode, scf = stage.fixed_point_training_options.mode, stage.fixed_point_training_options.scf
    if mode == "direct" or scf is None:
        return
    written = scf.model_fields_set
    direct_solve = mode == "linearize_solve" and density_map.linear
    if mode == "unroll_scf":
        names = given(scf, ["scf_tolerance"])
        yield from no_effect(names, "unroll_scf takes num_scf_steps steps (the log counts as converged what is below)")
        names = [name for name in ("solver",) if name in written and scf.solver == "anderson"]
        yield from no_effect(names, "unroll_scf mixes linearly")
    elif direct_solve:
        names = [name for name in ("num_scf_steps", "mixing_parameter") if name in written]
        names += given(scf, ["scf_tolerance", "initial_density", "solver"])
        reason = f"a linear system is solved per structure of up to {DENSE_ATOMS} atoms without a mesh, {_NO_SOLUTION}"
        yield from no_effect(names, reason)
    elif scf.solver == "anderson" and "mixing_parameter" in written:
        yield from no_effect(["mixing_parameter"], f"it is one of solver: linear, {_NO_SOLUTION}")
    yield from no_effect(given(scf, ["history"]), f"the loop of a training remembers {HISTORY} steps")
    yield from _level(scf, density_map)


def _level(scf: SCFOptions, density_map: DensityMap) -> Iterator[str]:
    names = given(scf, ["initial_fermi_level"])
    if not scf.constant_charge:
        yield from no_effect(names, "constant_charge: false holds the level of the data")
    elif density_map.affine:
        yield from no_effect(names, "the level of this type of update follows from the charge without a search")
