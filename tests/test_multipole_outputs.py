"""The functions of docs/multipoles.md read charges (e) and dipoles (e Å, x y z) from outputs as programs write them."""

import numpy as np
import pytest
from ase.build import molecule
from ase.units import Bohr
from fp_potential.train.data.options import Keys
from fp_potential.train.data.read import read_frames

from documents import ROOT, blocks

CHARGES = np.array([-0.712345, 0.356173, 0.356172])
DIPOLES = np.array([[0.013, -0.0825, 0.11], [-0.02, 0.031, -0.0042], [0.005, -0.0275, 0.006]])


@pytest.fixture(scope="module")
def page() -> dict:
    """What the Python of the page defines."""
    names: dict = {}
    for block in blocks(ROOT / "docs" / "multipoles.md"):
        if block.language == "python":
            exec(block.text, names)
    return names


@pytest.fixture
def water():
    return molecule("H2O")


class Results(dict):
    """Results by name, as objects of Psi4 and tblite give them."""

    def array_variable(self, name):
        return self[name]


def test_labels_are_read_as_they_were_meant(page, water, tmp_path) -> None:
    """Order, sign and unit: the dipole of the frame that is read is that of charges and dipoles."""
    water.rotate(40, (1, 2, 3))
    page["attach"](water, CHARGES, DIPOLES)
    water.info["D"] = page["total_dipole"](water, CHARGES, DIPOLES)
    expected = sum(q * r + d for q, r, d in zip(CHARGES, water.positions, DIPOLES, strict=True))
    assert np.allclose(water.info["D"], expected)
    water.write(tmp_path / "water.xyz", format="extxyz")
    keys = Keys(atomic_multipoles="REF_atomic_multipoles", dipole="D")
    (frame,) = read_frames([str(tmp_path / "water.xyz")], keys, demanded=())
    q, y, z, x = frame.labels["atomic_multipoles"].T
    assert np.allclose(q @ water.positions + [x.sum(), y.sum(), z.sum()], frame.labels["dipole"], atol=1e-7)
    page["attach"](water, CHARGES)
    assert np.array_equal(water.arrays["REF_charges"], CHARGES)


def chargemol(water) -> str:
    rows = [
        f"{i + 1:5d} {atom.symbol}"
        + "".join(f"{value:13.6f}" for value in [*atom.position, CHARGES[i], *DIPOLES[i] / Bohr, 0.1, *np.zeros(8)])
        for i, atom in enumerate(water)
    ]
    return "\n".join(
        [
            f"{len(water)}",
            "Nonperiodic system",
            *(f"{atom.symbol} 0 0 0 {CHARGES[i]}" for i, atom in enumerate(water)),
            "",
            "The following XYZ coordinates are in angstroms. The atomic dipoles and quadrupoles are in atomic units.",
            "atom number, atomic symbol, x, y, z, net_charge, dipole_x, dipole_y, dipole_z, dipole_mag, Qxy",
            *rows,
            "",
            "The sperically averaged electron density of each atom fit to a function of the form exp(a - br)",
            *(f"{i + 1} {atom.symbol} 0 0 0 1.0 2.0 3.0 4.0" for i, atom in enumerate(water)),
        ]
    )


def aims(charges=CHARGES) -> str:
    text = "  Performing Hirshfeld analysis of fragment charges and moments.\n"
    for i, (q, d) in enumerate(zip(charges, DIPOLES, strict=True)):
        text += f"  | Atom {i + 1:5d}: H\n  |   Hirshfeld charge        : {q:15.8f}\n"
        text += f"  |   Hirshfeld dipole vector : {d[0]:15.8f}  {d[1]:15.8f}  {d[2]:15.8f}\n"
        text += f"  |   Hirshfeld dipole moment : {np.linalg.norm(d):15.8f}\n"
    return text


def test_outputs_with_dipoles(page, water) -> None:
    """Of several analyses in one output the last counts."""
    multipoles = np.column_stack([CHARGES, DIPOLES / Bohr, np.zeros((3, 6))])
    features = {f"dipm_A_{axis}": DIPOLES[:, k] / Bohr for k, axis in enumerate("xyz")}
    found = {
        "psi4": page["of_psi4"](Results({"MBIS CHARGES": CHARGES[:, None], "MBIS DIPOLES": DIPOLES / Bohr})),
        "horton": page["of_horton"]({"cartesian_multipoles": multipoles}),
        "chargemol": page["of_chargemol"](chargemol(water)),
        "aims": page["of_aims"](aims(0.5 * CHARGES) + "Next step\n" + aims()),
        "tblite": page["of_tblite"](Results({"charges": CHARGES, "post-processing-dict": features})),
    }
    for program, (charges, dipoles) in found.items():
        assert np.allclose(charges, CHARGES, atol=1e-6), program
        assert np.allclose(dipoles, DIPOLES, atol=1e-6), program


def test_outputs_with_charges_only(page) -> None:
    symbols = "OHH"
    orca = "MULLIKEN ATOMIC CHARGES\n   0 O :   -0.600000\n\nHIRSHFELD ANALYSIS\n  ATOM     CHARGE      SPIN\n"
    orca += "".join(f"{i:4d} {s}  {CHARGES[i]:11.6f}    0.000000\n" for i, s in enumerate(symbols))
    orca += "\n  TOTAL     0.000000    0.000000\n\nMBIS ANALYSIS\n  ATOM     CHARGE    POPULATION     SPIN\n"
    orca += "".join(f"{i:4d} {s}  {2 * CHARGES[i]:11.6f}  1.0  0.000000\n" for i, s in enumerate(symbols))
    orca += "\n  TOTAL     0.000000   10.000000    0.000000\n"
    assert np.array_equal(page["of_orca"](orca), CHARGES)
    assert np.allclose(page["of_orca"](orca, "MBIS"), 2 * CHARGES)
    for spin in ("", "  0.000"):
        cp2k = "   Hirshfeld Charges\n\n  #Atom  Element  Kind  Ref Charge     Population       Net charge\n"
        cp2k += "".join(
            f" {i + 1:6d}  {s:>6s}  1   6.000  7.115{spin}  {CHARGES[i]:8.3f}\n" for i, s in enumerate(symbols)
        )
        cp2k += "\n  Total Charge          0.000\n"
        assert np.allclose(page["of_cp2k"](cp2k), CHARGES, atol=5e-4)
    electrons = np.array([6.0, 1.0, 1.0])
    acf = "    #         X           Y           Z       CHARGE      MIN DIST   ATOMIC VOL\n " + 80 * "-" + "\n"
    acf += "".join(f"{i + 1:5d}  0.0  0.0  0.0  {electrons[i] - CHARGES[i]:.6f}  1.3  9.0\n" for i in range(3))
    acf += " " + 80 * "-" + "\n    VACUUM CHARGE:  0.0000\n    NUMBER OF ELECTRONS:   8.0000\n"
    assert np.allclose(page["of_bader"](acf, electrons), CHARGES, atol=1e-6)
