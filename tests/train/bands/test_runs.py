"""``fixedpoint train`` of pseudopotentials: bundles, training files, what they write, killed runs, the report."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from fp_potential.train.trainer import checkpoint

from bands_training import ZUNGER, bands_config, bands_problem, bands_trainer, system
from fp_potential.cli.main import main
from line_problem import log_rows, same_state

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
CDSE = EXAMPLES / "cdse_pseudopotentials" / "data"
III_V = EXAMPLES / "iii_v_pseudopotentials" / "data"


def small_bundle(folder):
    """The III-V bundle with every tenth k-point of two systems, a low cutoff, and a few epochs."""
    folder.mkdir()
    for path in III_V.iterdir():
        shutil.copy(path, folder)
    for number in range(4):
        (folder / f"input_{number}.par").write_text("maxKE = 2\nnBands = 16\n")
        for name in ("kpoints", "expBandStruct"):
            path = folder / f"{name}_{number}.par"
            path.write_text("\n".join(path.read_text().splitlines()[::20]) + "\n")
    settings = (folder / "NN_config.par").read_text()
    for old, new in (
        ("max_num_epochs = 600", "max_num_epochs = 4"),
        ("init_Zunger_num_epochs = 1000", "init_Zunger_num_epochs = 20"),
        ("init_Zunger_plotEvery = 500", "init_Zunger_plotEvery = 20"),
        ("plotEvery = 100", "plotEvery = 4"),
        ("schedulerStep = 80", "schedulerStep = 2"),
    ):
        assert old in settings
        settings = settings.replace(old, new)
    (folder / "NN_config.par").write_text(settings + "\nseparateKptGrad = 1\n")
    return folder


def test_bundle_of_gradient_training(tmp_path, capsys):
    """From the folder to all files that the published code writes, and the page of the run."""
    bundle, run = small_bundle(tmp_path / "bundle"), tmp_path / "run"
    options = ["outputs.n_q=64", "outputs.n_r=16"]
    assert main(["train", str(bundle), "--run", str(run), *options]) == 0
    said = capsys.readouterr().out
    assert "initialisation: fit to the Zunger form" in said and "real space: " in said
    assert "published leaves" in said and "stage 0 'gradient': gradient, adam" in said
    for name in (
        "oldFunc_plotBS.pdf", "initZunger_plotBS.pdf", "initZunger_plotPP.pdf", "initZunger_plotPP_20.png",
        "training_cost.dat", "epoch_4_PPmodel.pth", "epoch_4_AdamState.pth", "epoch_4_plotBS.png", "epoch_4_plotPP.png",
        "final_pot.pth", "final_pot_GaParams.par", "final_Ga_pot.dat", "final_Ga_qSpace_pot.dat", "final_plotBS.pdf",
        "test_table.txt",
    ):  # fmt: skip
        assert (run / name).is_file(), name
    rows = log_rows(run)
    rates = [float(row["lr"]) for row in rows]
    assert rates == pytest.approx([0.005, 0.005, 0.0045, 0.0045])
    costs = [line.split() for line in (run / "training_cost.dat").read_text().splitlines()]
    assert [[int(a), float(b)] for a, b in costs] == [[n, float(row["train loss"])] for n, row in enumerate(rows)]
    # resumed after its end: nothing is done again
    assert main(["train", str(bundle), "--run", str(run), *options]) == 0
    assert "is finished" in capsys.readouterr().out and log_rows(run) == rows
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    for title in ("Overview", "Bands", "Local potentials", "Cost by term", "Errors by k-point and band"):
        assert f"<h2>{title}</h2>" in page
    assert "Deformation potentials" not in page


@pytest.mark.slow
def test_bundle_that_is_only_evaluated(tmp_path, capsys):
    """CdSe: the analytic potential, whose bands are those of the file."""
    assert main(["train", str(CDSE), "--run", str(tmp_path / "run"), "outputs.plots=false"]) == 0
    said = capsys.readouterr().out
    assert "stage 0 'evaluate': evaluate" in said
    row = next(line.split() for line in said.splitlines() if line.startswith("CdSe "))
    # squares, and the gap at Γ with the published plane waves beside that of the file
    assert float(row[1]) == 0.0 and row[-2:] == ["1.8875", "1.8875"]


def training_file(folder):
    """A training file with all workflows, a deformation potential and held-out k-points."""
    kpoints = [[0.1 * n, 0.03 * n, 0.02 * n] for n in range(6)]
    rows = [[0, 7, 2, 8, 1.01, -1.0, 0.1]]
    own = system("In", kpoints=kpoints, deformation=rows)
    for place, row in enumerate(own["bands"]):
        row[1:] = [-9.0, -9.0, -4.0, -4.0, 0.1 * place, 0.1 * place, 1.0, 1.0, 3.0 + 0.2 * place, 3.0 + 0.2 * place]
    stages = [
        {"name": "adam", "epochs": 3, "lr": 0.01, "perturb_every": 2},
        {"name": "squares", "workflow": "least_squares", "epochs": 2, "damping_by": "each"},
        {"name": "moves", "workflow": "monte_carlo", "epochs": 3},
        {"name": "lbfgs", "epochs": 2, "optimizer": "lbfgs", "lr": 1.0, "patience": 5},
        {"name": "look", "workflow": "evaluate"},
    ]
    stages[2]["monte_carlo"] = {"moves": "parameters", "moves_per_batch": 4, "beta": 50.0}
    content = {
        "run_dir": "run",
        "model": {"type": "bands", "parameters": {name: ZUNGER[name] for name in ("In", "As")}},
        "systems": [own],
        "training": {"hold_out": 3, "lbfgs_iterations": 3},
        "train_schedule": stages,
        "outputs": {"plots": False, "n_q": 64, "n_r": 16},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_all_workflows_in_stages(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = training_file(tmp_path)
    assert main(["train", str(path), "--dry-run"]) == 0 and not (tmp_path / "run").exists()
    assert main(["train", str(path)]) == 0
    said = capsys.readouterr().out
    for text in ("6 k-points (2 held out)", "1 deformation potentials", "kernel 1", "k 2 band 8 - k 0 band 7"):
        assert text in said
    rows = log_rows(tmp_path / "run")
    assert [row["stage"] for row in rows] == ["adam"] * 3 + ["squares"] * 2 + ["moves"] * 3 + ["lbfgs"] * 2 + ["look"]
    assert float(rows[4]["train loss"]) < float(rows[3]["train loss"])
    assert float(rows[-1]["train loss"]) < float(rows[0]["train loss"])
    assert all(row["valid loss"] and row["train deformation [eV²]"] for row in rows)
    assert main(["report", "run", "--checkpoint", "best"]) == 0
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<h2>Deformation potentials</h2>" in page and "k 2 band 8 − k 0 band 7" in page


@pytest.mark.slow
def test_killed_and_resumed_bitwise(tmp_path):
    """SIGKILL after each stage's beginning, in processes of their own; the same command continues."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
    command = [sys.executable, "-m", "fp_potential.cli.main", "train", str(training_file(whole))]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=whole, env=environment, check=True, capture_output=True)
    command[-1] = str(training_file(parts))
    for epochs in (1, 4, 6, 9):
        process = subprocess.Popen(command, cwd=parts, env=environment, stdout=subprocess.DEVNULL)
        log = parts / "run" / "log.csv"
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if log.is_file() and len(log.read_text().splitlines()) > epochs:
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, cwd=parts, env=environment, check=True, capture_output=True)
    assert log_rows(whole / "run") == log_rows(parts / "run")
    states = [checkpoint.load(folder / "run" / "checkpoints" / "latest.pt") for folder in (whole, parts)]
    for state in states:
        del state["config"]
    assert same_state(*states)
    costs = [(folder / "run" / "training_cost.dat").read_text() for folder in (whole, parts)]
    assert costs[0] == costs[1]


@pytest.mark.parametrize("options", [{"workers": 2}, {"separate_kpoints": True}], ids=["workers", "k by k"])
def test_runs_in_parts_are_that_of_one_process(tmp_path, options):
    stages = [{"epochs": 2, "lr": 0.01}, {"workflow": "least_squares", "epochs": 1, "damping_by": "each"}]
    ends = []
    for number, own in enumerate(({}, options)):
        problem = bands_problem(bands_config(*stages, hold_out=2, **own))
        bands_trainer(problem, tmp_path / str(number)).run()
        ends.append(checkpoint.load(tmp_path / str(number) / "checkpoints" / "latest.pt")["module"])
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-9, atol=1e-12)
    for row, other in zip(log_rows(tmp_path / "0"), log_rows(tmp_path / "1"), strict=True):
        assert float(other["train loss"]) == pytest.approx(float(row["train loss"]), rel=1e-9)
        assert float(other["valid loss"]) == pytest.approx(float(row["valid loss"]), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop", "lbfgs", "schedulefree"])
def test_every_optimiser_lowers_the_cost(tmp_path, optimizer):
    if optimizer == "schedulefree":
        pytest.importorskip("schedulefree")
    rate = {"sgd": 1e-5, "lbfgs": 1.0}.get(optimizer, 1e-3)
    problem = bands_problem(bands_config({"epochs": 6, "lr": rate, "optimizer": optimizer}, lbfgs_iterations=4))
    bands_trainer(problem, tmp_path).run()
    costs = [float(row["train loss"]) for row in log_rows(tmp_path)]
    assert costs[-1] < costs[0]


def test_order_of_bands(tmp_path):
    """Bands that cross along the path are matched smoothly, or by their states; the reference decides the cost."""
    kpoints = [[0.5 - 0.05 * n] * 3 for n in range(8)]
    for how in ("smooth", "eigenvectors"):
        own = system("In", kpoints=kpoints)
        problem = bands_problem(bands_config({"epochs": 1, "lr": 1e-9, "reorder": how}, systems=[own]), shift=0.0)
        trainer = bands_trainer(problem, tmp_path / how)
        trainer.run()
        order = problem.systems[0].order
        assert order is not None and order.shape == (8, 10)
        assert bool((order.sort(dim=1).values == torch.arange(10)).all())
        # the order changes nothing but places: a reference in that order costs nothing
        energies = problem.results().systems[0].energies
        problem.systems[0].reference.copy_(energies)
        batch = problem.batch("train", problem.plan("train")[0])
        assert float(problem.loss(batch, problem.config.train_schedule[0], False).total) < 1e-15


def test_evaluation_without_trained_parameters(tmp_path):
    """A run that only evaluates needs nothing that is trained."""
    config = bands_config({"workflow": "evaluate"}, model={"trainable": []}, systems=[system("Ga")])
    problem = bands_problem(config)
    table = bands_trainer(problem, tmp_path).run()
    state = checkpoint.load(tmp_path / "checkpoints" / "latest.pt")
    assert bands_trainer(bands_problem(config), tmp_path, state).run() == table


def test_options_of_batches_of_frames_are_said_to_have_no_effect():
    config = bands_config(systems=[system("Ga")], group_by_size=True, valid_batch_size=3)
    lines = bands_problem(config).introduction()
    said = "training.valid_batch_size, training.group_by_size: no effect here, batches are of batch_size systems"
    assert said in lines
    assert not any("no effect" in line for line in bands_problem(bands_config(systems=[system("Ga")])).introduction())
