"""Which elements take added charge in the training set, and where models start to conduct."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from fp_potential.train.data.frame import Frame
from fp_potential.train.data.prepared_writer import prepare
from fp_potential.train.data.read import read_frames
from fp_potential.train.data.sets import load_data
from fp_potential.train.errors import InputError
from fp_potential.train.potential import charging
from fp_potential.train.potential.charging import TYPICAL, softness_of
from fp_potential.train.potential.config import Keys, TrainConfig, load_config
from fp_potential.train.potential.initialise.metallic import SPILLS_OUT, start_metallic
from fp_potential.train.potential.problem import PotentialProblem
from fp_potential.train.potential.statistics import SetStatistics, collect
from fp_potential.train.run import train
from fp_potential.train.trainer import checkpoint
from rich.console import Console

from metals import KEYS, SOFTNESS, charged_frames
from structures import make_model
from training_data import training_file, write_frames

EXAMPLES = Path(__file__).parents[3] / "examples"
SPLIT = "model.fixedpoint_update_config={'type': 'SplitChargeUpdate', 'metallic': 'auto'}"


def read(folder: Path, content: list[Atoms], keys: dict[str, str] = KEYS) -> list[Frame]:
    return read_frames([str(write_frames(folder / "a.xyz", content))], Keys(**keys), demanded=[])


def found_in(folder: Path, content: list[Atoms], keys: dict[str, str] = KEYS) -> dict[str, tuple[float, int]]:
    sums = collect(read(folder, content, keys), 4.0)
    assert SetStatistics(**json.loads(json.dumps(sums.as_dict()))) == sums
    return {symbol: softness_of(sums.charging, symbol) for symbol in SOFTNESS}


def test_softness_is_that_of_the_data(tmp_path: Path) -> None:
    """Also with other charges and levels in every composition, which no pooled fit without their means would give."""
    found = found_in(tmp_path, charged_frames())
    assert found["Na"] == (pytest.approx(0.05, rel=1e-11), 6)
    assert found["H"] == found["O"] == (0.0, 0)


def test_what_geometries_do_to_charges_and_levels_averages_out(tmp_path: Path) -> None:
    """Against the same sums written out; the regression on the level would find less for Na, and oxygen soft."""
    content = charged_frames(1, noise=0.3, repeats=60)
    found = found_in(tmp_path, content)
    q = np.array([atoms.arrays["q"][-2:].mean() for atoms in content])
    level, charge = (np.array([atoms.info[name] for atoms in content]) for name in ("mu", "charge"))
    assert found["Na"] == (pytest.approx(-np.cov(q, charge)[0, 1] / np.cov(level, charge)[0, 1], rel=1e-9), 180)
    assert found["Na"][0] == pytest.approx(0.05, rel=0.05)
    assert -np.cov(q, level)[0, 1] / np.var(level) < 0.04
    oxygen = np.array([atoms.arrays["q"][0] for atoms in content])
    assert -np.cov(oxygen, level)[0, 1] / np.var(level) > 0.05 and found["O"] == (0.0, 0)


@pytest.mark.parametrize(
    "reason", ["one charge", "in fields", "no weight", "other compositions", "rising level", "one level"]
)
def test_frames_that_say_nothing(tmp_path: Path, reason: str) -> None:
    content = charged_frames(2 if reason != "other compositions" else 3)
    keys = KEYS
    for number, atoms in enumerate(content):
        if reason == "one charge":  # as much as there is to see, but not by charge
            atoms.info["charge"] = 0.0
        elif reason == "in fields":
            atoms.info["field"], keys = np.array([0.0, 0.0, 0.1]), KEYS | {"electric_field": "field"}
        elif reason == "no weight":
            atoms.info["config_atomic_multipoles_weight"] = 0.0
        elif reason == "rising level":
            atoms.info["mu"] *= -1.0
        elif reason == "one level":  # but for rounding
            atoms.info["mu"] = -3.0 - 1e-13 * atoms.info["charge"]
        else:
            content[number] = atoms if number % 3 == number // 3 else None
    content = [atoms for atoms in content if atoms is not None]
    assert found_in(tmp_path, content, keys)["Na"] == (0.0, 0)


@pytest.mark.parametrize("periodic", [True, False])
def test_without_levels_the_share_of_the_charge_decides_in_periodic_frames(tmp_path: Path, periodic: bool) -> None:
    content = charged_frames()
    for atoms in content:
        del atoms.info["mu"]
        atoms.cell, atoms.pbc = [12.0, 12.0, 12.0], [periodic, periodic, False]
    found = found_in(tmp_path, content)
    assert found["Na"] == ((pytest.approx(TYPICAL, rel=1e-11), 6) if periodic else (0.0, 0))
    assert found["O"] == (0.0, 0)
    # a level known for one composition decides for all of its elements
    for atoms, other in zip(content[:3], charged_frames()[:3], strict=True):
        atoms.info["mu"] = other.info["mu"]
    assert found_in(tmp_path, content)["Na"] == (pytest.approx(0.05, rel=1e-11), 3)


def test_a_share_that_is_no_larger_than_its_error_is_none(tmp_path: Path) -> None:
    """Charges of water that fluctuate by as much as is added, seen in few frames."""
    content = charged_frames(1, levels=(-3.0, -1.0), noise=1.0, repeats=3)
    shares = []
    for symbol in ("H", "O"):
        own = [atoms.arrays["q"][atoms.symbols == symbol].sum() for atoms in content]
        charge = [atoms.info["charge"] for atoms in content]
        shares.append(np.cov(own, charge)[0, 1] / np.var(charge, ddof=1))
    assert max(shares) > charging.SHARE
    found = found_in(tmp_path, content)
    assert found["H"] == found["O"] == (0.0, 0) and found["Na"][1] == 6


def test_copper_conducts_and_water_beside_it_does_not() -> None:
    """By the charges of DFT of the electrode example, of which oxygen takes a fifth."""
    config = load_config(EXAMPLES / "cu_water_electrode" / "train.yaml")
    found = collect(load_data(config.data).train, config.model.r_max).charging
    assert {symbol for symbol in ("H", "O", "Cu") if softness_of(found, symbol)[0] > 0} == {"Cu"}
    softness, frames = softness_of(found, "Cu")
    assert frames == 16 and 0.02 < softness < 0.06


def test_sums_do_not_grow_with_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(charging, "COMPOSITIONS", 1)
    assert found_in(tmp_path, charged_frames(3))["Na"] == (pytest.approx(0.05, rel=1e-11), 3)


@pytest.mark.parametrize(
    ("metallic", "expected", "line"),
    [
        ("auto", [0, 0, 0.05, 0], "metallic: Na 0.05 e/V from 6 frames; H, O, Cl insulate"),
        (["O", "Na"], [0, TYPICAL, 0.05, 0], "metallic: O 0.02 e/V, Na 0.05 e/V from 6 frames; H, Cl insulate"),
    ],
)
def test_where_a_model_starts_to_conduct(tmp_path: Path, metallic, expected: list[float], line: str) -> None:
    model = make_model(fixedpoint_update_config={"type": "SplitChargeUpdate", "metallic": metallic})
    options = load_config(training_file(tmp_path, tmp_path / "none")).model
    options.fixedpoint_update_config.type = "SplitChargeUpdate"
    options.fixedpoint_update_config.metallic = metallic
    sums = collect(read(tmp_path, charged_frames()), 4.0)
    assert start_metallic(model, options, sums.charging) == [line]
    update = model.solver.density_map.response
    softness = (update.metallic_scale * update.metallic_bias.relu() * update.metallic).square()
    assert torch.allclose(softness, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-15)
    dipoles = torch.nn.functional.softplus(update.dipole_bias).tolist()
    assert [abs(value - SPILLS_OUT) < 1e-6 for value in dipoles] == [value > 0 for value in expected]
    options.fixedpoint_update_config.metallic = "none"
    assert start_metallic(model, options, sums.charging) == []


def configuration(folder: Path, content: list[Atoms], *overrides: str, **sections: object) -> TrainConfig:
    path = write_frames(folder / "data.xyz", content)
    data = {"files": [str(path)], "keys": KEYS, "valid_fraction": 0.2}
    loop = {"num_scf_steps": 20, "mixing_parameter": 0.3}
    stage = {
        "name": "only",
        "epochs": 1,
        "lr": 1e-3,
        "loss": {"forces": 1.0, "atomic_multipoles": 1.0},
        "fixed_point_training_options": {"mode": "linearize_solve", "scf": loop},
    }
    given = {"data": data, "train_schedule": [stage]} | sections
    return load_config(training_file(folder, path, **given), [SPLIT, *overrides])


def softness_at_start(problem: PotentialProblem) -> dict[str, float]:
    update = problem.module.solver.density_map.response
    values = (update.metallic_scale * update.metallic_bias.relu()).square().tolist()
    return {symbol: value for symbol, value in zip(("H", "O", "Na"), values, strict=True)}


@pytest.mark.parametrize("method", ["random", "he", "reference"])
def test_every_start_of_a_run_has_the_softness_of_the_data(tmp_path: Path, method: str) -> None:
    config = configuration(tmp_path, charged_frames(), f"training.initialise.method={method}", "default_dtype=float64")
    problem = PotentialProblem(config, load_data(config.data))
    problem.initialise(config.training.initialise, 1)
    found = softness_at_start(problem)
    assert found == {"H": 0.0, "O": 0.0, "Na": pytest.approx(0.05, rel=1e-11)}
    line = [text for text in problem.introduction() if text.startswith("metallic: Na 0.05 e/V from ")]
    assert len(line) == 1 and line[0].endswith("; H, O insulate")
    # a run that goes on knows it, too, and finds nothing anew
    state = json.loads(json.dumps(problem.state()))
    again = PotentialProblem(config, load_data(config.data), state)
    again.initialise(config.training.initialise, 1)
    assert softness_at_start(again) == found and line[0] in again.introduction()


def test_prepared_sets_hold_it_and_older_ones_are_read_anew(tmp_path: Path) -> None:
    config = configuration(tmp_path, charged_frames())
    prepare(config.data, config.model.r_max, tmp_path / "set", collect, console=Console(file=io.StringIO()))
    manifest = json.loads((tmp_path / "set" / "manifest.json").read_text())
    expected = manifest["statistics"]["train"]["charging"]
    assert expected["levels"]["Na"]
    config.data.files = [str(tmp_path / "set")]
    assert collect(load_data(config.data).train, config.model.r_max).charging == expected
    manifest["statistics"]["train"]["charging"] = {"levels": {"Na": [77.0]}}
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    assert collect(load_data(config.data).train, config.model.r_max).charging["levels"]["Na"] == [77.0]
    del manifest["statistics"]["train"]["charging"]
    (tmp_path / "set" / "manifest.json").write_text(json.dumps(manifest))
    assert collect(load_data(config.data).train, config.model.r_max).charging == expected


def test_a_level_cannot_be_held_where_the_data_show_no_metal(tmp_path: Path) -> None:
    content = charged_frames()[::3]  # one charge of each composition
    level = "train_schedule.0.fixed_point_training_options.scf.constant_charge=false"
    config = configuration(tmp_path, content, level, "data.valid_fraction=0")
    with pytest.raises(InputError, match=r"train_schedule\.0 \('only'\).*nothing conducts.*metallic: \[Cu\]"):
        PotentialProblem(config, load_data(config.data))
    named = SPLIT.replace("'auto'", "['Na']")
    config = configuration(tmp_path, content, level, "data.valid_fraction=0", named)
    assert PotentialProblem(config, load_data(config.data)).notes.count("metallic: Na 0.02 e/V; H, O insulate") == 1


def test_a_run_says_what_it_found(tmp_path: Path) -> None:
    screen = io.StringIO()
    train(configuration(tmp_path, charged_frames(), "training.num_threads=1"), Console(file=screen, width=200))
    assert screen.getvalue().count("metallic: Na 0.05 e/V from ") == 1


def test_a_run_that_goes_on_starts_anew_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    """A later stage draws the parameters again, with the softness of the data: bit for bit; in two processes, too."""
    content = charged_frames()
    stages: list[dict] = [{}, {}, {}]
    loop = {"num_scf_steps": 20, "mixing_parameter": 0.3}
    for number in range(len(stages)):
        loss = {"forces": 1.0, "fermi_level": 1.0, "fragment_charges": 1.0, "metallic_softness": 1.0}
        options = {"mode": "linearize_solve", "scf": loop}
        stages[number] = {"name": str(number), "epochs": 1, "lr": 1e-2, "loss": loss}
        stages[number]["fixed_point_training_options"] = options
    stages[1] |= {"workflow": "initialise_only", "initialise": {"method": "random"}}
    found = {}
    for name, workers in (("whole", 1), ("stopped", 1), ("two", 2)):
        run = [f"run_dir={tmp_path / name}", f"training.workers={workers}", "default_dtype=float64"]
        for part in ([stages[:1]] if name == "stopped" else []) + [stages]:
            train(configuration(tmp_path, content, *run, train_schedule=part), Console(quiet=True))
        module = checkpoint.load(tmp_path / name / "checkpoints" / "latest.pt")["module"]
        with open(tmp_path / name / "log.csv", encoding="utf-8", newline="") as file:
            log = [{key: cell for key, cell in row.items() if "[s]" not in key} for row in csv.DictReader(file)]
        found[name] = module, log
    module, log = found["whole"]
    assert 0.02 < float(log[-1]["s Na [e/V]"]) < 0.1
    other, other_log = found["stopped"]
    assert all(torch.equal(value, other[key]) for key, value in module.items()) and other_log == log
    two, two_log = found["two"]
    assert all(torch.allclose(value, two[key], rtol=0, atol=1e-9) for key, value in module.items())
    columns = ("train loss", "valid loss", "s Na [e/V]", "s O [e/V]")
    for row, expected in zip(two_log, log, strict=True):
        assert [float(row[name]) for name in columns if expected[name]] == pytest.approx(
            [float(expected[name]) for name in columns if expected[name]], rel=1e-6
        )
