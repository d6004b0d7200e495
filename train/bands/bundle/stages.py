"""Start and schedule of a published bundle: which of its workflows it means."""

from __future__ import annotations

import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError, nearest
from ...trainer.options import Optimizer
from . import files
from .keys import MC_KEYS, Values, values_of

#: optimisers of the published code that make no sense here, and why
REFUSED_OPTIMIZERS = {
    "sparseadam": "it is for sparse gradients, and those of a pseudopotential are dense: use adam",
}
#: strength of the published driver's penalty on spin-orbit parameters above 8
SPIN_ORBIT_PENALTY = 10.0
#: moves for a row of the log, at most, where a file does not say
ROWS = 100


def initialise(folder: Path, keys: Values, network: bool, notes: list[str]) -> dict[str, Any]:
    """Section ``training.initialise`` in the published order: checkpoint, table or Zunger fit, the network's own."""
    checkpoint, state = folder / "init_PPmodel.pth", folder / "init_AdamState.pth"
    table = folder / "init_qSpace_pot.par"
    epochs = keys.get("init_Zunger_num_epochs", 0)
    if epochs < 0:
        raise keys.wrong("init_Zunger_num_epochs", "0 or more epochs")
    if not network:
        for path in (checkpoint, state, table):
            if path.is_file():
                notes.append(f"{path.name} has no effect: the potential is analytic (PPmodel ZeroFunction)")
        return {}
    if state.is_file() and not checkpoint.is_file():
        raise InputError(
            f"{state}: a state of the optimiser without {checkpoint.name}; add that file, or remove this one"
        )
    if checkpoint.is_file():
        if epochs > 0:
            notes.append(f"init_Zunger_num_epochs has no effect beside {checkpoint.name}")
        found: dict[str, Any] = {"method": "checkpoint", "init_from": str(checkpoint.absolute())}
        return found | ({"optimizer_state": str(state.absolute())} if state.is_file() else {})
    if epochs == 0:
        if table.is_file():
            notes.append(f"{table.name} has no effect without init_Zunger_num_epochs > 0")
        return {}
    if "init_Zunger_optimizer_lr" not in keys:
        raise keys.wrong("init_Zunger_num_epochs", "init_Zunger_optimizer_lr beside it", "add its learning rate")
    fit: dict[str, Any] = {"epochs": epochs}
    for name, option in (
        ("init_Zunger_optimizer", "optimizer"),
        ("init_Zunger_optimizer_lr", "lr"),
        ("init_Zunger_scheduler_gamma", "gamma"),
        ("init_Zunger_printGrad", "print_gradients"),
        ("schedulerStep", "gamma_epochs"),
    ):
        if name in keys:
            fit[option] = keys[name]
    if keys.get("init_Zunger_plotEvery", 0) > 0:
        fit["plot_every"] = keys["init_Zunger_plotEvery"]
    if table.is_file():
        return {"method": "table", "table": str(table.absolute()), "fit": fit}
    return {"method": "zunger", "fit": fit}


def schedule(
    folder: Path, keys: Values, species: Sequence[str], network: bool, notes: list[str]
) -> list[dict[str, Any]]:
    """Section ``train_schedule``: gradient training, Monte Carlo or an evaluation."""
    epochs = keys.get("max_num_epochs", 0)
    if epochs < 0:
        raise keys.wrong("max_num_epochs", "0 or more epochs")
    if keys.get("mc_bool") and epochs > 0:
        raise keys.wrong(
            "mc_bool",
            f"0 beside max_num_epochs = {epochs}: a bundle is trained by gradients or by Monte Carlo",
            "set one of them to 0, or chain both as stages of a training file (fixedpoint bands convert)",
        )
    shared = _shared(keys)
    if epochs > 0:
        _without_effect(keys, "monte_carlo", notes)
        return [_gradient(keys, epochs) | shared]
    options = sorted(folder.glob("mcOpts*.par"))
    if keys.get("mc_bool"):
        _without_effect(keys, "gradient", notes)
        for name in ("mc_iter", "mc_percentage", "mc_beta"):
            if name not in keys:
                raise keys.wrong("mc_bool", f"{name} beside it", f"add {name}")
    if keys.get("mc_bool") or options:
        steps = _steps(folder, species, network, notes)
        if options:
            return [_tempering(path, keys, network, steps, notes) | shared for path in options]
        return [_monte_carlo(folder, keys, network, steps) | shared]
    _without_effect(keys, "gradient", notes)
    _without_effect(keys, "monte_carlo", notes)
    return [{"name": "evaluate", "workflow": "evaluate"} | shared]


def _shared(keys: Values) -> dict[str, Any]:
    if keys.get("smooth_reorder") and keys.get("eigvec_reorder"):
        raise keys.wrong("eigvec_reorder", "0 beside smooth_reorder = 1: bands have one order", "set one of them to 0")
    reorder = "smooth" if keys.get("smooth_reorder") else "eigenvectors" if keys.get("eigvec_reorder") else "none"
    return {} if reorder == "none" else {"reorder": reorder}


def _without_effect(keys: Values, mode: str, notes: list[str]) -> None:
    from .keys import NN_KEYS

    idle = [name for name in keys if NN_KEYS[name].needs == mode]
    if idle:
        switch = "max_num_epochs > 0" if mode == "gradient" else "mc_bool = 1"
        notes.append(f"without {switch} these have no effect: {', '.join(idle)}")


def _gradient(keys: Values, epochs: int) -> dict[str, Any]:
    if "optimizer_lr" not in keys:
        raise keys.wrong("max_num_epochs", "optimizer_lr beside it", "add its learning rate")
    stage: dict[str, Any] = {"name": "gradient", "workflow": "gradient", "epochs": epochs}
    for name, option in (
        ("optimizer_lr", "lr"),
        ("longRange_lr", "long_range_lr"),
        ("scheduler_gamma", "step_factor"),
        ("schedulerStep", "step_epochs"),
        ("patience", "patience"),
        ("pre_adjust_moves", "pre_adjust_moves"),
        ("pre_adjust_stepSize", "pre_adjust_step"),
    ):
        if name in keys:
            stage[option] = keys[name]
    for name, option in (("perturbEvery", "perturb_every"), ("plotEvery", "plot_every")):
        if keys.get(name, -1) > 0:
            stage[option] = keys[name]
    if "step_factor" in stage:
        stage = {"lr_decay": "step", "step_epochs": 1} | stage
    if "patience" in stage:
        stage["paced_by"] = "train"
    if "optimizer" in keys:
        stage["optimizer"] = _optimizer(keys)
    return stage


def _optimizer(keys: Values) -> str:
    name = keys["optimizer"].lower()
    known = typing.get_args(Optimizer)
    if name in REFUSED_OPTIMIZERS:
        raise keys.wrong("optimizer", "another optimiser", REFUSED_OPTIMIZERS[name])
    if name not in known:
        raise keys.wrong("optimizer", "an optimiser", nearest(name, known))
    return str(name)


def _monte_carlo(folder: Path, keys: Values, network: bool, steps: dict[str, list[float]]) -> dict[str, Any]:
    moves = _moves(keys, network, steps)
    if "mc_beta_schedule" in keys:
        moves["beta_schedule"] = files.read_beta_schedule(folder / keys["mc_beta_schedule"])
    elif (folder / "mc_beta_schedule").is_file():
        moves["beta_schedule"] = files.read_beta_schedule(folder / "mc_beta_schedule")
    moves["moves_per_batch"] = per_row = _per_row(keys["mc_iter"], ROWS)
    stage = {"name": "monte_carlo", "workflow": "monte_carlo", "epochs": keys["mc_iter"] // per_row}
    return stage | _plots(keys, per_row) | {"monte_carlo": moves | {"beta": keys["mc_beta"]}}


def _per_row(moves: int, wanted: int) -> int:
    """Moves in an epoch: the largest divisor of their number that is at most ``wanted``."""
    return max(number for number in range(1, max(1, min(wanted, moves)) + 1) if moves % number == 0)


def _moves(keys: Values, network: bool, steps: dict[str, list[float]]) -> dict[str, Any]:
    moves: dict[str, Any] = {"moves": "kernel" if network else "parameters"}
    perturbation = {}
    if "mc_perturb_mode" in keys:
        perturbation["kernel"] = keys["mc_perturb_mode"]
        moves["moves"] = "kernel"
    if "mc_percentage" in keys:
        perturbation["magnitude"] = moves["relative_step"] = keys["mc_percentage"]
    if perturbation:
        moves["perturbation"] = perturbation
    if steps:
        moves |= {"moves": "parameters", "steps": steps}
    return moves


def _plots(keys: Values, per_row: int) -> dict[str, Any]:
    """Epochs between pictures, of ``per_row`` moves each."""
    return {"plot_every": max(1, keys["plotEvery"] // per_row)} if keys.get("plotEvery", -1) > 0 else {}


def _tempering(
    path: Path, keys: Values, network: bool, steps: dict[str, list[float]], notes: list[str]
) -> dict[str, Any]:
    values = values_of(files.read_settings(path, "Monte Carlo options: KEY = VALUE"), MC_KEYS)
    moves = _moves(keys, network, steps) | {"tempering": "two_temperatures"}
    for name, option in (
        ("betas", "betas"),
        ("stepsAtTemp", "steps_at"),
        ("tempStepSizeMod", "step_factors"),
    ):
        if name in values:
            if len(values[name]) != 2:
                raise values.wrong(name, "two numbers, one for each temperature")
            moves[option] = values[name]
    iterations = values.get("totalIter", keys.get("mc_iter"))
    if iterations is None:
        raise InputError(f"{path}: no totalIter; expected totalIter = NUMBER of trial moves")
    if "mc_beta" in keys:
        notes.append(f"mc_beta has no effect beside {path.name}, whose betas are used")
    objective = {
        "mean": True,
        "gaps": values.get("optGaps", False),
        "deformation": values.get("defPotWeight", 1.0) if values.get("fitDefPot") else 0.0,
        "coupling": 1.0 if values.get("fitCoupling") else 0.0,
        "masses": 1.0 if values.get("fitEffMass") else 0.0,
        "spin_orbit_penalty": SPIN_ORBIT_PENALTY,
    }
    moves["moves_per_batch"] = per_row = _per_row(iterations, values.get("writePerIter", ROWS))
    stage = {"name": path.stem, "workflow": "monte_carlo", "epochs": iterations // per_row}
    return stage | _plots(keys, per_row) | {"monte_carlo": moves, "objective": objective}


def _steps(folder: Path, species: Sequence[str], network: bool, notes: list[str]) -> dict[str, list[float]]:
    """Steps of all species, or none.

    Raises:
        InputError: steps of some species only.
    """
    found = {name: folder / f"{name}ParamSteps.par" for name in species}
    present = {name: path for name, path in found.items() if path.is_file()}
    if not present:
        return {}
    for name, path in found.items():
        if name not in present:
            raise InputError(
                f"{path}: does not exist, but {next(iter(present.values())).name} does; expected all or none"
            )
    if network:
        notes.append("<atom>ParamSteps.par have no effect: the moves are those of a network")
        return {}
    return {name: files.read_steps(path) for name, path in present.items()}
