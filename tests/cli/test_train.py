"""`fixedpoint train`: the published schedule and command line, the manual, the JSON schema, the dry run."""

import csv
import json

import jsonschema
import pytest
import yaml
from fp_potential.train.potential.config import load_config

from fp_potential.cli.main import main
from training_data import KEYS, write_frames

#: the example of the method's training guide, as it stands there
SCHEDULE = """
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
      dipole_per_atom: 1000000.0
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
#: a training script of the published kind; the schedule is shortened
WORDS = [
    "--name=run",
    "--model=FixedPoint",
    "--hidden_irreps=4x0e + 4x1o",
    "--MLP_irreps=4x0e",
    "--radial_MLP=[8]",
    "--r_max=3.5",
    "--num_radial_basis",
    "6",
    "--E0s=average",
    "--atomic_multipoles_max_l=1",
    "--atomic_multipoles_smearing_width=1.5",
    "--electrostatic_pbc_method=mixed_periodic",
    "--field_feature_max_l=1",
    "--field_feature_widths=[1.5, 3.0]",
    "--field_feature_norms=[25.0,25.0,1.0,1.0]",
    "--include_field_si",
    "--field_readout_config",
    "{'type': 'StrictQuadraticFieldEnergyReadout'}",
    "--fixedpoint-initial-charge-head-scale",
    "0.01",
    "--field_block_weight_decay=5e-7",
    "--batch_size=3",
    "--valid_fraction=0.2",
    "--default_dtype=float64",
    "--amsgrad",
    "--error_table=PerAtomRMSE",
    "--restart_latest",
    "--train_schedule.0.end=1",
    "--train_schedule.1.start=2",
    "--train_schedule.1.end=2",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A training file with the keys of the data and the published schedule."""
    monkeypatch.chdir(tmp_path)
    write_frames(tmp_path / "frames.xyz")
    update = "fixedpoint_update_config:\n  type: OneBodyVariableUpdate\n  nonlinearity_cls: NoNonLinearity\n"
    text = yaml.safe_dump({"data": {"files": "frames.xyz", "keys": KEYS, "split": {"key": "split"}}})
    (tmp_path / "config.yaml").write_text(text + update + SCHEDULE)
    return tmp_path


def test_the_published_schedule_as_it_stands(folder):
    stages = load_config(folder / "config.yaml").train_schedule
    assert [(stage.name, stage.first_epoch, stage.length) for stage in stages] == [
        ("direct", 0, 100),
        ("unroll", 100, 11),
    ]
    assert stages[0].loss.active() == {
        "atomic_multipoles": 100.0,
        "total_charge_per_atom": 1000.0,
        "dipole_per_atom": 1e6,
        "energy_per_atom": 10.0,
        "forces": 100.0,
    }
    scf = stages[1].fixed_point_training_options.scf
    assert scf is not None and (scf.num_scf_steps, scf.mixing_parameter) == (10, 0.3)
    assert (scf.initial_density, scf.initial_fermi_level) == ("from_data", "from_data")


def test_a_published_training_script_runs(folder, capsys):
    """Its options arrive in the run, the schedule is run stage by stage."""
    assert main(["train", "--config=config.yaml", *WORDS]) == 0
    assert "note: error_table:" in capsys.readouterr().out
    with open(folder / "run" / "log.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["direct", "direct", "unroll"]
    assert all(float(row["train loss"]) < float("inf") for row in rows)
    used = yaml.safe_load((folder / "run" / "config.yaml").read_text())
    assert (used["model"]["num_channels"], used["model"]["max_L"], used["model"]["readout_channels"]) == (4, 1, 4)
    assert used["model"]["include_field_si"] is True and used["training"]["amsgrad"] is True
    assert used["model"]["field_feature_norms"] == [25.0, 25.0, 1.0, 1.0]
    assert used["statistics"]["E0s"] == "least_squares" and used["data"]["valid_fraction"] == 0.2
    # what was saved says the same, and the same command goes on with it
    assert main(["train", "--config", "config.yaml", *WORDS]) == 0
    assert "is finished" in capsys.readouterr().out


def test_dry_run_checks_and_writes_nothing(folder, capsys):
    before = sorted(folder.rglob("*"))
    assert main(["train", "config.yaml", "--dry-run", "--r_max", "3.0", "num_channels=4", "radial_MLP=[8]"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("frames: 7 train, 1 valid, 3 test") and "field-feature norms" in text
    resolved = yaml.safe_load(text[text.index("run_dir:") :])
    assert resolved["model"]["r_max"] == 3.0 and resolved["train_schedule"][1]["epochs"] == 11
    assert sorted(folder.rglob("*")) == before
    assert main(["train", "config.yaml", "--dry-run", "data.keys.energy=nothing"]) == 2
    assert "no frame has the key 'nothing'" in capsys.readouterr().err
    assert main(["train", "config.yaml", "--dry-run", "--electrostatic_pbc_method", "pbc"]) == 2
    assert "pbc is F F F" in capsys.readouterr().err


def test_dry_run_of_a_run_with_other_options(folder, capsys):
    assert main(["train", "config.yaml", *WORDS]) == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    capsys.readouterr()
    assert main(["train", "config.yaml", *WORDS, "--dry_run"]) == 0  # as it is often written
    assert "the run in run is finished\n" in capsys.readouterr().out
    assert main(["train", "config.yaml", *WORDS, "--dry-run", "--num_interactions=1"]) == 2
    assert "model.num_interactions: 2 -> 1" in capsys.readouterr().err
    assert main(["train", "config.yaml", *WORDS, "--dry-run", "--num_interactions=1", "--restart"]) == 0
    text = capsys.readouterr().out
    assert "a new run in run; --restart removes the one that is there\n" in text
    assert "note: restart_latest has no effect beside --restart, which starts anew\n" in text
    assert main(["train", "config.yaml", *WORDS, "--dry-run", "--name=other"]) == 0
    assert "a new run in other\n" in capsys.readouterr().out
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == before


def test_options_before_the_file(folder, capsys):
    words = ["--batch_size", "2", "--amsgrad", "num_channels=4", "config.yaml", "--dry-run"]
    assert main(["train", *words]) == 0
    text = capsys.readouterr().out
    resolved = yaml.safe_load(text[text.index("run_dir:") :])
    assert resolved["training"]["batch_size"] == 2 and resolved["training"]["amsgrad"] is True
    assert resolved["model"]["num_channels"] == 4
    assert main(["train", "config.yaml", "other.yaml"]) == 2
    assert "expected one training file, got config.yaml, other.yaml; options are written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["--num_scf_steps=3"],
            "did you mean 'train_schedule.0.fixed_point_training_options.scf.num_scf_steps' (0 is the",
        ),
        (["--nonsense_of_mine=3"], "unknown option '--nonsense_of_mine'; valid names: data, model, run_dir"),
        (
            ["--field_readout_config={'type': 'QuadraticChargesEnergyReadout'}"],
            "option 'model.field_readout_config.type': QuadraticChargesEnergyReadout does not exist here",
        ),
        (["--r_mx=3"], "unknown option '--r_mx'; did you mean 'r_max'?"),
        (["--r_max"], "option --r_max: expected a value"),
        (["r_mx=3"], "unknown option 'r_mx'; did you mean 'r_max'?"),
        (["model.r_mx=3"], "unknown option 'model.r_mx'; did you mean 'r_max'?"),
        (["--max_num_epochs=3"], "each stage of train_schedule says it"),
        (["--energy_key=E"], "data.keys, {energy: KEY}"),
        (["--include_field_si=maybe"], "option 'model.include_field_si'"),
        (["--patience", "5"], "each stage of train_schedule says it: patience, its early stop"),
        (["--forces_weight", "10"], "each stage of train_schedule says it: loss: {forces: WEIGHT}"),
        (["--lr_factor=0.8"], "each stage of train_schedule says it: plateau_factor, with lr_decay: plateau"),
        (["--freeze", "backbone"], "unknown option '--freeze'; did you mean 'train_schedule.0.freeze' (0 is the first"),
        (["freeze=[]"], "unknown option 'freeze'; did you mean 'train_schedule.0.freeze' (0 is the first stage)?"),
        (["--mode", "direct"], "did you mean 'train_schedule.0.fixed_point_training_options.mode'"),
        (["--epoch", "3"], "did you mean 'train_schedule.0.epochs'"),
        (["forces=3"], "did you mean 'data.keys.forces' or 'train_schedule.0.loss.forces'"),
        (["--training.freeze", "3"], "unknown option '--training.freeze'; did you mean 'train_schedule.0.freeze'"),
        (["--zzz"], "unknown option '--zzz'; valid names: data, model, run_dir, statistics, train_schedule, training"),
        (
            ["model.fixedpoint_update_config.type=OneBodyMonotoneChargeUpdate"],
            "option 'model.fixedpoint_update_config.type': OneBodyMonotoneChargeUpdate does not exist here",
        ),
        (["--field_feature_widths", "1.5", "3.0"], "expected one training file, got config.yaml, 3.0; options are"),
        (["run_dir=config.yaml"], "run_dir 'config.yaml' is a file; expected a folder, or a name that is free"),
        (["--run", "config.yaml/a/b"], "config.yaml' is a file; expected a folder, or a name that is free"),
    ],
)
def test_mistakes_are_one_message(folder, capsys, words, expected):
    assert main(["train", "config.yaml", *words]) == 2
    text = capsys.readouterr().err
    assert expected in text and "Traceback" not in text


@pytest.mark.parametrize(
    "words",
    [
        ["--batch_size", "4", "config.yaml", "--dry-run"],
        ["batch_size=4", "--dry_run", "config.yaml"],
        ["--dry-run", "--amsgrad", "config.yaml", "--batch-size=4"],
        ["batch_size=4", "--config", "config.yaml", "--dry-run"],
    ],
)
def test_file_stands_anywhere_among_the_options(folder, capsys, words):
    assert main(["train", *words]) == 0
    assert "batch_size: 4\n" in capsys.readouterr().out


def test_traceback_of_a_mistaken_option(folder):
    with pytest.raises(ValueError, match="r_mx"):
        main(["train", "config.yaml", "--r_mx=3", "--traceback"])


@pytest.mark.parametrize("word", ["--help-config", "--options"])
def test_manual(capsys, word):
    assert main(["train", word]) == 0
    everything = capsys.readouterr().out
    assert (
        "model.field_feature_widths  [list of number" in everything and "hidden_irreps  [text; accepted]" in everything
    )
    assert main(["train", word, "batch_size"]) == 0
    assert capsys.readouterr().out.startswith("training.batch_size  [integer > 0; default 8]\n    Frames per step.")
    assert main(["train", word, "batch_sise"]) == 2
    assert "did you mean 'batch_size'?" in capsys.readouterr().err


def test_schema(tmp_path, capsys):
    assert main(["train", "--schema", "-"]) == 0
    printed = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(printed)
    assert main(["train", "--schema", str(tmp_path / "schema.json")]) == 0
    assert "yaml-language-server: $schema=" in capsys.readouterr().out
    assert json.loads((tmp_path / "schema.json").read_text(encoding="utf-8")) == printed
