"""``fixedpoint bands eval``, ``density``, ``decompose``, ``plot``, ``cluster`` and ``ensemble``, and their mistakes."""

import re

import numpy as np
import pytest
import torch
import yaml
from fp_potential.train.bands.tools.ensemble import load_ensemble, members_of
from fp_potential.train.bands.tools.source import load_source

from bands_files import bands_file
from bands_training import system
from fp_potential.cli.main import main

NETWORK = {"local": {"form": "neural", "hidden_layers": [5], "envelope": {"type": "gaussian", "std": 2.0}}}
#: pictures in a page; ids in them are drawn at random
IMAGE = r"data:image[^\"]*"
FIT = {"method": "zunger", "fit": {"epochs": 30, "lr": 0.05}}


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory):
    """Two runs of an epoch with different seeds, and what the command said."""
    folder = tmp_path_factory.mktemp("bands")
    stage = {"epochs": 1, "lr": 0.001}
    file = bands_file(folder / "train.yaml", stage, model=NETWORK, initialise=FIT)
    assert main(["bands", "ensemble", str(file), "--seeds", "2", "--run", str(folder / "runs")]) == 0
    return folder


def test_ensemble_has_the_mean_and_spread_of_its_members(ensemble, capsys):
    """By the members' own bands; the same page by `fixedpoint report`, and the runs are not trained again."""
    runs = ensemble / "runs"
    folders = members_of(runs)
    assert [path.name for path in folders] == ["seed_3", "seed_4"]
    energies = []
    for path in folders:
        source = load_source(path)
        (first, _) = source.systems()
        matrix = first.hamiltonian.matrix(first.k, source.potential).detach()
        energies.append(27.2114 * torch.linalg.eigvalsh(matrix)[:, :5].repeat_interleave(2, 1).numpy())
    table = np.loadtxt(runs / "ensemble_InAs.dat")
    assert np.allclose(table[:, 1:11], np.mean(energies, 0), atol=1e-7)
    assert np.allclose(table[:, 11:], np.std(energies, 0, ddof=1), atol=1e-7) and table[:, 11:].max() > 1e-4
    page = (runs / "report.html").read_text()
    assert "mean v(q) and spread" in page and "seed_3, seed_4" in page and "GaAs" in page
    assert main(["report", str(runs), "--output", str(ensemble / "again.html")]) == 0
    again = (ensemble / "again.html").read_text()
    assert re.sub(IMAGE, "", again) == re.sub(IMAGE, "", page)
    capsys.readouterr()
    assert main(["bands", "cluster", *map(str, folders), "--components", "1", "--output", str(ensemble / "c")]) == 0
    said = capsys.readouterr().out
    assert "variance of v(q) in the components: 100.0 %" in said
    assert (ensemble / "c" / "clusters.csv").read_text().count("\n") == 3
    with pytest.raises(ValueError, match=r"1 run: expected two or more"):
        load_ensemble(folders[:1])


def test_eval_of_a_run_prints_the_errors_it_ended_with(ensemble, capsys):
    """From the folder, its checkpoint and its weights beside the training file; other seeds have other errors."""
    run = ensemble / "runs" / "seed_3"
    expected = (run / "test_table.txt").read_text().splitlines() if (run / "test_table.txt").is_file() else []
    found = []
    for words in (
        [str(run)],
        [str(run / "checkpoints" / "latest.pt")],
        [str(ensemble / "train.yaml"), "--weights", str(run / "final_pot.pth")],
        [str(ensemble / "runs" / "seed_4")],
    ):
        assert main(["bands", "eval", *words, "--no_edges", "--processes", "2"]) == 0
        found.append([line for line in capsys.readouterr().out.splitlines() if line.startswith(("InAs ", "GaAs "))])
    assert found[0] == found[1] == found[2] != found[3] and len(found[0]) == 2
    for line in found[0]:
        assert not expected or line in expected


def test_eval_on_a_material_it_has_not_seen(ensemble, tmp_path, capsys):
    """GaAs by the analytic potentials of InAs and GaAs shifted as its reference was: no error, and no other."""
    both = bands_file(tmp_path / "train.yaml", shift=0.0)
    own = tmp_path / "own"
    own.mkdir()
    other = bands_file(own / "other.yaml", systems=[system("Ga")], shift=0.0)
    words = ["bands", "eval", str(both), "--on", str(other), "--output", str(tmp_path / "out")]
    assert main(words) == 0
    said = capsys.readouterr().out
    row = next(line for line in said.splitlines() if line.startswith("GaAs ") and "0.0000" in line)
    assert "InAs" not in said and row.split()[1:3] == ["0.0000", "0.0"]
    assert ("dE/dlnV [eV]" in said and "GaAs: gap" in said) or "GaAs: no gap" in said
    assert np.loadtxt(tmp_path / "out" / "GaAs_bands.dat").shape == (4, 11)
    assert main(["bands", "eval", str(other), "--on", str(both)]) == 2
    assert "InAs: the pseudopotential has no In; it has the species As, Ga" in capsys.readouterr().err


def test_tools_write_their_files(tmp_path, capsys):
    file = str(bands_file(tmp_path / "train.yaml", model={"terms": {"spin_orbit": True}}))
    density = tmp_path / "rho.xsf"
    words = ["bands", "density", file, str(density), "--system", "InAs", "--k", "0", "0", "0", "--bands", "6:7"]
    assert main(words) == 0
    assert "InAs: bands 6 to 7 at 1 k-points" in (said := capsys.readouterr().out) and "2.000000 electrons" in said
    assert "BEGIN_DATAGRID_3D" in density.read_text()
    out = tmp_path / "terms"
    words = ["bands", "decompose", file, "--system", "GaAs", "--path", "GX", "--points", "3", "--output", str(out)]
    assert main(words) == 0
    assert "V_so [eV]" in capsys.readouterr().out
    assert np.loadtxt(out / "GaAs_terms.dat").shape == (30, 8) and (out / "GaAs_terms.pdf").is_file()
    structure = tmp_path / "cell.vasp"
    from ase.build import bulk

    bulk("GaAs", "zincblende", 5.7).write(structure)
    words = [
        "bands",
        "eval",
        file,
        "--structure",
        str(structure),
        "--refine",
        "0",
        "--max_ke",
        "1.2",
        "--n_bands",
        "12",
    ]
    assert main([*words, "--no_edges", "--output", str(out)]) == 0
    assert np.loadtxt(out / "GaAs_bands.dat", ndmin=2).shape == (1, 13)
    assert main(["bands", "plot", str(out / "GaAs_bands.dat"), "--output", str(out / "x.png")]) == 0
    assert (out / "x.png").read_bytes().startswith(b"\x89PNG")


def test_mistakes_are_named(tmp_path, capsys):
    file = str(bands_file(tmp_path / "train.yaml"))
    network = str(bands_file(tmp_path / "network.yaml", model=NETWORK))
    potential = tmp_path / "potential.pt"
    torch.save({"format": 2, "config": {"model": {}}, "problem": {}}, potential)
    (tmp_path / "weights.pth").write_bytes(b"nothing")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.yaml").write_text(yaml.safe_dump({"model": {}}))
    eval_, density = ["bands", "eval"], ["bands", "density"]
    cases = [
        ([*eval_, network], "its network has random weights (random); train it and name the run folder"),
        ([*eval_, str(tmp_path / "empty")], "has no checkpoint and is no bundle; expected a run folder, a checkpoint"),
        ([*eval_, str(tmp_path / "none")], "does not exist; expected a run folder"),
        ([*eval_, str(tmp_path / "weights.pth")], "holds weights alone"),
        ([*eval_, str(potential)], "is not of a pseudopotential, but of an interatomic potential (fixedpoint eval)"),
        ([*eval_, file, "--weights", str(tmp_path / "weights.pth")], "weights.pth: not readable"),
        ([*eval_, file, "--system", "CdSe"], "no system 'CdSe'; there are InAs, GaAs"),
        ([*eval_, file, "--on", file, "--structure", "x.cif"], "--on and --structure are two crystals"),
        ([*eval_, file, "--max_ke", "3"], "--max_ke and --n_bands belong to --structure"),
        ([*eval_, file, "--processes", "0"], "--processes 0: expected at least 1"),
        ([*eval_, file, "--path", "GX", "--points", "1"], "--points 1: expected at least 2"),
        ([*eval_, file, "--valence_band", "9"], "valence band 9: expected 0 … 8"),
        ([*density, file, str(tmp_path / "rho.dat")], "expected a name that ends in .cube or .xsf"),
        ([*density, file, str(tmp_path / "rho.cube")], "give --system NAME, of InAs, GaAs"),
        (["bands", "decompose", file, "--at", "9"], "k-point 9: expected 0 … 3"),
        (["bands", "cluster", file, file, "--components", "2"], "2 components of 2 potentials: expected 1 … 1"),
        (["bands", "ensemble", file, "--seeds", "1"], "--seeds 1: expected at least 2"),
        (["bands", "plot", file, "--output", "x.txt"], "expected a name that ends in .pdf, .png or .svg"),
    ]
    for words, message in cases:
        assert main(words) == 2, words
        assert message in (said := capsys.readouterr().err), said
