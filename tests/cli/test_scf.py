"""``fixedpoint scf``: table, figures, advice and exit status, on archives."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.io import write

from fp_potential.cli.main import main
from fp_potential.export import export_model
from structures import evaluate, make_model, salt_water_box, to_graph, water_cluster


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An archive, and two frames with the multipoles of its own solution as reference."""
    path = tmp_path_factory.mktemp("scf")
    model = make_model(2, fixedpoint_initial_charge_head_scale=0.5)
    frames = []
    for atoms in (salt_water_box(), water_cluster(3)):
        out = evaluate(model, to_graph(atoms, model, total_charge=0.2))
        atoms.arrays["REF_atomic_multipoles"] = out["density"].numpy()
        atoms.info |= {"total_charge": 0.2, "REF_energy": out["energy"].item()}
        frames.append(atoms)
    frames.append(Atoms("OH2", water_cluster(1).positions))
    frames.append(Atoms("HF", [[0, 0, 0], [0, 0, 0.9]]))
    write(path / "frames.xyz", frames, format="extxyz")
    export_model(model, path / "model.pt")
    with torch.no_grad():
        update = model.solver.density_map.response
        update.scalars.skip_bias.mul_(60.0)
    export_model(model, path / "soft.pt")
    return path


@pytest.fixture
def scf(folder, capsys):
    """Run the command; gives the exit status and what it printed."""

    def run(*words: str, model: str = "model.pt") -> tuple[int, str]:
        capsys.readouterr()
        status = main(["scf", str(folder / model), str(folder / "frames.xyz"), *words])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def rows(text: str) -> np.ndarray:
    """Numbers of the table: application, residual, charge, level, energy."""
    lines = text[text.index("application ") :].splitlines()[2:]
    table = []
    for line in lines:
        if line.startswith("energy"):
            break
        table.append([float(word) for word in line.split()])
    return np.array(table)


@pytest.mark.parametrize("solver", ["anderson", "linear"])
def test_a_converged_loop(scf, folder, solver) -> None:
    status, text = scf("--solver", solver, "--scf_tolerance", "1e-7", "--mixing_parameter", "0.7")
    assert status == 0 and "\nconverged: residual" in text
    table = rows(text)
    assert table[-1, 1] <= 1e-7 < table[-2, 1]
    assert table[:, 0].tolist() == list(range(1, len(table) + 1))
    assert table[:, 2] == pytest.approx(0.2)
    assert "total charge 0.2 e" in text and "largest real part" in text and "Anderson, GMRES" in text


def test_frames_and_charges(scf) -> None:
    assert "9 atoms, total charge 0.2 e" in scf("--frame", "1", "--no_spectrum")[1]
    assert "total charge 0 e (the frame gives none)" in scf("--frame", "2")[1]
    assert "total charge -0.5 e" in scf("--total_charge", "-0.5")[1]
    status, text = scf("--constant_fermi", "-1.5", "--frame", "1")
    table = rows(text)
    assert status == 0 and "Fermi level -1.5 eV" in text and "Omega(p)" in text
    assert table[:, 3] == pytest.approx(-1.5) and np.ptp(table[:, 2]) > 1e-4


def test_both_starts_end_in_the_same_state(scf) -> None:
    guess, data = rows(scf("--scf_tolerance", "1e-7")[1]), rows(scf("--initial_density", "from_data")[1])
    assert len(data) == 1 < len(guess)
    assert data[-1, 2:] == pytest.approx(guess[-1, 2:], abs=2e-6)


def test_key_of_the_reference_multipoles(scf) -> None:
    status, text = scf("--initial_density", "from_data", "--frame", "2")
    assert status == 2 and "needs the array 'REF_atomic_multipoles'" in text and "arrays present: none" in text
    words = ("--initial_density", "from_data", "--key", "atomic_multipoles=mine")
    assert scf(*words)[0] == 2
    assert scf(*words[:3], "atomic_multipoles=REF_atomic_multipoles")[0] == 0


def test_failures_end_with_status_one_and_advice(scf) -> None:
    status, text = scf("--num_scf_steps", "2")
    assert status == 1 and "too few steps" in text and "raise num_scf_steps from 2 to 10" in text
    status, text = scf("--solver", "linear", "--mixing_parameter", "0.02", "--num_scf_steps", "30")
    assert status == 1 and "slow" in text and "use solver: anderson" in text
    status, text = scf(model="soft.pt")
    assert status == 1 and "unstable solution" in text and "linear               never converges" in text
    status, text = scf("--solver", "linear", "--mixing_parameter", "1", "--no_spectrum", model="soft.pt")
    assert status == 1 and "diverging" in text and "spectrum" not in text


def test_plot(scf, folder) -> None:
    status, _ = scf("--plot", str(folder / "loop.png"))
    assert status == 0 and (folder / "loop.png").read_bytes().startswith(b"\x89PNG")
    assert scf("--plot", str(folder / "loop.pdf"), "--no_spectrum")[0] == 0


def test_bad_input(scf, folder, capsys) -> None:
    for words, expected in (
        (("--frame", "7"), "has 4 frames, counted from 0"),
        (("--frame", "3"), "unknown element F"),
        (("--scf_tolerance", "-1"), "scf_tolerance"),
        (("--key", "atomic_multipole=x"), "unknown option 'atomic_multipole'"),
        (("--plot", "loop.nonsense"), "nonsense"),
    ):
        status, text = scf(*words)
        assert status == 2 and expected in text and "Traceback" not in text
    with pytest.raises(SystemExit):
        scf("--total_charge", "0", "--constant_fermi", "0")
    assert main(["scf", str(folder / "model.pt"), str(folder / "nowhere.xyz")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_single_precision_archive(folder, capsys) -> None:
    model = make_model(2, torch.float32, fixedpoint_initial_charge_head_scale=0.5)
    export_model(model, folder / "single.pt")
    assert main(["scf", str(folder / "single.pt"), str(folder / "frames.xyz"), "--scf_tolerance", "1e-5"]) == 0
    assert main(["scf", str(folder / "single.pt"), str(folder / "frames.xyz"), "--scf_tolerance", "1e-11"]) == 1
    assert "limit of the arithmetic" in capsys.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fp_potential.cli.main import main\n"
        "try:\n    main(['scf', '--help'])\nexcept SystemExit:\n    pass\n"
        "print([n for n in ('torch', 'numpy', 'ase', 'matplotlib') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip().splitlines()[-1] == "[]"
