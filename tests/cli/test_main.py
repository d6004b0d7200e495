"""The command: speed of its help, its errors, and a model from data to predictions."""

import json
import subprocess
import sys

import pytest
from ase.io import read

from fp_potential.cli.main import COMMANDS, main
from training_data import frames, training_file, write_frames

HEAVY = ("torch", "numpy", "ase", "pydantic", "rich", "yaml", "scipy")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"], ["eval", "--help"]])
def test_help_imports_nothing_heavy(words):
    code = (
        "import sys\nfrom fp_potential.cli.main import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    # the options of the loop are described in one place, which needs pydantic
    expected = "['pydantic']" if words[0] == "eval" else "[]"
    assert out.stdout.strip().splitlines()[-1] == expected


def test_help_lists_the_commands(capsys):
    assert main([]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'?"),
        (["xyz"], "unknown command 'xyz'; commands: train"),
        (["train"], "expected a training file"),
        (["train", "nowhere.yaml"], "training file 'nowhere.yaml' does not exist"),
        (["export", "nowhere", "model.pt"], "'nowhere' is no run folder"),
        (["info", "nowhere.pt"], "no model file nowhere.pt"),
        (["eval", "nowhere.pt", "a.xyz"], "no model file nowhere.pt"),
    ],
)
def test_bad_input_is_one_message_and_status_two(tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    text = capsys.readouterr().err
    assert expected in text and "Traceback" not in text


def test_traceback_on_request(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        main(["train", str(tmp_path / "nowhere.yaml"), "--traceback"])


def test_options_manual(capsys):
    assert main(["train", "--options"]) == 0
    text = capsys.readouterr().out
    assert "training.batch_size  [integer > 0; default 8]" in text and "V/Å" in text


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    data = write_frames(folder / "frames.xyz")
    config = training_file(folder, data)
    assert main(["train", str(config), "train_schedule.0.epochs=1", "training.ema_decay=0.5"]) == 0
    assert main(["export", str(folder / "run"), str(folder / "model.pt")]) == 0
    return folder


def test_train_export_info_eval(trained, tmp_path, capsys):
    capsys.readouterr()
    assert main(["info", str(trained / "model.pt"), "--json"]) == 0
    metadata = json.loads(capsys.readouterr().out)
    assert metadata["elements"] == ["H", "O", "Na", "Cl"] and metadata["training"]["epochs"] == 3
    assert metadata["training"]["data"]["files"] == ["frames.xyz"]
    ranges = metadata["training"]["ranges"]  # of the training set, which the calculator compares with
    assert ranges["charge_per_atom"] == [0.0, 0.0] and ranges["field"] == pytest.approx(0.05)
    assert 0.8 < ranges["distances"]["H-O"] < 1.1 and set(ranges["density"]) == {"H", "O", "Na", "Cl"}
    assert main(["info", str(trained / "run")]) == 0
    assert "finished epochs: 3 of 3" in capsys.readouterr().out
    assert main(["info", str(trained / "run" / "checkpoints" / "latest.pt")]) == 0
    text = capsys.readouterr().out
    assert "checkpoint of a training: " in text and "finished epochs: 3 of 3" in text and "elements: H O Na Cl" in text
    assert main(["eval", str(trained / "run" / "checkpoints" / "latest.pt"), "x.xyz"]) == 2
    assert "a file of torch.save, as checkpoints of a training are" in capsys.readouterr().err
    out = tmp_path / "predicted.xyz"
    words = ["eval", str(trained / "model.pt"), str(trained / "frames.xyz"), "--split", "test", "--output", str(out)]
    # a model after three epochs need not converge on every frame: status 1 says so
    assert main([*words, "--scf_tolerance", "1e-8", "--table", str(tmp_path / "table.txt")]) in (0, 1)
    table = (tmp_path / "table.txt").read_text()
    assert table in capsys.readouterr().out and "energy [meV/atom]" in table
    predicted = read(out, ":")
    assert [atoms.arrays["FP_forces"].shape for atoms in predicted] == [(len(atoms), 3) for atoms in predicted]
    assert len(predicted) == 3


def test_same_command_resumes(trained, capsys):
    words = ["train", str(trained / "train.yaml"), "train_schedule.0.epochs=1", "training.ema_decay=0.5"]
    capsys.readouterr()
    assert main(words) == 0
    assert "is finished" in capsys.readouterr().out
    assert main([*words, "model.num_channels=8"]) == 2
    assert "model.num_channels: 4 -> 8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "spare"], "no frame has split=spare; values of 'split' present: test, train"),
        (["--key", "energy=dft"], "no frame has the key 'dft' (data.keys.energy)"),
        (["--key", "enrgy=dft"], "unknown option 'enrgy'; did you mean 'energy'?"),
        (["--key", "energy"], "expected name=key"),
        (["--batch_size", "0"], "expected at least 1"),
        (["--scf_tolerance", "-1"], "scf_tolerance"),
    ],
)
def test_bad_arguments_of_eval(trained, capsys, words, expected):
    assert main(["eval", str(trained / "model.pt"), str(trained / "frames.xyz"), *words]) == 2
    assert expected in capsys.readouterr().err


def test_eval_of_frames_without_labels(trained, tmp_path, capsys):
    content = frames()[:2]
    for atoms in content:
        atoms.info = {}
        for name in ("REF_forces", "REF_atomic_multipoles"):
            del atoms.arrays[name]
    path = write_frames(tmp_path / "bare.xyz", content)
    assert main(["eval", str(trained / "model.pt"), str(path), "--output", str(tmp_path / "out.xyz")]) == 0
    assert "no frame has energy" in capsys.readouterr().out
    assert "FP_energy" in read(tmp_path / "out.xyz").info
    words = ["eval", str(trained / "model.pt"), str(path)]
    for option, label in (
        (["--initial_density", "from_data"], "atomic_multipoles"),
        (["--initial_fermi_level", "from_data"], "fermi_level"),
        (["--constant_charge", "false"], "fermi_level"),
    ):
        assert main([*words, *option]) == 2
        assert f"{option[0][2:]} needs {label} on every frame" in capsys.readouterr().err


def test_eval_from_data_and_at_fixed_density(trained, tmp_path):
    """The start changes the number of applications only; use_autograd_forces changes the forces only."""
    words = ["eval", str(trained / "model.pt"), str(trained / "frames.xyz"), "--split", "test"]
    tight = ["--scf_tolerance", "1e-6", "--num_scf_steps", "300"]
    found = []
    for options in ([], ["--initial_density", "from_data"], ["--use_autograd_forces", "false"]):
        out = tmp_path / f"{len(found)}.xyz"
        assert main([*words, *tight, *options, "--output", str(out)]) in (0, 1)
        found.append(read(out, ":"))
    for plain, from_data, fixed in zip(*found, strict=True):
        if plain.info["FP_scf_status"] == from_data.info["FP_scf_status"] == fixed.info["FP_scf_status"] == 0:
            assert from_data.info["FP_energy"] == pytest.approx(plain.info["FP_energy"], abs=1e-4)
            assert from_data.arrays["FP_charges"] == pytest.approx(plain.arrays["FP_charges"], abs=1e-4)
            assert fixed.arrays["FP_charges"] == pytest.approx(plain.arrays["FP_charges"], abs=1e-6)
            assert abs(fixed.arrays["FP_forces"] - plain.arrays["FP_forces"]).max() > 1e-5
    assert any(plain.info["FP_scf_status"] == 0 for plain in found[0])


def test_eval_reports_an_unconverged_loop_by_its_status(trained, capsys):
    words = ["eval", str(trained / "model.pt"), str(trained / "frames.xyz"), "--num_scf_steps", "2"]
    assert main([*words, "--scf_tolerance", "1e-12"]) == 1
    assert "of 11 frames did not converge" in capsys.readouterr().err


def test_eval_of_an_unknown_element(trained, tmp_path, capsys):
    content = frames()[:1]
    content[0].numbers[0] = 9
    path = write_frames(tmp_path / "fluorine.xyz", content)
    assert main(["eval", str(trained / "model.pt"), str(path)]) == 2
    assert "fluorine.xyz, frame 0: unknown element F" in capsys.readouterr().err


def test_file_that_is_no_model(trained, tmp_path, capsys):
    (tmp_path / "model.pt").write_text("nothing")
    assert main(["info", str(tmp_path / "model.pt")]) == 2
    assert "is not a TorchScript model" in capsys.readouterr().err
