"""Stages: modes, the loop's options in each of them, and names of older training files."""

import copy
from typing import get_args

import pytest
from fp_potential.train.config.schema import validate
from fp_potential.train.potential import config
from fp_potential.train.potential.config import TrainConfig
from fp_potential.train.potential.modes import predict as modes

from training_files import message


def test_direct_rejects_an_scf_block(example):
    options = example["train_schedule"][0]["fixed_point_training_options"]
    options["scf"] = {"num_scf_steps": 5, "mixing_parameter": 0.2}
    assert "mode 'direct' runs no SCF: remove the scf block" in message(example)


@pytest.mark.parametrize("missing", ["num_scf_steps", "mixing_parameter"])
def test_other_modes_need_steps_and_mixing(example, missing):
    del example["train_schedule"][1]["fixed_point_training_options"]["scf"][missing]
    assert f"must explicitly set scf.{missing}" in message(example)


def test_other_modes_need_an_scf_block(example):
    del example["train_schedule"][1]["fixed_point_training_options"]["scf"]
    assert "must explicitly set scf.num_scf_steps and scf.mixing_parameter" in message(example)


def test_modes_are_those_of_the_physics(example):
    declared = config.FixedPointTrainingOptions.model_fields["mode"].annotation
    assert get_args(declared) == modes.MODES
    example["train_schedule"][1]["fixed_point_training_options"]["mode"] = "exact"
    assert "'direct', 'unroll_scf', 'implicit' or 'linearize_solve'" in message(example)


def options_of(example, stage=1):
    return example["train_schedule"][stage]["fixed_point_training_options"]


@pytest.mark.parametrize("constant_charge", [True, False])
@pytest.mark.parametrize("mode", ["unroll_scf", "implicit", "linearize_solve"])
def test_scf_options_are_per_stage(example, mode, constant_charge):
    example["data"]["keys"]["fermi_level"] = "mu"
    example["train_schedule"][1]["fixed_point_training_options"] = {
        "mode": mode,
        "scf": {"num_scf_steps": 10, "mixing_parameter": 0.3, "constant_charge": constant_charge},
    }
    example["train_schedule"][2] = copy.deepcopy(example["train_schedule"][1]) | {"start": 111, "end": 111}
    example["train_schedule"][2]["fixed_point_training_options"]["scf"]["constant_charge"] = not constant_charge
    stages = validate(example, TrainConfig, "train.yaml").train_schedule
    found = [stage.fixed_point_training_options for stage in stages]
    assert found[0].scf is None and found[1].mode == mode
    assert [options.scf.constant_charge for options in found[1:]] == [constant_charge, not constant_charge]
    # what is not written is the default of the loop
    assert found[1].scf.scf_tolerance == 1e-6 and found[1].scf.initial_density == "local_guess"


@pytest.mark.parametrize("name", ["num_scf_steps", "mixing_parameter", "constant_charge", "initial_density"])
def test_flat_scf_keys_must_be_nested(example, name):
    options_of(example)[name] = options_of(example)["scf"].pop(name)
    path = f"train_schedule.1.fixed_point_training_options.{name}"
    assert f"unknown option '{path}'; it must be nested under scf" in message(example)


@pytest.mark.parametrize("as_text", [True, False])
def test_legacy_scf_training_options(example, as_text):
    """Flat and under another key: read with a warning, and the same as the present form."""
    present = validate(example, TrainConfig, "train.yaml")
    options = example["train_schedule"][1].pop("fixed_point_training_options")
    legacy = {"mode": options["mode"]} | options["scf"]
    example["train_schedule"][1]["scf_training_options"] = str(legacy) if as_text else legacy
    flat_direct = {"mode": "direct", "num_scf_steps": 0, "mixing_parameter": 1.0}
    del example["train_schedule"][0]["fixed_point_training_options"]
    example["train_schedule"][0]["scf_training_options"] = flat_direct
    with pytest.warns(DeprecationWarning, match="scf_training_options is deprecated: write fixed_point_training_opt"):
        assert validate(example, TrainConfig, "train.yaml") == present


@pytest.mark.parametrize(
    ("legacy", "expected"),
    [
        ({"mode": "unroll_scf", "num_scf_steps": 5}, "must explicitly set scf.mixing_parameter"),
        ({"mode": "unroll_scf", "steps": 5}, "unknown option 'train_schedule.1.fixed_point_training_options.steps'"),
        ({"num_scf_steps": 5, "mixing_parameter": 0.3}, "fixed_point_training_options.mode': field required"),
    ],
)
def test_legacy_options_are_checked_too(example, legacy, expected):
    del example["train_schedule"][1]["fixed_point_training_options"]
    example["train_schedule"][1]["scf_training_options"] = legacy
    with pytest.warns(DeprecationWarning):
        assert expected in message(example)


def test_legacy_options_beside_the_present_ones(example):
    example["train_schedule"][1]["scf_training_options"] = {"mode": "direct"}
    assert "scf_training_options' beside fixed_point_training_options: keep those" in message(example)
    example["train_schedule"][1] = example["train_schedule"][1] | {"scf_training_options": 3}
    del example["train_schedule"][1]["fixed_point_training_options"]
    assert "expected a mapping, got 3" in message(example)


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("linearize_solve", "inverse", ""),
        ("linearize_solve", "normal_cg", "normal_cg does not exist here: the normal equations square"),
        ("implicit", "normal_cg", "normal_cg does not exist here"),
        ("implicit", "inverse", "mode 'implicit' solves without a matrix"),
        ("unroll_scf", "inverse", "mode 'unroll_scf' solves no linear system"),
        ("linearize_solve", "lu", "'inverse'"),
    ],
)
def test_linear_solve(example, mode, value, expected):
    options_of(example).update(mode=mode, linear_solve=value)
    if expected:
        assert expected in message(example)
    else:
        read = validate(example, TrainConfig, "train.yaml").train_schedule[1].fixed_point_training_options
        assert read.linear_solve == value


def test_stability_key_must_agree_with_the_loss(example):
    """The loss alone decides; the key of the published options is checked against it."""
    options_of(example)["fixedpoint_scf_stability"] = False
    assert validate(example, TrainConfig, "train.yaml")
    options_of(example)["fixedpoint_scf_stability"] = True
    assert "is true, but the loss says otherwise" in message(example)


def test_a_stage_cannot_start_from_a_last_density(example):
    options_of(example)["scf"]["initial_density"] = "restart"
    assert "scf.initial_density 'restart' is the calculator's" in message(example)
