"""A published bundle as a training file of ours: `read_bundle`.

``NN_config.par`` may be missing, as in the folders of the Monte Carlo drivers: then the potential is the analytic one
of the parameter files, and each ``mcOpts*.par`` is a stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...config.load import parse_override, set_option
from ...config.schema import validate
from ...errors import InputError
from ..config import BandsTrainConfig
from . import files, stages
from .keys import INPUT_KEYS, NN_KEYS, Values, values_of
from .text import Word

SETTINGS = "NN_config.par"
#: the network that older bundles mean, which name none
OLD_NETWORK = "Net_relu_xavier_decay2"


def is_bundle(path: str | Path) -> bool:
    """Whether a folder is a published bundle: it has settings or a first system."""
    return Path(path).is_dir() and any((Path(path) / name).is_file() for name in (SETTINGS, "system_0.par"))


def read_bundle(folder: str | Path, overrides: Sequence[str] = (), notes: list[str] | None = None) -> BandsTrainConfig:
    """The training file that a published bundle means; files of systems by their absolute names.

    Args:
        overrides: ``name=value``: keys of ``NN_config.par`` in the place of the file's, or dotted options.
        notes: receives what is to be said: keys that change nothing, files that are not there.

    Raises:
        InputError: a file is missing or wrong, with line and column; toggles that exclude each other; no such option.
    """
    folder = Path(folder)
    if not is_bundle(folder):
        raise InputError(
            f"{folder}: not a bundle: expected a folder with {SETTINGS}, or with system_0.par, input_0.par, "
            "kpoints_0.par, expBandStruct_0.par and init_<atom>Params.par"
        )
    said: list[str] = [] if notes is None else notes
    keys, options = _keys(folder, overrides, said)
    data = _data(folder, keys, said)
    for override in options:
        set_option(data, *parse_override(override), override)
    return validate(data, BandsTrainConfig, str(folder))


def _keys(folder: Path, overrides: Sequence[str], notes: list[str]) -> tuple[Values, list[str]]:
    path = folder / SETTINGS
    settings = files.read_settings(path, "settings: KEY = VALUE") if path.is_file() else {}
    options = []
    for override in overrides:
        name, _, text = override.partition("=")
        if name not in NN_KEYS:
            options.append(override)
            continue
        words = tuple(Word(word, Path("override"), 1, len(name) + 2) for word in text.replace(",", " ").split())
        settings[name] = (Word(name, Path("override"), 1, 1), words)
    values = values_of(settings, NN_KEYS)
    notes += [f"{SETTINGS}: {line}" for line in values.idle]
    return values, options


def _data(folder: Path, keys: Values, notes: list[str]) -> dict[str, Any]:
    systems, species, train_long_range = _systems(folder, keys, notes)
    parameters = _parameters(folder, species)
    model = _model(folder, keys, parameters, species, notes)
    training: dict[str, Any] = {}
    for name, option in (
        ("separateKptGrad", "separate_kpoints"),
        ("printGrad", "print_gradients"),
        ("sgd_momentum", "momentum"),
        ("adam_beta1", "beta_one"),
        ("adam_beta2", "beta_two"),
    ):
        if name in keys:
            training[option] = keys[name]
    if keys.get("num_cores", 0) > 1:
        training["workers"] = keys["num_cores"]
    if "num_threads" in keys and keys["num_threads"] > 0:
        training["num_threads"] = keys["num_threads"]
    network = model["local"]["form"] == "neural"
    training["initialise"] = stages.initialise(folder, keys, network, notes)
    schedule = stages.schedule(folder, keys, species, network, notes)
    if train_long_range:
        groups = ["network" if network else "local", "long_range"]
        model["trainable"] = groups + (["spin_orbit", "nonlocal"] if keys.get("SObool") else [])
    outputs = {"Rmax": "r_max", "qmax": "q_max", "nQGrid": "n_q", "nRGrid": "n_r"}
    return {
        "model": model,
        "systems": systems,
        "objective": _objective(keys),
        "training": training,
        "train_schedule": schedule,
        "outputs": {option: keys[name] for name, option in outputs.items() if name in keys},
    }


def _objective(keys: Values) -> dict[str, Any]:
    places = {
        "penalize_lambda": "large_q",
        "penalize_starting": "large_q_start",
        "penalize_mag_lambda": "magnitude",
        "penalize_mag_threshold": "magnitude_threshold",
    }
    found = {option: keys[name] for name, option in places.items() if name in keys}
    for strength, what in (("penalize_lambda", "penalize_starting"), ("penalize_mag_lambda", "penalize_mag_threshold")):
        if keys.get(strength, 0) > 0 and what not in keys:
            raise keys.wrong(strength, f"{what} beside it", f"add {what}, or remove {strength}")
    # the published code takes a strength that is not above zero for none
    return {option: max(value, 0.0) if option == "magnitude" else value for option, value in found.items()}


def _systems(folder: Path, keys: Values, notes: list[str]) -> tuple[list[dict[str, Any]], list[str], bool]:
    present = sorted(int(path.stem.split("_")[1]) for path in folder.glob("system_*.par") if path.stem[7:].isdigit())
    count = keys.get("nSystem", len(present))
    if count < 1:
        raise keys.wrong("nSystem", "the number of systems, one or more")
    if present != list(range(count)):
        expected = f"system_0.par … system_{count - 1}.par" if count > 1 else "system_0.par"
        found = ", ".join(f"system_{number}.par" for number in present) or "none"
        raise InputError(
            f"{folder / SETTINGS}: nSystem = {count} means {expected}, found {found}; change nSystem or rename files"
            if "nSystem" in keys
            else f"{folder}: found {found}; expected {expected}: the numbers begin with 0 and leave none out"
        )
    zeros = bool(list(folder.glob("mcOpts*.par")))
    systems: list[dict[str, Any]] = []
    species: set[str] = set()
    train_long_range = False
    for number in present:
        options, trains = _system(folder, number, notes)
        species |= {atom[0] for atom in files.read_cell(folder / f"system_{number}.par").atoms}
        systems.append(options | ({"zeros_not_fitted": True} if zeros else {}))
        train_long_range |= trains
    return systems, sorted(species), train_long_range


def _system(folder: Path, number: int, notes: list[str]) -> tuple[dict[str, Any], bool]:
    path = folder / f"input_{number}.par"
    values = values_of(files.read_settings(path, "nBands and maxKE of a system: KEY = VALUE"), INPUT_KEYS)
    for name in ("nBands", "maxKE"):
        if name not in values:
            raise InputError(f"{path}: no {name}; expected {name} = NUMBER")
        if values[name] <= 0:
            raise values.wrong(name, "a number above zero")
    places = {key.name: key.place for key in INPUT_KEYS.values() if key.place and "." not in key.place}
    options: dict[str, Any] = {places[name]: value for name, value in values.items() if name in places}
    for name in ("relE_bIdx", "idxVB", "idxCB", "idxGap"):
        if name in values and values[name] < 0:  # -1: none
            del options[places[name]]
    for name in ("relE_bIdx", "idxVB", "idxCB"):
        if values.get(name, 0) >= values["nBands"]:
            raise values.wrong(
                name, f"the number of a band, 0 … {values['nBands'] - 1} (nBands)", "indices count from 0"
            )
    options["structure"] = _file(folder, f"system_{number}.par")
    options["kpoints"] = _file(folder, f"kpoints_{number}.par")
    options["bands"] = _file(folder, f"expBandStruct_{number}.par")
    for option, name, flag in (
        ("band_weights", f"bandWeights_{number}.par", ""),
        ("band_order", f"kpoints_{number}_orderMatrix.par", ""),
        ("deformation", f"expDefPot_{number}.par", "fit_defPot"),
        ("qpoints", f"qpoints_{number}.par", ""),
        ("couplings", f"expCoupling_{number}.par", "fit_eph"),
        ("masses", f"expEffMasses_{number}.par", "fit_eff_masses"),
    ):
        place = folder / name
        if place.is_file():
            options[option] = str(place.absolute())
        elif flag and values.get(flag):
            raise values.wrong(flag, f"the file {name} beside it", f"add {place}, or set {flag} = 0")
        if flag and option in options:
            options[places[flag]] = bool(values.get(flag, False)) or _of_the_driver(folder)
        elif flag:
            options.pop(places[flag], None)
    if "band_weights" not in options:
        notes.append(f"bandWeights_{number}.par is not there: all bands have the weight 1")
    return options, bool(values.get("trainLR", False))


def _of_the_driver(folder: Path) -> bool:
    """Whether the bundle is one of the Monte Carlo driver, whose ``mcOpts*.par`` say what is fitted."""
    return bool(list(folder.glob("mcOpts*.par")))


def _file(folder: Path, name: str) -> str:
    path = folder / name
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected one for each system of the bundle")
    return str(path.absolute())


def _parameters(folder: Path, species: Sequence[str]) -> dict[str, list[float]]:
    found = {}
    for name in species:
        names = (f"init_{name}Params.par", f"{name}Params.par")
        path = next((folder / file for file in names if (folder / file).is_file()), None)
        if path is not None:
            found[name] = files.read_parameters(path)
    return found


def _model(
    folder: Path, keys: Values, parameters: dict[str, list[float]], species: Sequence[str], notes: list[str]
) -> dict[str, Any]:
    name = keys.get("PPmodel")
    if name is None and "hiddenLayers" in keys:
        name = OLD_NETWORK
        notes.append(f"{SETTINGS}: no PPmodel: {name}, that of older bundles")
    analytic = name in (None, "ZeroFunction")
    if not analytic and "hiddenLayers" not in keys:
        raise keys.wrong("PPmodel", "hiddenLayers beside it", "add hiddenLayers = 20 20 20, say")
    missing = [atom for atom in species if atom not in parameters]
    if missing and (analytic or keys.get("SObool") or keys.get("init_Zunger_num_epochs", 0) > 0):
        raise InputError(
            f"{folder / f'init_{missing[0]}Params.par'}: does not exist; expected the parameters a0 … a8 of "
            f"{missing[0]}, one in each line"
        )
    local: dict[str, Any] = {"form": "zunger" if analytic else "neural"}
    if not analytic:
        local["ppmodel"] = name
    places = {"hiddenLayers": "hidden_layers", "PPmodel_scale": "scale"}
    local |= {option: keys[key] for key, option in places.items() if key in keys}
    numbers = {"PPmodel_decay_rate": "rate", "PPmodel_decay_center": "center", "PPmodel_gaussian_std": "std"}
    local["envelope"] = {option: keys[key] for key, option in numbers.items() if key in keys}
    _of_the_class(keys, name, len(species))
    return {
        "type": "bands",
        "local": local,
        "terms": _terms(keys, parameters),
        "basis": "published",
        "parameters": parameters,
    }


def _of_the_class(keys: Values, name: str | None, n_species: int) -> None:
    """Numbers that a published class needs."""
    if name is None:
        return
    needs = []
    if name.endswith("_decay"):
        needs = ["PPmodel_decay_rate", "PPmodel_decay_center"]
    if name.endswith("_decayGaussian"):
        needs = ["PPmodel_gaussian_std"] + (["PPmodel_scale"] if "_scale_" in name else [])
    if name == "Net_relu_xavier_BN_dropout_decay":
        needs = []
    for key in needs:
        if key not in keys:
            raise keys.wrong("PPmodel", f"{key} beside it", f"add {key}")
    if "PPmodel_scale" in needs and len(keys["PPmodel_scale"]) != n_species:
        raise keys.wrong("PPmodel_scale", f"{n_species} numbers, one for each species in alphabetical order")


def _terms(keys: Values, parameters: dict[str, list[float]]) -> dict[str, Any]:
    on = keys.get("SObool")
    if on is None:  # folders without settings: what their parameters have
        on = "PPmodel" not in keys and not keys and any(any(values[5:8]) for values in parameters.values())
    if "cacheSO" in keys and keys["cacheSO"] and "SObool" in keys and not on:
        raise keys.wrong("cacheSO", "0 where SObool = 0: there is nothing to keep", "set SObool = 1, or cacheSO = 0")
    terms: dict[str, Any] = {"spin_orbit": bool(on), "non_local": bool(on)}
    terms["long_range"] = any(values[4] != 0 for values in parameters.values())
    if "cacheSO" in keys:
        terms["cache"] = keys["cacheSO"]
    if "LRgamma" in keys:
        terms["lr_gamma"] = keys["LRgamma"]
    return terms
