"""Checkpoints: whole or absent, checked before a run is resumed; every format ever written can be resumed."""

import functools

import pytest
import torch
from fp_potential.train.config.schema import validate
from fp_potential.train.errors import InputError
from fp_potential.train.trainer import checkpoint

from line_problem import Line, LineOptions, line_config, line_trainer, log_rows, same_state

check_resumable = functools.partial(checkpoint.check_resumable, problem=Line)


@pytest.fixture
def config():
    return line_config()


def test_checkpoint_is_whole_or_absent(tmp_path, monkeypatch):
    path = tmp_path / "latest.pt"
    checkpoint.save({"epoch": 1}, path)

    def half(state, file):
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save({"epoch": 2}, path)
    assert checkpoint.load(path)["epoch"] == 1
    assert [file.name for file in tmp_path.iterdir()] == ["latest.pt"]


@pytest.mark.parametrize(("content", "expected"), [(b"garbage", "not a readable checkpoint"), (None, "no checkpoint")])
def test_unreadable_checkpoint(tmp_path, content, expected):
    path = tmp_path / "latest.pt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        checkpoint.load(path)


def test_checkpoint_of_another_format(tmp_path):
    torch.save({"format": 99}, tmp_path / "latest.pt")
    with pytest.raises(InputError, match="checkpoint format 99, this version reads 1 and 2"):
        checkpoint.load(tmp_path / "latest.pt")


def state_of(config, epoch, step=0):
    return {"config": config.model_dump(mode="json"), "data": "abc", "epoch": epoch, "step": step}


def changed(config, **updates):
    data = config.model_dump(mode="json")
    for name, value in updates.items():
        place = data
        *parents, last = name.split("__")
        for part in parents:
            place = place[int(part)] if part.isdigit() else place[part]
        place[last] = value
    return validate(data, LineOptions, "test")


def test_resume_with_another_model_names_the_options(config, tmp_path):
    other = changed(config, degree=2, training__batch_size=2)
    with pytest.raises(InputError) as caught:
        check_resumable(state_of(config, 2), other, "abc", tmp_path)
    text = str(caught.value)
    assert "degree: 1 -> 2" in text and "training.batch_size: 8 -> 2" in text and "--restart" in text


def test_options_newer_than_the_checkpoint_are_taken_as_their_defaults(config, tmp_path):
    state = state_of(config, 2)
    del state["config"]["training"]["max_atoms_per_batch"]
    check_resumable(state, config, "abc", tmp_path)
    with pytest.raises(InputError, match=r"training\.max_atoms_per_batch: None -> 2"):
        check_resumable(state, changed(config, training__max_atoms_per_batch=2), "abc", tmp_path)


def test_resume_with_other_data_is_refused(config, tmp_path):
    with pytest.raises(InputError, match="frames of the data files"):
        check_resumable(state_of(config, 2), config, "xyz", tmp_path)


def test_machine_and_coming_stages_may_change(config, tmp_path):
    longer = changed(config, train_schedule__1__epochs=9, train_schedule__1__end=12, train_schedule__1__lr=0.5)
    check_resumable(state_of(config, 4), longer, "abc", tmp_path)
    with pytest.raises(InputError, match=r"train_schedule\.1\.lr: 0\.01 -> 0\.5"):
        check_resumable(state_of(config, 5), longer, "abc", tmp_path)
    with pytest.raises(InputError, match=r"train_schedule\.1\.lr: 0\.01 -> 0\.5"):
        check_resumable(state_of(config, 4, step=1), longer, "abc", tmp_path)
    elsewhere = changed(config, run_dir="other", training__num_threads=1, training__workers=2)
    check_resumable(state_of(config, 5), changed(elsewhere, points="moved.csv"), "abc", tmp_path)


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("latest.pt", "latest.ptabc.tmp", "stage_0.ptxyz.tmp", "notes.tmp"):
        (tmp_path / name).touch()
    checkpoint.remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest.pt", "notes.tmp"]


def test_format_1_is_resumed(config, tmp_path):
    """Format 1 had neither steps inside of an epoch nor the course of the stage."""
    line_trainer(Line(), config, tmp_path / "whole").run()
    folder = tmp_path / "old"
    first = line_config(*({"name": "first", "epochs": 4, "lr": 0.5, "lr_final": 0.05},))
    line_trainer(Line(), first, folder).run()
    path = folder / "checkpoints" / checkpoint.LATEST
    state = checkpoint.load(path)
    new = ("step", "epoch_so_far", "pacing", "workflow", "stage", "optimizer_name")
    torch.save({name: value for name, value in state.items() if name not in new} | {"format": 1}, path)
    old = checkpoint.load(path)
    check_resumable(old, config, "data", path)
    line_trainer(Line(), config, folder, old).run()
    assert log_rows(folder) == log_rows(tmp_path / "whole")
    ends = [checkpoint.load(run / "checkpoints" / checkpoint.LATEST) for run in (folder, tmp_path / "whole")]
    assert same_state(*ends)
