"""A training file as a published bundle and back, with the same content.

What one form cannot say is refused by the name of the option: a bundle that is written is read again, and what it then
means is compared with what was meant.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ...errors import InputError
from ..config import BandsStage, BandsTrainConfig, LocalOptions, SystemOptions
from ..config.model import class_of
from ..config.systems import FILES
from ..data import fingerprint
from ..systems import cell_of, load_system, load_systems
from . import write
from .keys import INPUT_KEYS, MC_KEYS
from .read import SETTINGS, read_bundle

#: options that a bundle does not say, because the command that reads it does
OF_THE_COMMAND = ("run_dir",)


def to_yaml(config: BandsTrainConfig, path: Path, inline: bool = False) -> None:
    """Write a training file.

    Args:
        inline: numbers of tables in the file itself; else names of the files they are in, relative to ``path``.
    """
    data = config.model_dump(mode="json", exclude_defaults=True)
    for number, system in enumerate(config.systems):
        data["systems"][number] = _inline(system, data["systems"][number]) if inline else data["systems"][number]
    for stage in data["train_schedule"]:
        del stage["start"], stage["end"]
    _relative(data, path.absolute().parent)
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    path.write_text(text, encoding="utf-8")


class _Dumper(yaml.SafeDumper):
    """Lists of numbers or words in one line, everything else in blocks."""


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    flow = not any(isinstance(value, (list, dict)) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=flow)


_Dumper.add_representer(list, _list)


def _relative(data: Any, folder: Path) -> None:
    """Names of files relative to ``folder``."""
    places = [(system, name) for system in data["systems"] for name in FILES]
    start = data.get("training", {}).get("initialise", {})
    places += [(start, name) for name in ("init_from", "optimizer_state", "table")]
    places.append((data["model"].get("local", {}), "table"))
    for section, name in places:
        if isinstance(section.get(name), str):
            section[name] = os.path.relpath(section[name], folder)


def _inline(options: SystemOptions, data: dict[str, Any]) -> dict[str, Any]:
    system = load_system(options)
    data = {name: value for name, value in data.items() if not isinstance(value, str) or name not in FILES}
    data["cell"] = cell_of(options).model_dump(mode="json")
    data["kpoints"] = [[*map(float, k), float(w)] for k, w in zip(system.kpoints, system.k_weights, strict=True)]
    if system.reference is not None:
        rows = zip(system.path, system.reference, system.band_weights, strict=True)
        data["bands"] = [
            [
                float(length),
                *(float("nan") if w == 0 and e == 0 else float(e) for e, w in zip(row, weights, strict=True)),
            ]
            for length, row, weights in rows
        ]
        data.pop("zeros_not_fitted", None)
    if options.band_weights is not None:
        weights = system.band_weights
        data["band_weights"] = (weights[0] if (weights == weights[:1]).all() else weights).tolist()
    if system.band_order is not None:
        data["band_order"] = system.band_order.tolist()
    if system.transitions:
        data["deformation"] = [
            [
                *(() if row.k_from is None else (row.k_from, row.b_from)),
                row.k_to,
                row.b_to,
                row.ratio,
                row.target,
                row.weight,
            ]
            for row in system.transitions
        ]
    if len(system.qpoints) > 0:
        data["qpoints"] = [[*map(float, q), float(w)] for q, w in zip(system.qpoints, system.q_weights, strict=True)]
    if system.masses is not None:
        data["masses"] = [system.masses.electron, system.masses.hole, system.masses.weight]
    if options.couplings is not None:
        data["couplings"] = options.couplings  # a table of blocks, which stays a file
    return data


def to_bundle(config: BandsTrainConfig, folder: Path) -> None:
    """Write a published bundle; nothing is written if the bundle could not say what the training file says.

    Raises:
        InputError: the folder has files, or options that a bundle cannot say, by their names.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists; expected a new or empty folder")
    with tempfile.TemporaryDirectory() as scratch:
        made = Path(scratch) / "bundle"
        made.mkdir()
        _write(config, made)
        different = differences(config, read_bundle(made))
        if different:
            raise InputError(
                "a published bundle cannot say: "
                + "; ".join(different)
                + ". Give these options their defaults, or keep the training file"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(made.iterdir()):
            shutil.copy2(path, folder / path.name)


def differences(one: BandsTrainConfig, other: BandsTrainConfig) -> list[str]:
    """Options whose values differ, by dotted name; systems are compared by their numbers, not by names of files."""
    left, right = (config.model_dump(mode="json") for config in (one, other))
    for config, data in ((one, left), (other, right)):
        _by_class(config.model.local, data["model"]["local"])
        for name in OF_THE_COMMAND:
            data.pop(name, None)
        for system in data["systems"]:
            for name in (*FILES, "cell", "zeros_not_fitted", "name"):
                system.pop(name, None)
        for place in ("init_from", "optimizer_state", "table"):
            start = data["training"]["initialise"]
            start[place] = None if start[place] is None else Path(start[place]).read_bytes()
    found = list(_differences(left, right, ""))
    systems = [load_systems(config.systems) for config in (one, other)]
    for number, (a, b) in enumerate(zip(*systems, strict=False)):
        if fingerprint([a]) != fingerprint([b]):
            found.append(f"numbers of systems.{number} ({a.name})")
    return found


def _by_class(local: LocalOptions, data: dict[str, Any]) -> None:
    """A local form by its published class, if it has one, in the place of the parts that the class says."""
    if local.form != "neural":
        return
    try:
        data["ppmodel"] = local.ppmodel or class_of(local)
    except ValueError:
        return
    for name in ("activation", "start", "normalisation"):
        del data[name]
    del data["envelope"]["type"]


def _differences(left: Any, right: Any, place: str) -> list[str]:
    if isinstance(left, dict) and isinstance(right, dict):
        names = [*left, *(name for name in right if name not in left)]
        parts = (_differences(left.get(n), right.get(n), f"{place}.{n}" if place else str(n)) for n in names)
        return [line for part in parts for line in part]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right) and place.count(".") < 2:
        parts = (_differences(a, b, f"{place}.{number}") for number, (a, b) in enumerate(zip(left, right, strict=True)))
        return [line for part in parts for line in part]
    if left == right:
        return []
    if place == "train_schedule":
        return [f"train_schedule: {len(left)} stages, of which a bundle has one"]
    return [f"{place}: {str(left)[:60]}"]


def _write(config: BandsTrainConfig, folder: Path) -> None:
    systems = load_systems(config.systems)
    places = {key.place: key.name for key in INPUT_KEYS.values() if key.place and "." not in key.place}
    for number, (options, system) in enumerate(zip(config.systems, systems, strict=True)):
        if options.zeros_not_fitted:  # zeros stay in the file, their weights as they are
            system = load_system(options.model_copy(update={"zeros_not_fitted": False, "name": system.name}))
        given = options.model_dump(exclude_defaults=True)
        settings = {key: given[place] for place, key in places.items() if place in given}
        for name in ("nBands", "maxKE"):
            settings.pop(name, None)
        settings["systemName"] = system.name
        for key, present in (
            ("fit_defPot", bool(system.transitions) and options.fit_deformation),
            ("fit_eph", bool(system.couplings)),
            ("fit_eff_masses", system.masses is not None and options.fit_masses),
        ):
            settings.pop(key, None)
            if present:
                settings[key] = True
        if config.model.trainable is not None and "long_range" in config.model.trainable:
            settings["trainLR"] = True
        write.write_system(folder, number, system, cell_of(options), settings)
    for species, values in config.model.parameters.items():
        write.write_vector(folder / f"init_{species}Params.par", values)
    _start(config, folder)
    write.write_settings(folder / SETTINGS, _settings(config, folder))


def _start(config: BandsTrainConfig, folder: Path) -> None:
    start = config.training.initialise
    for source, name in (
        (start.init_from, "init_PPmodel.pth"),
        (start.optimizer_state, "init_AdamState.pth"),
        (start.table, "init_qSpace_pot.par"),
    ):
        if source is not None:
            if not Path(source).is_file():
                raise InputError(f"training.initialise: '{source}' is no file; a bundle has a copy of it as {name}")
            shutil.copy2(source, folder / name)


def _settings(config: BandsTrainConfig, folder: Path) -> dict[str, Any]:
    model, training, objective, outputs = config.model, config.training, config.objective, config.outputs
    local, start = model.local, training.initialise
    found: dict[str, Any] = {"nSystem": len(config.systems), "PPmodel": local.ppmodel or _class(local)}
    if local.form == "neural":
        found["hiddenLayers"] = local.hidden_layers
        found["PPmodel_decay_rate"], found["PPmodel_decay_center"] = local.envelope.rate, local.envelope.center
        found["PPmodel_gaussian_std"] = local.envelope.std
        if local.scale is not None:
            found["PPmodel_scale"] = local.scale
    found["SObool"] = model.terms.spin_orbit
    if model.terms.spin_orbit:
        found["cacheSO"] = model.terms.cache
    found["LRgamma"] = model.terms.lr_gamma
    found["separateKptGrad"] = training.separate_kpoints
    found |= {"printGrad": training.print_gradients, "num_cores": training.workers if training.workers > 1 else 0}
    if training.num_threads is not None:
        found["num_threads"] = training.num_threads
    if objective.large_q > 0:
        found |= {"penalize_lambda": objective.large_q, "penalize_starting": objective.large_q_start}
    if objective.magnitude > 0:
        found |= {"penalize_mag_lambda": objective.magnitude, "penalize_mag_threshold": objective.magnitude_threshold}
    if start.method in ("zunger", "table"):
        found["init_Zunger_num_epochs"] = start.fit.epochs
        found |= {"init_Zunger_optimizer": start.fit.optimizer, "init_Zunger_optimizer_lr": start.fit.lr}
        found |= {"init_Zunger_scheduler_gamma": start.fit.gamma, "schedulerStep": start.fit.gamma_epochs}
        found["init_Zunger_plotEvery"] = start.fit.plot_every or -1
        found["init_Zunger_printGrad"] = start.fit.print_gradients
    found |= {"Rmax": outputs.r_max, "qmax": outputs.q_max}
    found |= {"nQGrid": outputs.n_q, "nRGrid": outputs.n_r}
    found |= _of_stages(config, folder)
    if found.get("max_num_epochs", 0) > 0:
        found |= {"sgd_momentum": training.momentum, "adam_beta1": training.beta_one, "adam_beta2": training.beta_two}
    return found


def _class(local: LocalOptions) -> str:
    try:
        return class_of(local)
    except ValueError as error:
        raise InputError(f"a published bundle cannot say: {error}") from error


def _of_stages(config: BandsTrainConfig, folder: Path) -> dict[str, Any]:
    stage = config.train_schedule[0]
    found: dict[str, Any] = {}
    if stage.reorder != "none":
        found["smooth_reorder" if stage.reorder == "smooth" else "eigvec_reorder"] = True
    if stage.plot_every is not None:
        found["plotEvery"] = stage.plot_every * (stage.monte_carlo.moves_per_batch if stage.monte_carlo else 1)
    if stage.workflow == "gradient":
        found |= {"max_num_epochs": stage.length, "optimizer_lr": stage.lr}
        if stage.lr_decay == "step":
            found |= {"scheduler_gamma": stage.step_factor, "schedulerStep": stage.step_epochs}
        optional = {"optimizer": stage.optimizer, "longRange_lr": stage.long_range_lr, "patience": stage.patience}
        optional |= {"perturbEvery": stage.perturb_every, "pre_adjust_stepSize": stage.pre_adjust_step}
        found |= {name: value for name, value in optional.items() if value is not None}
        found["pre_adjust_moves"] = stage.pre_adjust_moves
    if stage.workflow == "monte_carlo":
        found |= _of_moves(config.train_schedule, folder)
    return found


def _of_moves(schedule: list[BandsStage], folder: Path) -> dict[str, Any]:
    moves = schedule[0].monte_carlo
    assert moves is not None
    for species, steps in moves.steps.items():
        write.write_vector(folder / f"{species}ParamSteps.par", steps)
    found: dict[str, Any] = {"mc_bool": True, "mc_iter": _moves(schedule[0]), "mc_beta": moves.beta}
    found["mc_percentage"] = moves.perturbation.magnitude if moves.moves == "kernel" else moves.relative_step
    if moves.moves == "kernel":
        found["mc_perturb_mode"] = moves.perturbation.kernel
    if moves.beta_schedule:
        write.write_beta_schedule(folder / "mc_beta_schedule", moves.beta_schedule)
    if moves.tempering == "none":
        return found
    for number, stage in enumerate(schedule, start=1):
        write.write_settings(folder / f"mcOpts{number}.par", _tempering(stage))
    del found["mc_beta"], found["mc_bool"], found["mc_iter"]
    return found


def _moves(stage: BandsStage) -> int:
    """Trial moves of a stage."""
    assert stage.monte_carlo is not None
    return stage.length * stage.monte_carlo.moves_per_batch


def _tempering(stage: BandsStage) -> Mapping[str, Any]:
    moves, objective = stage.monte_carlo, stage.objective
    assert moves is not None
    values: dict[str, Any] = {
        "betas": moves.betas,
        "stepsAtTemp": moves.steps_at,
        "tempStepSizeMod": moves.step_factors,
    }
    values |= {"totalIter": _moves(stage), "writePerIter": moves.moves_per_batch}
    if objective is not None:
        values |= {"fitDefPot": objective.deformation > 0, "fitCoupling": objective.coupling > 0}
        values |= {"fitEffMass": objective.masses > 0, "optGaps": objective.gaps}
        if objective.deformation > 0:
            values["defPotWeight"] = objective.deformation
    return {name: value for name, value in values.items() if name in MC_KEYS}
