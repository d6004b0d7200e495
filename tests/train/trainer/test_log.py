"""What a run shows: the row of an epoch, progress bars, TensorBoard events."""

import csv
import io
import re
import sys

import pytest
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import load_config
from fp_potential.train.progress import track
from fp_potential.train.run import train
from fp_potential.train.trainer.log import EVENTS, Log
from rich.console import Console

from training_data import training_file, write_frames

COLUMNS = [
    "epoch",
    "stage",
    "lr",
    "time [s]",
    "train loss",
    "train energy [meV/atom]",
    "train forces [meV/Å]",
    "train multipoles [me, me·Å]",
    "train SCF applications",
    "train SCF converged [%]",
    "train fallbacks",
    "valid loss",
    "valid energy [meV/atom]",
    "valid forces [meV/Å]",
    "valid stress [meV/Å³]",
    "valid charges [me]",
    "valid atomic dipoles [me·Å]",
    "valid dipole [me·Å]",
    "SCF forces [meV/Å]",
    "valid SCF applications",
    "valid SCF converged [%]",
]


def lines_of(tmp_path, columns, *rows):
    screen = io.StringIO()
    log = Log(tmp_path / "log.csv", columns, Console(file=screen, width=80), 0)
    for row in rows:
        log.row(row)
    return screen.getvalue().splitlines()


def test_row_is_aligned_and_fits(tmp_path):
    row = {name: 123.456789 * 10 ** (2 * place - 20) for place, name in enumerate(COLUMNS[2:])}
    lines = lines_of(tmp_path, COLUMNS, {"epoch": 1, "stage": "a stage with a long name", **row})
    assert max(map(len, lines)) <= 160
    cells = lines[-1].split()
    assert cells[0] == "1" and "…" in lines[-1]
    # every unit ends where its number ends
    ends = [match.end() for match in re.finditer(r"\S+", lines[-1])]
    units = [match.end() for match in re.finditer(r"\[\S+\]", lines[-2])]
    assert len(units) == 9 and set(units) <= set(ends)
    assert "applic-" in " ".join(lines) and "fallbacks" in " ".join(lines)


def test_training_errors_stand_in_the_file_only(tmp_path):
    text = " ".join(lines_of(tmp_path, COLUMNS, {"epoch": 0, "stage": "s"}))
    assert text.count("multipoles") == 0 and text.count("converged") == 1
    without_validation = [name for name in COLUMNS if not name.startswith("valid ")]
    text = " ".join(lines_of(tmp_path, without_validation, {"epoch": 0, "stage": "s"}))
    assert text.count("multipoles") == 1
    assert "train multipoles [me, me·Å]" in (tmp_path / "log.csv").read_text()


def test_bar_only_on_a_terminal(monkeypatch):
    for terminal, rank in ((False, "0"), (True, "0"), (True, "1")):
        monkeypatch.setenv("RANK", rank)
        screen = io.StringIO()
        console = Console(file=screen, force_terminal=terminal, width=80)
        found = [
            (i, list(track(range(2), "inner", console=console))) for i in track(range(3), "outer", console=console)
        ]
        assert found == [(i, [0, 1]) for i in range(3)]
        shown = screen.getvalue()
        assert ("outer" in shown) == (terminal and rank == "0") and "inner" not in shown


def test_bar_of_an_unknown_number_and_after_an_error():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=80)
    with pytest.raises(KeyError):
        for _ in track(iter([1, 2]), "first", console=console):
            raise KeyError
    assert list(track(iter([1, 2]), "second", console=console)) == [1, 2]
    assert "second" in screen.getvalue()


@pytest.fixture
def events(tmp_path):
    """A short run with events, trained and then lengthened as a resumed run."""
    config = load_config(training_file(tmp_path, write_frames(tmp_path / "frames.xyz")))
    config.training.tensorboard = True
    config.train_schedule = config.train_schedule[:1]
    return config


def scalars(config):
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = event_accumulator.EventAccumulator(f"{config.run_dir}/{EVENTS}")
    found.Reload()
    return {tag: [(item.step, item.value) for item in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def quiet_train(config, **options):
    train(config, Console(file=io.StringIO()), **options)


def log_of(config, column):
    with open(f"{config.run_dir}/log.csv", newline="", encoding="utf-8") as file:
        return [float(row[column]) for row in csv.DictReader(file)]


def test_events_are_the_log_also_after_a_resume(events, monkeypatch):
    pytest.importorskip("tensorboard")
    from fp_potential.train.trainer import trainer

    save = trainer.checkpoint.save

    def killed(state, path):
        """The second epoch is in the log and the events, but its checkpoint is never written."""
        if state["epoch"] == 2:
            raise KeyboardInterrupt
        save(state, path)

    monkeypatch.setattr(trainer.checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        quiet_train(events)
    monkeypatch.undo()
    assert [step for step, _ in scalars(events)["loss/train"]] == [0, 1]
    quiet_train(events)
    found = scalars(events)
    assert {"loss/train", "loss/valid", "forces [meV per Å]/train", "forces [meV per Å]/valid", "lr"} <= set(found)
    for tag, column in {"loss/valid": "valid loss", "energy [meV per atom]/train": "train energy [meV/atom]"}.items():
        assert [step for step, _ in found[tag]] == [0, 1]
        assert [value for _, value in found[tag]] == pytest.approx(log_of(events, column), rel=1e-6)
    quiet_train(events)  # finished: nothing to add
    assert scalars(events) == found
    quiet_train(events, restart=True)
    assert [step for step, _ in scalars(events)["loss/train"]] == [0, 1]


def test_missing_package_is_named_before_the_training(events, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(InputError, match=r"training\.tensorboard: true .* pip install 'fp-potential\[tensorboard\]'"):
        quiet_train(events)
    events.training.tensorboard = False
    quiet_train(events)
