"""The training file: accepted forms, defaults, and what is said about mistakes."""

import copy

import pytest
import yaml
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import TrainConfig, load_config

from training_files import EXAMPLE, message


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


def test_options_of_an_older_run_can_be_read_again(example):
    """Its checkpoints hold options without those that have come since."""
    config_read = validate(example, TrainConfig, "train.yaml")
    older = config_read.model_dump(mode="json")
    for name in ("interaction", "electrostatic_pbc_method"):
        del older["model"][name]
    for name in ("interaction_cls", "central_atom_mixer_cls", "central_atom_feats_mixer_cls"):
        del older["model"]["fixedpoint_update_config"][name]
    for stage in older["train_schedule"]:
        for name in ("linear_solve", "fixedpoint_scf_stability"):
            del stage["fixed_point_training_options"][name]
    assert validate(older, TrainConfig, "checkpoint") == config_read


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
        (
            ("train_schedule", 1, "loss"),
            "stress",
            1.0,
            "needs the label data.keys.stress or data.keys.virial, which is not mapped",
        ),
        (
            ("data", "keys"),
            "atomic_multipoles",
            None,
            "needs the label data.keys.atomic_multipoles or data.keys.charges, which is not mapped",
        ),
        (("data",), "files", [], "option 'data.files'"),
    ],
)
def test_wrong_values_are_named(example, place, name, value, expected):
    section = example
    for part in place:
        section = section[part]
    section[name] = value
    assert expected in message(example)


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


def test_sections_may_be_left_out_or_empty(example):
    del example["model"]
    default = validate(example, TrainConfig, "train.yaml")
    assert validate(example | {"model": None, "training": None}, TrainConfig, "train.yaml") == default
    assert validate(example | {"model": {"r_max": 4.5}}, TrainConfig, "train.yaml") == default


def test_a_section_written_as_text(example):
    example["model"] = {"fixedpoint_update_config": "{'type': 'ManyBodyUpdate', 'corelation': 2}"}
    assert "unknown option 'model.fixedpoint_update_config.corelation'; did you mean 'correlation'" in message(example)
    example["model"] = {"fixedpoint_update_config": "{'type': "}
    assert "option 'model.fixedpoint_update_config': not a list or mapping" in message(example)
