"""``fixedpoint scf --response`` and ``fixedpoint eval --response``: on archives of known models, and of any age."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import fcc111
from ase.io import read, write
from fp_potential.train.potential import structure_solver

from fp_potential.cli.main import main
from fp_potential.conduction.fragments import fragments_of
from fp_potential.export import export_model
from fp_potential.graph import graph_from_atoms
from fp_potential.reference import ChargeEquilibration, InducedDipoles, ReferenceOptions, exact_response
from structures import make_model, salt_water_box, water_cluster

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "nacl_water"
OPTIONS = ReferenceOptions.built_in("H", "O", "Na", "Cl", "Cu", polarizable=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Archives of a metal, an insulator and copper beside insulating water, and structures."""
    path = tmp_path_factory.mktemp("response")
    keys = {"keys": {}, "kind_key": "kind"}
    export_model(ChargeEquilibration(OPTIONS), path / "metal.pt", training={"data": keys})
    export_model(InducedDipoles(OPTIONS), path / "insulator.pt")
    mixed = ChargeEquilibration(OPTIONS)
    with torch.no_grad():
        mixed.stiffness[:2, 0] = 0.0
        mixed.slope[:2, 0] = 0.0
    export_model(mixed, path / "mixed.pt")
    slab = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    slab.pbc, slab.info = [True, True, False], {}
    slab += water_cluster(1)
    slab.positions[-3:] += slab.positions[:8].max(axis=0) + [0.0, 0.0, 4.0]
    one = water_cluster(2)
    one.set_array("fragment", np.array([0, 0, 0, 0, 0, 1]))
    write(path / "frames.xyz", [water_cluster(2), slab, one, salt_water_box()], format="extxyz")
    return path


@pytest.fixture
def scf(folder, capsys):
    """Run the command; gives the exit status and what it printed after the loop."""

    def run(model: str, *words: str, structure: str = "frames.xyz") -> tuple[int, str]:
        capsys.readouterr()
        more = ("--response", "--no_spectrum", "--chain_copies", "4", *words)
        status = main(["scf", str(folder / model), str(folder / structure), *more])
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_metal_insulator_and_both(scf) -> None:
    status, text = scf("metal.pt")
    assert status == 0 and "\nbehaves as a metal\n  - H2O, 10 Å apart, exchanges" in text
    assert "polarizability of a chain of copies along it, per copy, 3 Å between them" in text and "dmu/dQ -" in text
    status, text = scf("insulator.pt")
    assert status == 0 and "\nbehaves as an insulator\n" in text and "exchanges 0 me/V (metal from 1 me/V)" in text
    assert "the model has no Fermi level here: nothing conducts\n" in text
    status, text = scf("mixed.pt", "--frame", "1")
    assert status == 0 and "\nmixed: Cu conducts (Cu8), H2O insulates\n" in text
    assert "note: no chain of copies: the structure is periodic" in text


def test_the_example_is_an_insulator(capsys) -> None:
    """A shipped archive through its own code: its chain has a limit, and no charge flows between copies."""
    data = str(EXAMPLE / "data" / "xtb_water_neutral.extxyz.gz")
    assert main(["scf", str(EXAMPLE / "model.pt"), data, "--response", "--no_spectrum"]) == 0
    text = capsys.readouterr().out
    assert "\nbehaves as an insulator\n" in text and "no Fermi level here: nothing conducts" in text
    lines = text[text.index("\ncopies") :].splitlines()[3:8]
    copies, polarizability, by_charge = np.array([line.split()[:3] for line in lines], dtype=float).T
    assert copies.tolist() == [1, 2, 4, 8, 16]
    assert polarizability[2:] == pytest.approx(polarizability[2], rel=0.1) and not by_charge.any()


def test_frames_say_what_belongs_together(scf) -> None:
    text = scf("metal.pt", "--frame", "2")[1]
    assert [line.split()[:2] for line in text.splitlines() if line.startswith(("H3O2 ", "H "))][:2] == [
        ["H3O2", "1"],
        ["H", "1"],
    ]
    assert "\nH4O2 " in scf("metal.pt", "--bond_factor", "3")[1]


def test_gap_and_number_of_copies(scf) -> None:
    text = scf("metal.pt", "--chain_gap", "5.5", "--chain_copies", "3")[1]
    assert "5.5 Å between them" in text
    rows = text[text.index("\ncopies") :].splitlines()[3:6]
    assert [row.split()[0] for row in rows[:2]] == ["1", "3"] and rows[2] == ""


def test_at_a_given_level_the_charge_found_is_kept(scf) -> None:
    """The models are affine: the response is the same."""
    free, held = scf("metal.pt")[1], scf("metal.pt", "--constant_fermi", "-5.0")[1]
    assert "Fermi level -5 eV" in held
    assert free[free.index("capacitance") :] == held[held.index("capacitance") :]


def test_models_in_which_nothing_conducts(scf, monkeypatch) -> None:
    own = structure_solver.run_model

    def run(*arguments):
        assert arguments[15], "a constant level was asked for"
        return own(*arguments) | {"conducts": torch.tensor([False])}

    monkeypatch.setattr(structure_solver, "run_model", run)
    text = scf("insulator.pt")[1]
    assert "capacitance -dQ/dmu: none, the model has no Fermi level here, as nothing conducts" in text
    assert "\nbehaves as an insulator\n" in text


def test_bad_input_and_loops_that_fail(scf) -> None:
    for words, expected in (
        (("--chain_gap", "0"), "--chain_gap 0: expected more than 0"),
        (("--bond_factor", "-1"), "--bond_factor -1: expected more than 0"),
        (("--chain_copies", "0"), "--chain_copies 0: expected at least 1"),
    ):
        status, text = scf("metal.pt", *words)
        assert status == 2 and expected in text and "application " not in text
    status, text = scf("metal.pt", "--num_scf_steps", "2")
    assert status == 1 and "response of the charges: not found, the self-consistent loop of 6 atoms ended" in text


def test_single_precision(folder, capsys) -> None:
    """Verdicts do not come from rounding errors."""
    for name, model in (("metal", ChargeEquilibration(OPTIONS)), ("insulator", InducedDipoles(OPTIONS))):
        export_model(model.float(), folder / "single.pt")
        assert main(["scf", str(folder / "single.pt"), str(folder / "frames.xyz"), "--response", "--no_spectrum"]) == 0
        assert f"\nbehaves as a{'n' * (name == 'insulator')} {name}\n" in capsys.readouterr().out


def exact_flow(path: Path, model) -> float:
    """Largest over the frames and the axes, me/V."""
    largest = 0.0
    for atoms in read(path, ":"):
        graph = graph_from_atoms(atoms, model.elements, model.cutoff, torch.float64)
        by_field = exact_response(model, graph).by_field[:, 0].numpy()
        for axis in range(3):
            extent = np.ptp(atoms.positions[:, axis])
            if extent >= 1.0:
                flows = fragments_of(atoms).sums(by_field[:, axis]) / extent
                largest = max(largest, 1e3 * float(np.abs(flows).max()))
    return largest


def test_eval_gives_flows_by_kind(folder, tmp_path, capsys) -> None:
    clusters = [water_cluster(2, seed=seed) for seed in range(5)]
    for atoms in clusters:
        atoms.info["kind"] = "cluster"
    write(tmp_path / "clusters.xyz", [clusters[0], clusters[2], clusters[4]], format="extxyz")
    box = salt_water_box()
    box.info["kind"] = "box"
    write(tmp_path / "all.xyz", [*clusters, box], format="extxyz")
    tables = [tmp_path / "table.json", tmp_path / "table.csv", tmp_path / "table.txt"]
    for table in tables:
        words = [str(folder / "metal.pt"), str(tmp_path / "all.xyz"), "--response", "--table", str(table)]
        assert main(["eval", *words]) == 0
    text = capsys.readouterr().out
    assert "of a few frames" in text and "flows, as in a metal" in text and tables[2].read_text() in text
    content = json.loads(tables[0].read_text())
    rows = {row["name"]: row.get("response") for row in content["runs"][0]["rows"]}
    assert "response" in content["units"] and rows["all"] is None
    found, expected = rows["cluster"], exact_flow(tmp_path / "clusters.xyz", ChargeEquilibration(OPTIONS))
    assert found["frames"] == 3 and found["failed"] == 0  # of five, spread evenly
    assert found["flow"] == pytest.approx(expected, rel=1e-5) and found["apart"] > 10.0
    assert rows["box"]["frames"] == 1 and rows["box"]["flow"] is None and rows["box"]["apart"] > 10.0
    with open(tables[1], newline="", encoding="utf-8") as file:
        flat = {row["name"]: row for row in csv.DictReader(file)}
    assert (
        float(flat["cluster"]["response_flow"]) == pytest.approx(found["flow"]) and flat["box"]["response_flow"] == ""
    )


def test_eval_on_an_insulator_and_number_of_frames(folder, tmp_path, capsys) -> None:
    write(tmp_path / "all.xyz", [water_cluster(2, seed=seed) for seed in range(3)], format="extxyz")
    words = [str(folder / "insulator.pt"), str(tmp_path / "all.xyz"), "--response", "--response_frames"]
    assert main(["eval", *words, "2"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[1:] == ["2", "0.000", "0.000", "stays"]
    assert main(["eval", *words, "0"]) == 2
    assert "--response_frames 0: expected at least 1" in capsys.readouterr().err


def test_eval_counts_loops_that_fail(tmp_path, capsys) -> None:
    model = make_model(2, fixedpoint_initial_charge_head_scale=0.5)
    with torch.no_grad():
        model.solver.density_map.response.scalars.skip_bias.mul_(60.0)
    export_model(model, tmp_path / "soft.pt")
    write(tmp_path / "frames.xyz", [water_cluster(2), water_cluster(3)], format="extxyz")
    main(["eval", str(tmp_path / "soft.pt"), str(tmp_path / "frames.xyz"), "--response", "--solver", "linear"])
    assert "2 (2 not converged)" in capsys.readouterr().out
