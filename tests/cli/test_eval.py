"""``fixedpoint eval`` in both charge modes and from both starts, on a model that made the labels itself."""

import csv
import json

import numpy as np
import pytest
from ase.io import read

from fp_potential.cli.main import main
from fp_potential.export import export_model
from structures import make_model
from training_data import KEYS, frames, write_frames

TIGHT = ["--scf_tolerance", "1e-9", "--num_scf_steps", "200"]
BOTH = ["--constant_charge", "both", "--initial_density", "both"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The model that labels the frames of `training_data`, and these."""
    folder = tmp_path_factory.mktemp("teacher")
    data = {"keys": KEYS, "split": {"key": "split"}, "kind_key": "kind"}
    export_model(make_model(seed=5), folder / "model.pt", training={"data": data})
    write_frames(folder / "frames.xyz")
    return folder


def words(folder, *more):
    return ["eval", str(folder / "model.pt"), str(folder / "frames.xyz"), *TIGHT, *more]


def test_all_runs_in_one_call(teacher, tmp_path, capsys):
    table, output = tmp_path / "table.json", tmp_path / "out.xyz"
    assert main(words(teacher, *BOTH, "--table", str(table), "--output", str(output))) == 0
    text = capsys.readouterr().out
    assert text.count("errors: RMSE / MAE") == 2  # a start changes the way, not the solution
    runs = json.loads(table.read_text())["runs"]
    assert [(run["scf"]["constant_charge"], run["scf"]["initial_density"]) for run in runs] == [
        (True, "local_guess"),
        (True, "from_data"),
        (False, "local_guess"),
        (False, "from_data"),
    ]
    for run in runs:
        everything = run["rows"][2]
        assert everything["name"] == "all" and everything["frames"] == 11 and everything["scf"]["converged"] == 100
        # the labels are the model's own: in milli-units, rounded in the file and converged to 1e-9
        names = ["energy", "charge", "atomic_dipole", "dipole"]
        # at constant level the forces are others: -dΩ/dr is -dE/dr only where dE/dQ = -μ
        names += ["forces"] if run["scf"]["constant_charge"] else []
        for name in names:
            assert everything[name]["rmse"] < 1e-3, name
        other = "fermi_level" if run["scf"]["constant_charge"] else "total_charge"
        assert everything[other]["rmse"] < 1e-3
        assert ("total_charge" in everything) == (not run["scf"]["constant_charge"])
        elements = [row["name"] for row in run["rows"] if row["of"] == "element"]
        assert elements == ["H", "O", "Na", "Cl"]
    from_guess, from_data = (run["rows"][2]["scf"]["median"] for run in runs[:2])
    assert from_data < from_guess
    predicted = read(output, ":")
    assert [atoms.info["FP_constant_charge"] for atoms in predicted] == [True] * 11 + [False] * 11
    for charge, level in zip(predicted[:11], predicted[11:], strict=True):
        omega = charge.info["FP_energy"] + charge.info["FP_fermi_level"] * charge.info["FP_total_charge"]
        assert level.info["FP_energy"] == pytest.approx(omega, abs=1e-5)
        assert level.arrays["FP_charges"] == pytest.approx(charge.arrays["FP_charges"], abs=1e-6)


def test_energy_at_constant_level_of_charged_structures(tmp_path, teacher, capsys):
    """Ω* = E* + μ*Q* needs the right sign of the charge: labels of charged frames by the model itself."""
    content = frames()[:2]
    for atoms, charge in zip(content, (1.0, -1.0), strict=True):
        atoms.info["total_charge"] = charge
    write_frames(tmp_path / "frames.xyz", content)
    bare = tmp_path / "predicted.xyz"
    model = str(teacher / "model.pt")
    assert main(["eval", model, str(tmp_path / "frames.xyz"), *TIGHT, "--output", str(bare)]) == 0
    labels = read(bare, ":")
    for atoms in labels:
        atoms.info["REF_energy"], atoms.info["REF_fermi_level"] = atoms.info["FP_energy"], atoms.info["FP_fermi_level"]
        atoms.calc = None
    write_frames(tmp_path / "charged.xyz", labels)
    table = tmp_path / "table.csv"
    more = ["--constant_charge", "both", "--table", str(table)]
    assert main(["eval", model, str(tmp_path / "charged.xyz"), *TIGHT, *more]) == 0
    with open(table, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["of"] == "kind"]
    assert [row["constant_charge"] for row in rows] == ["true", "false"]
    assert all(float(row["energy_rmse"]) < 1e-3 for row in rows)
    assert rows[0]["total_charge_rmse"] == "" and float(rows[1]["total_charge_rmse"]) < 1e-3


def test_errors_of_elements_in_the_table(teacher, tmp_path):
    """Against a sum over the predictions of another model."""
    data = {"keys": KEYS, "split": {"key": "split"}, "kind_key": "kind"}
    export_model(make_model(seed=6), tmp_path / "model.pt", training={"data": data})
    table, output = tmp_path / "table.csv", tmp_path / "out.xyz"
    more = [*TIGHT, "--table", str(table), "--output", str(output)]
    assert main(["eval", str(tmp_path / "model.pt"), str(teacher / "frames.xyz"), *more]) in (0, 1)
    with open(table, newline="", encoding="utf-8") as file:
        rows = {row["name"]: row for row in csv.DictReader(file) if row["of"] == "element"}
    predicted = read(output, ":")
    for symbol in ("H", "O", "Na", "Cl"):
        own = [np.array(atoms.symbols) == symbol for atoms in predicted]
        forces = [a.arrays["FP_forces"][m] - a.arrays["REF_forces"][m] for a, m in zip(predicted, own, strict=True)]
        charges = [
            a.arrays["FP_charges"][m] - a.arrays["REF_atomic_multipoles"][m, 0]
            for a, m in zip(predicted, own, strict=True)
        ]
        for name, errors in {"forces": forces, "charge": charges}.items():
            values = 1000 * np.concatenate(errors).reshape(-1)
            assert float(rows[symbol][f"{name}_rmse"]) == pytest.approx(np.sqrt(np.mean(values**2)), rel=1e-5)
            assert float(rows[symbol][f"{name}_mae"]) == pytest.approx(np.mean(np.abs(values)), rel=1e-5)


def test_runs_take_the_frames_with_their_labels(teacher, tmp_path, capsys):
    content = frames()[:4]
    del content[0].info["REF_fermi_level"], content[1].arrays["REF_atomic_multipoles"]
    path = write_frames(tmp_path / "frames.xyz", content)
    model = str(teacher / "model.pt")
    assert main(["eval", model, str(path), *TIGHT, *BOTH]) == 0
    text = capsys.readouterr().out
    assert "constant charge, from the data: 3 of 4 frames, those with atomic_multipoles" in text
    assert "constant Fermi level, from the data: 2 of 4 frames, those with fermi_level, atomic_multipoles" in text
    assert main(["eval", model, str(path), "--constant_charge", "false"]) == 2
    assert "constant_charge needs fermi_level on every frame" in capsys.readouterr().err
    for atoms in content:
        atoms.arrays.pop("REF_atomic_multipoles", None)
    path = write_frames(tmp_path / "bare.xyz", content)
    assert main(["eval", model, str(path), "--constant_charge", "both", "--initial_density", "from_data"]) == 2
    assert "no frame has the labels that these runs start from" in capsys.readouterr().err


def test_unconverged_runs_are_named(teacher, capsys):
    assert main(["eval", str(teacher / "model.pt"), str(teacher / "frames.xyz"), "--num_scf_steps", "1", *BOTH]) == 1
    error = capsys.readouterr().err
    assert "constant Fermi level, from the local guess: the SCF of 11 of 11 frames did not converge" in error


def test_frames_are_read_as_the_training_did(teacher, tmp_path, capsys):
    """Keys, signs and units, in `eval` and in `scf`: the model's own labels in Hartree and Bohr; what is not read."""
    from ase.units import Bohr, Hartree

    atoms = frames()[2]  # in a field
    atoms.info["REF_energy"] /= Hartree
    atoms.arrays["REF_forces"] *= Bohr / Hartree
    atoms.info["external_field"] = atoms.info["external_field"] * (Bohr / Hartree)
    atoms.positions /= Bohr
    path = write_frames(tmp_path / "atomic.xyz", [atoms])
    data = {
        "keys": {name: key for name, key in KEYS.items() if "multipoles" not in name and name != "dipole"},
        "units": {"energy": "Ha", "length": "Bohr", "labels": {"fermi_level": "eV"}},
    }
    export_model(make_model(seed=5), tmp_path / "model.pt", training={"data": data})
    table = tmp_path / "table.csv"
    assert main(["eval", str(tmp_path / "model.pt"), str(path), *TIGHT, "--table", str(table)]) == 0
    text = capsys.readouterr().out
    assert "units of the data: Ha, Bohr, e, fermi_level eV; converted to eV, Å, e" in text
    assert "field: 'external_field' is read as the physical field E = -F" in text
    with open(table, newline="", encoding="utf-8") as file:
        row = next(csv.DictReader(file))
    assert float(row["energy_rmse"]) < 5e-3 and float(row["forces_rmse"]) < 5e-2  # meV, as rounded in the file
    assert main(["scf", str(tmp_path / "model.pt"), str(path), *TIGHT, "--no_spectrum"]) == 0
    text = capsys.readouterr().out
    assert "units of the data: Ha, Bohr" in text and "read as the physical field E" in text
    energy = float(text[text.rindex("energy ") :].split()[1])
    assert energy == pytest.approx(atoms.info["REF_energy"] * Hartree, abs=1e-5)
    atoms.info |= {"electric_field": [0.0, 0.0, 0.1]}
    path = write_frames(tmp_path / "more.xyz", [atoms])
    for command in ("eval", "scf"):
        main([command, str(tmp_path / "model.pt"), str(path)])
        assert "WARNING: 'electric_field' of 1 frames is not read" in capsys.readouterr().out
