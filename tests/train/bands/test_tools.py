"""``fixedpoint bands eval``, ``plot``, ``density``, ``decompose`` and ``cluster``."""

import numpy as np
import pytest
import torch

from bands_training import bands_config, bands_problem, bands_trainer, system
from fp_potential.bands import HARTREE, Crystal, Hamiltonian, PlaneWaves, band_energies
from fp_potential.cli.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run that was evaluated only, so that its potential is the analytic one."""
    folder = tmp_path_factory.mktemp("tools") / "run"
    config = bands_config({"workflow": "evaluate"}, run_dir=str(folder), systems=[system("In", valence_band=7)])
    problem = bands_problem(config, shift=0.0)
    bands_trainer(problem, folder).run()
    (folder / "config.yaml").write_text("model:\n  type: bands\n")
    return folder, problem


def test_bands_of_the_run_and_of_another_crystal(run, tmp_path, capsys):
    folder, problem = run
    assert main(["bands", "eval", str(folder)]) == 0
    table = np.loadtxt(folder / "bands.dat")
    np.testing.assert_allclose(table[:, 1:], problem.results().systems[0].energies, atol=1e-7)
    said = capsys.readouterr().out
    assert "InAs: 4 k-points" in said and "eV, direct: valence edge at k = 0 0 0, conduction edge at k = 0 0 0" in said
    # GaAs, which the run has not seen, has no Ga in it; InAs with a longer lattice is another crystal
    cell = tmp_path / "system_0.par"
    text = "scale = 11.6\n\ncell\n0 0.5 0.5\n0.5 0 0.5\n0.5 0.5 0\n\natoms\nIn 0.1 0.1 0.1\nAs -0.15 -0.15 -0.15\n"
    cell.write_text(text)
    output, picture = tmp_path / "b.dat", tmp_path / "b.png"
    arguments = ["--structure", str(cell), "--path", "LGX", "--points", "7", "--max-ke", "1.2", "--n-bands", "6"]
    more = ["--output", str(output), "--plot", str(picture), "--workers", "2"]
    assert main(["bands", "eval", str(folder), *arguments, *more]) == 0
    table = np.loadtxt(output)
    fcc = 5.8 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    crystal = Crystal(fcc, ("In", "As"), np.array([[0.1] * 3, [-0.15] * 3]))
    hamiltonian = Hamiltonian(crystal, PlaneWaves(crystal, 1.2))
    for row, k in ((0, [0.5, 0.5, 0.5]), (6, [0.5, 0.0, 0.5])):
        with torch.no_grad():
            expected = HARTREE * band_energies(hamiltonian, problem.module, torch.tensor([k]).double(), 6)[0]
        np.testing.assert_allclose(table[row, 1:], expected, atol=1e-7)
    assert picture.stat().st_size > 1000
    assert main(["bands", "plot", str(tmp_path / "c.png"), str(output), str(output), "--window", "-20", "5"]) == 0
    cell.write_text(text.replace("In 0.1", "Ga 0.1"))
    assert main(["bands", "eval", str(folder), *arguments]) == 2
    assert "the potential has the species As In, the crystal also Ga" in capsys.readouterr().err
    assert main(["bands", "eval", str(folder), "--path", "LGQ"]) == 2
    assert "special points of this lattice: " in capsys.readouterr().err


def test_density_and_parts(run, tmp_path, capsys):
    folder, _ = run
    cube = tmp_path / "valence.cube"
    assert main(["bands", "density", str(folder), str(cube), "--bands", "0:7"]) == 0
    assert "8.000000 electrons" in capsys.readouterr().out and cube.is_file()
    assert main(["bands", "density", str(folder), str(cube), "--bands", "7:3"]) == 2
    assert "expected 0 <= FIRST <= LAST < 10" in capsys.readouterr().err
    assert main(["bands", "decompose", str(folder)]) == 0
    rows = np.loadtxt(folder / "decomposition.dat")
    assert rows.shape == (40, 7) and bool((rows[:, 3] > 0).all())
    np.testing.assert_allclose(rows[:, 3:].sum(1), rows[:, 2], atol=1e-6)


def test_clusters_of_potentials(tmp_path, capsys):
    """Two families that differ along one direction are told apart, and one component has all of the variance."""
    q = np.linspace(0, 10, 201)
    names = []
    for number, size in enumerate((1.0, 1.1, 5.0, 5.2)):
        names.append(str(tmp_path / f"{number}_qSpace_pot.dat"))
        np.savetxt(names[-1], np.column_stack([q, -size * np.exp(-(q**2))]))
    assert main(["bands", "cluster", *names]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("variance of the first components: 100.0 %")
    labels = [line.split()[-1] for line in said[1:]]
    assert labels[0] == labels[1] != labels[2] == labels[3]
    assert main(["bands", "cluster", *names, "--clusters", "9"]) == 2
    assert "expected 1 … 4, the number of tables" in capsys.readouterr().err
