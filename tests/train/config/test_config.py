"""The training file: accepted forms, defaults, and what is said about mistakes."""

import copy
import io
import re
from typing import get_args

import pytest
import yaml
from fp_potential.train.config.manual import as_text, show
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.potential import config
from fp_potential.train.potential.config import TrainConfig, load_config
from fp_potential.train.potential.config.manual import entries
from fp_potential.train.potential.modes import predict as modes
from rich.console import Console

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


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", ["run_dir", "train_schedule.*.loss.forces", "hidden_irreps"]),
        ("training", ["training", "training.batch_size"]),
        ("--batch-size", ["training.batch_size"]),
        ("scf.num_scf_steps", ["train_schedule.*.fixed_point_training_options.scf.num_scf_steps"]),
        ("max_num_epochs", ["max_num_epochs"]),
    ],
)
def test_manual_of_a_section_or_an_option(name, expected):
    names = [found.name for found in entries(name)]
    assert set(expected) <= set(names) and (not name or len(names) < len(entries()) / 3)


def test_manual_of_nothing():
    with pytest.raises(InputError, match=r"no option or section 'r_mx'; did you mean 'r_max'\?"):
        entries("r_mx")


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("batch_size", "training.batch_size  [integer > 0; default 8]"),
        ("optimizer", "training.optimizer  [adam | adamw"),
        ("field_feature_widths", "model.field_feature_widths  [list of number; default [1.5, 3.0]]"),
        ("E0s", "statistics.E0s  [least_squares | isolated_atoms or mapping of text to number; default least_squares]"),
        ("include_field_si", "model.include_field_si  [true or false; default false]"),
        ("clip_grad", "training.clip_grad  [number or none > 0; default 10.0]"),
        ("split.train", "data.split.train  [list of text; default ['train']]"),
        ("keys", "data.keys  [section; required]"),
        ("max_num_epochs", "max_num_epochs  [integer; refused]"),
        ("field_norm_factor", "field_norm_factor  [number; only 1.0]"),
        ("eval_interval", "eval_interval  [integer; accepted]"),
    ],
)
def test_manual_says_types_in_words(name, line):
    assert as_text(entries(name)).startswith(line)


def test_manual_on_a_terminal():
    text = io.StringIO()
    show(Console(file=text, force_terminal=True, width=80), entries())
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text.getvalue())
    assert plain != text.getvalue()
    assert "training.batch_size  integer > 0; default 8\n    Frames per step." in plain
    assert all(f"\n{section} ─" in plain for section in ("data", "model", "training", "train_schedule"))
    assert "names of the published method" in plain
