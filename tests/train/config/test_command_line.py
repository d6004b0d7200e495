"""Options of the training file in their published form on the command line."""

import pytest
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config.command_line import with_overrides

OWN = ("--run", "--restart", "--config")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--field_feature_widths=[1.5, 3.0]"], ["field_feature_widths=[1.5, 3.0]"]),
        (["--field_feature_widths", "[1.5,3.0]", "train.yaml"], ["field_feature_widths=[1.5,3.0]", "train.yaml"]),
        (
            ["--field_readout_config", "{'type': 'NullFieldReadout'}"],
            ["field_readout_config={'type': 'NullFieldReadout'}"],
        ),
        (["--fixedpoint-initial-charge-head-scale", "1"], ["fixedpoint_initial_charge_head_scale=1"]),
        (["--include_field_si", "train.yaml"], ["include_field_si=true", "train.yaml"]),
        (["--include_field_si", "False", "train.yaml"], ["include_field_si=False", "train.yaml"]),
        (["--include_field_si=False"], ["include_field_si=False"]),
        (["--amsgrad", "--r_max=6.0"], ["amsgrad=true", "r_max=6.0"]),
        (["--fermi_level_offset", "-3.1"], ["fermi_level_offset=-3.1"]),
        (["--training.batch_size", "4"], ["training.batch_size=4"]),
        (["--train_schedule.0.epochs=1"], ["train_schedule.0.epochs=1"]),
        (["--train_schedule.1.fixed_point_training_options.scf.constant_charge"], None),
        (["--E0s.H", "-3"], ["E0s.H=-3"]),
        (
            ["--model=FixedPoint", "--model.hidden_irreps", "4x0e+4x1o"],
            ["model=FixedPoint", "model.hidden_irreps=4x0e+4x1o"],
        ),
        (["--restart_latest", "--restart"], ["restart_latest=true", "--restart"]),
        (["--run", "folder", "a=1", "--energy_key", "E"], ["--run", "folder", "a=1", "energy_key=E"]),
        (["--config=train.yaml", "-h"], ["--config=train.yaml", "-h"]),
    ],
)
def test_published_forms_are_overrides(words, expected):
    assert with_overrides(words, OWN) == (expected or [f"{words[0][2:]}=true"])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--modle", "x"], "unknown option '--modle'; did you mean 'model'?"),
        (["--r_mx=3"], "unknown option '--r_mx'; did you mean 'r_max'?"),
        (["--model.r_mx=3"], "unknown option '--model.r_mx'"),
        (["--train_schedule.0.epoch=3"], "unknown option '--train_schedule.0.epoch'"),
        (["--r_max"], "option --r_max: expected a value"),
        (["--r_max", "--restart"], "option --r_max: expected a value"),
    ],
)
def test_mistakes(words, expected):
    with pytest.raises(InputError) as caught:
        with_overrides(words, OWN)
    assert expected in str(caught.value)
