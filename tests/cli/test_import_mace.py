"""``fixedpoint import-mace`` and ``fixedpoint info`` on what it writes."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential.config import StatisticsOptions, load_config
from fp_potential.train.potential.initialise.mace_weights import load_mace
from fp_potential.train.potential.problem import PotentialProblem

from fp_potential.cli.main import main
from fp_potential.options import ModelOptions
from mace_models import make_mace
from training_data import frames, training_file, write_frames


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mace") / "water.model"
    torch.save(make_mace(scale_shift=(1.7, 0.3)), path)
    return path


def test_import_and_info(model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    start = tmp_path / "start.pt"
    assert main(["import-mace", str(model_file), str(start), "--trust", "--elements", "O", "H"]) == 0
    text = capsys.readouterr().out
    assert "cuequivariance" not in text
    assert "- layer 2 makes l = 0 at most in mace-torch" in text
    sections = yaml.safe_load(text[text.index("model:") :])
    weights = load_mace(start)
    weights.check(ModelOptions(**sections["model"]), [1, 8])
    assert StatisticsOptions(**sections["statistics"]).E0s == pytest.approx({"H": -1.0, "O": -4.0})
    assert main(["info", str(start)]) == 0
    text = capsys.readouterr().out
    assert "elements: H O" in text and "max_ell: 2" in text and "remarks: layer 2" in text
    assert main(["info", "--json", str(start)]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == weights.options


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "water.model: a .model file is a pickle, and reading one runs whatever code it holds"),
        (["--trust", "--elements", "Hh"], "--elements Hh: no element; did you mean"),
        (["--trust", "--elements", "H", "C"], "lacks the elements with atomic numbers [6]"),
    ],
)
def test_bad_input(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], expected: str
) -> None:
    assert main(["import-mace", str(model_file), str(tmp_path / "start.pt"), *words]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "start.pt").exists()


def test_a_training_starts_from_it(model_file: Path, tmp_path: Path) -> None:
    """Backbone, energy read-outs and E0s are the imported ones; options that differ are named."""
    start = tmp_path / "start.pt"
    assert main(["import-mace", str(model_file), str(start), "--trust", "--elements", "O", "H"]) == 0
    weights = load_mace(start)
    data = write_frames(tmp_path / "water.xyz", [atoms for atoms in frames() if not atoms.pbc.any()])
    options = {**weights.options, "field_feature_norms": None}
    config = load_config(
        training_file(tmp_path, data, model=options), [f"training.initialise.init_from={start}", "training.workers=1"]
    )
    problem = PotentialProblem(config, load_data(config.data))
    lines = problem.initialise(config.training.initialise, 1)
    assert "weights of a mace-torch model" in lines[0]
    state = problem.module.state_dict()
    for name, value in weights.state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-12, atol=0, msg=name)
    assert problem.statistics.atomic_energies == pytest.approx(weights.atomic_energies)
    config.model.r_max += 0.5
    with pytest.raises(InputError, match=r"model\.r_max: .* the mace-torch model has"):
        problem.initialise(config.training.initialise, 1)
