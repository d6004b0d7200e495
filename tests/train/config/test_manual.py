"""What ``--help-config`` says of every option."""

import io
import re

import pytest
from fp_potential.train.config.manual import as_text, show
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config.manual import entries
from rich.console import Console


def test_manual_describes_every_option():
    found = entries()
    assert not [entry.name for entry in found if not entry.text.strip()]
    names = [entry.name for entry in found]
    assert "train_schedule.*.fixed_point_training_options.scf.num_scf_steps" in names and "hidden_irreps" in names
    assert "typing" not in as_text(found) and "Annotated" not in as_text(found) and "<class" not in as_text(found)


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
