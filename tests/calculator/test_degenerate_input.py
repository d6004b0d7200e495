"""Input that no calculation can be made of ends with what is wrong with it."""

import numpy as np
import pytest
from ase import Atoms

from fp_potential.calculator import FixedPointCalculator, SCFNotConverged
from fp_potential.cli.main import main
from structures import salt_water_box, water_cluster

WATER = [[0, 0, 0], [0, 0.8, 0.6], [0, -0.8, 0.6]]


@pytest.fixture(scope="module")
def archive(archive_of):
    return archive_of()


@pytest.fixture(scope="module")
def calculator(archive):
    return FixedPointCalculator(archive)


def water(positions=WATER, **info) -> Atoms:
    return Atoms("OH2", positions=positions, info={"total_charge": 0.0} | info)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms(info={"total_charge": 0.0}), "the structure has no atoms"),
        (water([[0, 0, 0], [0, 0, 0], [0, 0, 1]]), r"atom 0 and atom 1 are in the same place \(0.0e\+00 Å apart\)"),
        (water([[0, 0, 0], [0, 0, 1], [0, 0, 1.001]]), "atom 1 and atom 2 are in the same place"),
        (water([[0, 0, 0], [0, 0, NAN], [0, 0, 1]]), "non-finite position of atom 1"),
        (water([[0, 0, 0], [0, 0, INF], [0, 0, 1]]), "non-finite position of atom 1"),
        (water(total_charge=NAN), r"atoms.info\['total_charge'\] is not finite: nan"),
        (water(total_charge=INF), r"atoms.info\['total_charge'\] is not finite: inf"),
        (water(total_charge=[1.0, 2.0]), r"atoms.info\['total_charge'\] must be a number, got \[1.0, 2.0\]"),
        (water(total_charge="one"), r"atoms.info\['total_charge'\] must be a number, got 'one'"),
        (water(fermi_level=NAN), r"atoms.info\['fermi_level'\] is not finite: nan"),
        (water(electric_field=[0, 0.1]), r"atoms.info\['electric_field'\] must be 3 numbers, got \[0, 0.1\]"),
        (water(electric_field=0.1), r"atoms.info\['electric_field'\] must be 3 numbers, got 0.1"),
        (water(electric_field=[0, 0, NAN]), r"atoms.info\['electric_field'\] is not finite: \[0.0, 0.0, nan\]"),
        (water(external_field="z"), r"atoms.info\['external_field'\] must be 3 numbers, got 'z'"),
        (water(electric_field=[0, 0, 1], external_field=[0, 0, 1]), "give the field in one entry of atoms.info"),
        (
            Atoms("OH2", WATER, cell=np.eye(3) * 9, pbc=[True, False, False], info={"electric_field": [0.1, 0, 0]}),
            "along a periodic axis",
        ),
        (Atoms("OH2", WATER, cell=[9, NAN, 9], pbc=True, info={"total_charge": 0}), "`cell` is not finite"),
    ],
)
def test_refused_where_it_enters(calculator, atoms, message) -> None:
    atoms.info.setdefault("total_charge", 0.0)
    with pytest.raises(ValueError, match=message):
        calculator.get_potential_energy(atoms)
    assert not calculator.results


def test_numbers_in_arrays_are_numbers(calculator) -> None:
    expected = calculator.get_potential_energy(water(total_charge=1.0, electric_field=[0, 0, 0.1]))
    given = water(total_charge=np.array([1.0]), electric_field=np.array([[0, 0, 0.1]]))
    assert calculator.get_potential_energy(given) == expected


def test_images_in_the_same_place(calculator) -> None:
    box = salt_water_box(triclinic=False)
    box.info["total_charge"] = 0.0
    box.positions[1] = box.positions[0] + [6.4, 0.0, 6.4]
    with pytest.raises(ValueError, match="atom 0 and atom 1 are in the same place"):
        calculator.get_potential_energy(box)


def test_tolerance_that_cannot_be_reached(archive) -> None:
    atoms = water_cluster(1)
    options = {"scf_tolerance": 1e-30, "num_scf_steps": 60}
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=options)
    with pytest.raises(SCFNotConverged, match=r"cannot be reached in float64, whose rounding errors leave .* raise it"):
        atoms.get_potential_energy()


def test_failures_name_atoms_that_are_too_close(archive) -> None:
    atoms = water([[0, 0, 0], [0, 0, 0.1], [0, 0, 1]])
    options = {"num_scf_steps": 2, "scf_tolerance": 1e-9}
    atoms.calc = FixedPointCalculator(archive, total_charge=0.0, scf_options=options)
    with pytest.raises(SCFNotConverged, match=r"atoms 0 \(O\) and 1 \(H\) are 0.10 Å apart: the structure is wrong or"):
        atoms.get_potential_energy()
    good = water_cluster(1)
    good.calc = atoms.calc
    with pytest.raises(SCFNotConverged, match="the step limit was reached"):
        good.get_potential_energy()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--total_charge", "nan"], "--total_charge: expected a finite number, got 'nan'"),
        (["--constant_fermi", "inf"], "--constant_fermi: expected a finite number, got 'inf'"),
        (["--scf_tolerance", "inf"], "--scf_tolerance: expected a finite number, got 'inf'"),
        (["--kspace_accuracy", "nan"], "--kspace_accuracy: expected a finite number"),
        (["--chain_gap", "inf"], "--chain_gap: expected a finite number"),
    ],
)
def test_numbers_of_commands(archive, words, message, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["scf", str(archive), "x.xyz", *words])
    assert ended.value.code == 2 and message in capsys.readouterr().err


def test_commands_name_atoms_that_are_too_close(archive, tmp_path, capsys) -> None:
    from ase.io import write

    for name, positions in (("near", [[0, 0, 0], [0, 0, 0.1], [0, 0, 1]]), ("same", [[0, 0, 0], [0, 0, 0], [0, 0, 1]])):
        write(tmp_path / f"{name}.xyz", water(positions), format="extxyz")
    main(["scf", str(archive), str(tmp_path / "near.xyz"), "--no_spectrum"])
    assert "WARNING: atoms 0 (O) and 1 (H) are 0.10 Å apart" in capsys.readouterr().out
    for command in ("scf", "eval"):
        assert main([command, str(archive), str(tmp_path / "same.xyz")]) == 2
        assert "atoms 0 and 1 are 0.0e+00 Å apart, in the same place" in capsys.readouterr().err
