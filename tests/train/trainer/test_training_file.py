"""A learned model with options of its own, trained by a training file: what a new one has to bring, and no more."""

import functools

import pytest
from fp_potential.train.config.load import load
from fp_potential.train.config.manual import as_text, entries
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint

from line_problem import Line, LineOptions, line_trainer, log_rows, same_state

FILE = """
points: measured.csv
training:
  seed: 4
  ema_decay: null
  checkpoint_steps: 1
train_schedule:
  0:
    name: descent
    epochs: 5
    lr: 0.3
    lr_final: 3e-2
    constant_lr: 0.1
    weight: 2.0
  1:
    name: moves
    workflow: monte_carlo
    epochs: 5
    monte_carlo: {move: {slope: 0.01}}
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "line.yaml"
    path.write_text(FILE)
    return path


def resumed(folder, config, problem):
    """A trainer that goes on where the run in ``folder`` is, if there is one."""
    path = folder / "checkpoints" / checkpoint.LATEST
    state = checkpoint.load(path) if path.is_file() else None
    if state is not None:
        checkpoint.check_resumable(state, config, "data", path, type(problem))
    return line_trainer(problem, config, folder, state)


def test_descent_and_random_moves_of_a_training_file(file, tmp_path):
    config = load(file, LineOptions, ["train_schedule.1.epochs=6"])
    assert isinstance(config, LineOptions) and config.points == "measured.csv"
    problem = Line()
    loss = float(line_trainer(problem, config, tmp_path / "run").run())
    rows = log_rows(tmp_path / "run")
    assert [row["stage"] for row in rows] == ["descent"] * 5 + ["moves"] * 6
    assert loss < float(rows[4]["valid loss"]) < 0.5 * float(rows[0]["valid loss"])
    assert float(rows[0]["train loss"]) == pytest.approx(2e-6 * float(rows[0]["train error [mm]"]) ** 2)
    first, second = (checkpoint.load(tmp_path / "run" / "checkpoints" / f"stage_{n}.pt")["module"] for n in (0, 1))
    assert first["weight"] != second["weight"] and first["bias"] == second["bias"]  # only the slope moved


def test_stopped_run_continues(file, tmp_path):
    config = load(file, LineOptions)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    table = line_trainer(Line(), config, whole).run()
    for steps in (6, 19, 23):  # within both stages
        problem = Line()
        problem.stop_after = steps
        with pytest.raises(KeyboardInterrupt):
            resumed(parts, config, problem).run()
    moved = load(file, LineOptions, ["points=elsewhere.csv"])
    assert resumed(parts, moved, Line()).run() == table
    assert log_rows(parts) == log_rows(whole)
    ends = [checkpoint.load(folder / "checkpoints" / checkpoint.LATEST)["module"] for folder in (whole, parts)]
    assert same_state(*ends)
    with pytest.raises(InputError, match="degree: 1 -> 2"):
        resumed(parts, load(file, LineOptions, ["degree=2"]), Line())


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train_schedule.0.slop_lr=0.1", r"unknown option 'train_schedule\.0\.slop_lr'; did you mean 'slope_lr'\?"),
        ("train_schedule.0.model_lr=0.1", "unknown option"),
        ("seed=1", r"unknown option 'seed'; it must be nested under training"),
        ("train_schedule.1.epochs=0", r"train_schedule\.1\.epochs"),
        ("data.files=a.xyz", "unknown option 'data'; valid names: degree, points, run_dir, train_schedule, training"),
    ],
)
def test_options_of_another_model_are_unknown(file, override, expected):
    with pytest.raises(InputError, match=expected):
        load(file, LineOptions, [override])


def test_file_without_sections(tmp_path):
    (tmp_path / "line.yaml").write_text("just text")
    with pytest.raises(InputError, match=r"expected sections training, train_schedule$"):
        load(tmp_path / "line.yaml", LineOptions)


def test_manual_has_its_options_and_no_others():
    of_line = functools.partial(entries, LineOptions)
    assert as_text(of_line("slope_lr")).startswith("train_schedule.*.slope_lr  [number or none > 0; default none]")
    names = {entry.name for entry in of_line()}
    assert {"degree", "training.batch_size", "train_schedule.*.monte_carlo.move"} <= names
    words = " ".join(f"{entry.name} {entry.text}" for entry in of_line())
    assert not [word for word in ("SCF", "charge", "Fermi", "backbone", "readout", "force") if word in words]
