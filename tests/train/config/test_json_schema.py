"""The JSON schema accepts the names and types that the loader accepts."""

import copy
import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import TrainConfig
from fp_potential.train.potential.config.json_schema import json_schema
from fp_potential.train.potential.config.published_names import NAMES

EXAMPLE = Path(__file__).parents[3] / "examples" / "nacl_water" / "train.yaml"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.fixture
def example():
    return yaml.safe_load(EXAMPLE.read_text())


def agreed(validator, data) -> bool:
    """Whether both accept ``data``; fails if they differ."""
    try:
        validate(copy.deepcopy(data), TrainConfig, "train.yaml")
        loaded = True
    except InputError:
        loaded = False
    keys_as_text = json.loads(json.dumps(data))
    problems = [error.message for error in validator.iter_errors(keys_as_text)]
    assert loaded == (not problems), problems
    return loaded


def test_example_of_the_repository(validator, example):
    assert agreed(validator, example)


def edited(example, changes):
    for place, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in place.split(".")]
        inner = example
        for part in parents:
            inner = inner.setdefault(part, {}) if isinstance(inner, dict) else inner[part]
        if value is KeyError:
            del inner[last]
        else:
            inner[last] = value
    return example


NO_MODEL = {"model": KeyError}


@pytest.mark.parametrize(
    "changes",
    [
        {"training": None},
        {"training": KeyError},
        NO_MODEL,
        NO_MODEL | {"r_max": 5.0, "field_feature_widths": [1.5, 3.0]},
        NO_MODEL | {"field_feature_widths": "[1.5, 3.0]", "field_feature_norms": "None"},
        {"model": "FixedPoint", "hidden_irreps": "8x0e + 8x1o", "MLP_irreps": "8x0e"},
        {"model": "FixedPoint", "fixedpoint_update_config": {"type": "ManyBodyUpdate"}},
        {"model": "FixedPoint", "fixedpoint_update_config": "{'type': 'ManyBodyUpdate'}"},
        {"model.MLP_irreps": "8x0e"},
        {"return_electrostatic_potentials": True, "error_table": "any", "restart_latest": True},
        {"E0s": {"H": -13.0, "O": -430.0}},
        {"E0s": "average"},
        {"E0s": "{1: -13.0}"},
        {"data.files": "one.xyz"},
        {"data.files": KeyError, "train_file": "one.xyz"},
        {"data.files": KeyError, "data.train_file": "one.xyz"},
        {"data.files": KeyError, "files": ["one.xyz"]},
        {"data.keys": KeyError, "keys": {"energy": "E", "forces": "F", "atomic_multipoles": "M", "dipole": "D"}},
        {
            "data.keys": KeyError,
            "heads": {"a": {"info_keys": {"energy": "E", "dipole": "D"}, "arrays_keys": {"forces": "F"}}},
            "heads.a.arrays_keys.atomic_multipoles": "M",
        },
        {"train_schedule.1.fixed_point_training_options.linear_solve": "inverse"},
        {"train_schedule.0.fixed_point_training_options": {"mode": "direct"}},
        {"data.valid_set_seed": 3, "data.split": None},
    ],
)
def test_both_accept(validator, example, changes):
    assert agreed(validator, edited(example, changes))


@pytest.mark.parametrize(
    "changes",
    [
        {"modle": {}},
        {"model.r_mx": 5},
        {"training.batch_sze": 5},
        {"data.keys.enrgy": "E"},
        {"train_schedule.0.los": {}},
        {"train_schedule.0.loss.force": 1.0},
        {"train_schedule.1.fixed_point_training_options.num_scf_steps": 5},
        {"train_schedule.1.fixed_point_training_options.scf.num_steps": 5},
        {"train_schedule.1.fixed_point_training_options.mode": "exact"},
        {"train_schedule.1.fixed_point_training_options.linear_solve": "normal_cg"},
        {"train_schedule.0.fixed_point_training_options": KeyError},
        {"training.batch_size": 0},
        {"training.batch_size": "many"},
        {"model.r_max": -1.0},
        {"model.interaction": "RealAgnosticDensityInteractionBlock"},
        {"model.electrostatic_pbc_method": "wire"},
        {"model.kspace": "ewald"},
        {"model.kspace_accuracy": 0.0},
        {"model": "ScaleShiftMACE"},
        {"r_max": 5.0},
        {"batch_size": 4},
        {"hidden_irreps": "8x0e + 8x1o"},
        {"model.hidden_irreps": "8x0e + 8x1o"},
        {"model": {"hidden_irreps": "8x0e + 8x1o"}, "max_L": 2},
        {"model": {"hidden_irreps": "8x0e + 8x1o"}, "hidden_irreps": "4x0e + 4x1o"},
        {"name": "folder"},
        {"train_file": "one.xyz"},
        {"eval_interval": 3},
        {"max_num_epochs": 10},
        {"restart_latest": False},
        {"field_norm_factor": 2.0},
        {"energy_key": "E"},
        {"data.files": KeyError},
        {"data.keys": KeyError},
        {"data": KeyError},
        {"train_schedule": KeyError},
        {"data.files": KeyError, "heads": {"a": {"info_keys": {"total_charge": "Q"}}}},
    ],
)
def test_both_refuse(validator, example, changes):
    assert not agreed(validator, edited(example, changes))


def test_numbered_stages_and_the_legacy_form(validator, example):
    example["train_schedule"] = dict(enumerate(example["train_schedule"]))
    assert agreed(validator, example)
    legacy = example["train_schedule"][1].pop("fixed_point_training_options")
    example["train_schedule"][1]["scf_training_options"] = {"mode": legacy["mode"]} | legacy["scf"]
    with pytest.warns(DeprecationWarning, match="scf_training_options is deprecated"):
        assert agreed(validator, example)
    example["train_schedule"]["last"] = example["train_schedule"].pop(3)
    with pytest.warns(DeprecationWarning):
        assert not agreed(validator, example)


def test_every_accepted_name_has_a_description(validator):
    properties = validator.schema["properties"]
    accepted = {name for name, entry in NAMES.items() if entry.place is not None or entry.idle} - {"model"}
    assert accepted <= set(properties) and all(properties[name]["description"] for name in accepted)
    assert not {name for name in NAMES if name not in accepted and name in properties} - {"model"}
