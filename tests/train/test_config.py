"""The training file: accepted forms, defaults, and what is said about mistakes."""

import copy
from typing import get_args

import pytest
import yaml
from fp_potential.train import config, modes
from fp_potential.train.config import TrainConfig
from fp_potential.train.errors import InputError
from fp_potential.train.load import load_config
from fp_potential.train.manual import as_text, entries
from fp_potential.train.schema import validate

EXAMPLE = """
data:
  files: data/*.xyz
  keys: {energy: E, forces: F, atomic_multipoles: M, dipole: D, total_charge: Q}
model: {r_max: 4.0}
train_schedule:
  0:
    name: direct
    start: 0
    end: 99
    loss:
      atomic_multipoles: 100.0
      total_charge_per_atom: 1000.0
      dipole_per_atom: 1000000.0
      energy_per_atom: 10.0
      forces: 100.0
    lr: 0.01
    fixed_point_training_options:
      mode: direct
  1:
    name: unroll
    start: 100
    end: 110
    loss:
      atomic_multipoles: 100.0
      total_charge_per_atom: 1000.0
      dipole_per_atom: {weight: 1000000.0}
      energy_per_atom: 1000.0
      forces: 100.0
    lr: 0.001
    fixed_point_training_options:
      mode: unroll_scf
      scf:
        num_scf_steps: 10
        constant_charge: true
        mixing_parameter: 0.3
        initial_density: from_data
        initial_fermi_level: from_data
        use_autograd_forces: true
"""


@pytest.fixture
def example() -> dict:
    return copy.deepcopy(yaml.safe_load(EXAMPLE))


def message(data: dict) -> str:
    with pytest.raises(InputError) as caught:
        validate(data, TrainConfig, "train.yaml")
    return str(caught.value)


def test_numbered_schedule_with_inclusive_ends(example):
    config_read = validate(example, TrainConfig, "train.yaml")
    assert [(stage.first_epoch, stage.length) for stage in config_read.train_schedule] == [(0, 100), (100, 11)]
    scf = config_read.train_schedule[1].fixed_point_training_options.scf
    assert scf is not None and scf.num_scf_steps == 10 and scf.initial_density == "from_data"
    assert config_read.train_schedule[1].loss.active()["dipole_per_atom"] == 1e6


def test_list_of_stages_with_epochs_means_the_same(example):
    numbered = validate(example, TrainConfig, "train.yaml")
    stages = []
    for stage in copy.deepcopy(list(example["train_schedule"].values())):
        stage["epochs"] = stage.pop("end") - stage.pop("start") + 1
        stages.append(stage)
    listed = validate(example | {"train_schedule": stages}, TrainConfig, "train.yaml")
    assert listed == numbered


def test_resolved_options_can_be_read_again(example):
    config_read = validate(example, TrainConfig, "train.yaml")
    again = validate(yaml.safe_load(yaml.safe_dump(config_read.model_dump(mode="json"))), TrainConfig, "config.yaml")
    assert again == config_read


@pytest.mark.parametrize(
    ("place", "name", "expected"),
    [
        ((), "modle", "unknown option 'modle'; did you mean 'model'?"),
        ((), "batch_sise", "unknown option 'batch_sise'; did you mean 'batch_size'?"),
        (("model",), "batch_size", "unknown option 'model.batch_size'; did you mean 'training.batch_size'?"),
        (("model",), "num_chanels", "unknown option 'model.num_chanels'; did you mean 'num_channels'?"),
        (("data", "keys"), "energies", "unknown option 'data.keys.energies'; did you mean 'energy'?"),
        (("train_schedule", 0, "loss"), "force", "'train_schedule.0.loss.force'; did you mean 'forces'?"),
        (
            ("train_schedule", 1, "fixed_point_training_options", "scf"),
            "num_steps",
            "'train_schedule.1.fixed_point_training_options.scf.num_steps'; did you mean 'num_scf_steps'?",
        ),
        (
            ("train_schedule", 1, "fixed_point_training_options"),
            "num_scf_steps",
            "'train_schedule.1.fixed_point_training_options.num_scf_steps'; it must be nested under scf",
        ),
    ],
)
def test_unknown_option_names_the_nearest(example, place, name, expected):
    section = example
    for part in place:
        section = section[part]
    section[name] = 1
    assert expected in message(example)


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


@pytest.mark.parametrize(
    ("place", "name", "value", "expected"),
    [
        (("train_schedule", 0, "fixed_point_training_options"), "mode", "indirect", "'direct', 'unroll_scf'"),
        (
            ("train_schedule", 1, "fixed_point_training_options", "scf"),
            "num_scf_steps",
            0,
            "greater than or equal to 1",
        ),
        (("train_schedule", 0), "lr", -1, "option 'train_schedule.0.lr': input should be greater than 0 (got -1)"),
        (("train_schedule", 1), "start", 99, "stage 1 ('unroll'): start is 99, expected 100"),
        (("train_schedule", 1, "loss"), "stress", 1.0, "needs the label data.keys.stress, which is not mapped"),
        (("data", "keys"), "atomic_multipoles", None, "atomic_multipoles, which is not mapped"),
        (("data",), "files", [], "option 'data.files'"),
    ],
)
def test_wrong_values_are_named(example, place, name, value, expected):
    section = example
    for part in place:
        section = section[part]
    section[name] = value
    assert expected in message(example)


def test_modes_are_those_of_the_physics(example):
    declared = config.FixedPointTrainingOptions.model_fields["mode"].annotation
    assert get_args(declared) == modes.MODES
    example["train_schedule"][1]["fixed_point_training_options"]["mode"] = "exact"
    assert "'direct', 'unroll_scf', 'implicit' or 'linearize_solve'" in message(example)


def test_schedule_numbers_must_be_consecutive(example):
    example["train_schedule"][3] = example["train_schedule"].pop(1)
    assert "numbered 0, 1, 2" in message(example)


def test_both_fields_are_refused(example):
    example["data"]["keys"] |= {"external_field": "F", "electric_field": "E"}
    assert "not both" in message(example)


def test_file_overrides_and_relative_paths(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(EXAMPLE)
    config_read = load_config(path, ["training.batch_size=4", "train_schedule.1.lr=2e-4", "model.r_max=5"])
    assert config_read.training.batch_size == 4
    assert config_read.train_schedule[1].lr == 2e-4
    assert config_read.model.r_max == 5.0
    assert config_read.data.files == [str(tmp_path / "data/*.xyz")]


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.batchsize=4", "'training.batchsize'; did you mean 'batch_size'?"),
        ("training", "expected section.option=value"),
        ("model.r_max.x=1", "is not a"),
    ],
)
def test_bad_overrides(tmp_path, override, expected):
    path = tmp_path / "train.yaml"
    path.write_text(EXAMPLE)
    with pytest.raises(InputError, match=expected.replace("?", r"\?")):
        load_config(path, [override])


@pytest.mark.parametrize(
    ("text", "expected"), [("a: [1", "not valid YAML"), ("just text", "expected sections"), (None, "does not exist")]
)
def test_unreadable_files(tmp_path, text, expected):
    path = tmp_path / "train.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=expected):
        load_config(path)


def test_manual_describes_every_option():
    found = entries()
    assert not [entry.name for entry in found if not entry.text.strip()]
    names = [entry.name for entry in found]
    assert "train_schedule.*.fixed_point_training_options.scf.num_scf_steps" in names and "hidden_irreps" in names
    assert "typing" not in as_text(found) and "Annotated" not in as_text(found) and "<class" not in as_text(found)
