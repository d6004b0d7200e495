"""Boxes without atoms, and structures that end a run with their own names."""

from __future__ import annotations

import re

import pytest

from refusals import message, script

EMPTY = """
units metal
atom_style charge
boundary {boundary}
region b block 0 8 0 8 0 8
create_box 4 b
mass 1 15.999
mass 2 22.99
mass 3 1.008
mass 4 35.45
pair_style fixedpoint {style}
pair_coeff * * model.pt O Na H Cl
compute fp all pair fixedpoint
thermo_style custom step pe press atoms c_fp[5] c_fp[6]
thermo 1
thermo_modify format float %.12g
"""


@pytest.mark.parametrize(("boundary", "ranks"), [("p p p", 1), ("p p f", 2), ("f f f", 1)])
def test_nothing_has_no_energy(simulation, boundary, ranks):
    """Q = 0: energy and pressure are zero; atoms may come later, and go."""
    grow = "run 0\ncreate_atoms 2 single 4 4 4\nrun 0\ndelete_atoms group all\nrun 0\n"
    done = simulation.run_script(EMPTY.format(boundary=boundary, style="charge 0") + grow, ranks=ranks, timeout=200)
    assert done.returncode == 0, done.stdout[-1500:]
    first, grown, last = simulation.thermo()
    assert first["PotEng"] == last["PotEng"] == 0.0
    assert first["Press"] == last["Press"] == 0.0
    assert grown["Atoms"] == 1 and grown["PotEng"] != 0.0
    whole = EMPTY.format(boundary=boundary, style="charge 0") + "create_atoms 2 single 4 4 4\nrun 0\n"
    assert simulation.run_script(whole, ranks=ranks, timeout=200).returncode == 0
    assert simulation.thermo()[-1]["PotEng"] == pytest.approx(grown["PotEng"], abs=1e-9)


def test_nothing_at_a_level(simulation):
    """There is no charge, and the level is the one that is held."""
    done = simulation.run_script(EMPTY.format(boundary="p p f", style="fermi -2.5") + "run 0\n", timeout=200)
    assert done.returncode == 0, done.stdout[-1500:]
    (row,) = simulation.thermo()
    assert (row["PotEng"], row["c_fp[5]"], row["c_fp[6]"]) == (0.0, -2.5, 0.0)


def test_growing(simulation):
    """Deposition into an empty box."""
    grow = "fix d all deposit 2 2 5 11 region b near 2.0 id next\nfix 1 all nve\ntimestep 1e-4\nrun 12\n"
    done = simulation.run_script(EMPTY.format(boundary="p p f", style="charge 0") + grow, ranks=2, timeout=200)
    assert done.returncode == 0, done.stdout[-1500:]
    rows = simulation.thermo()
    assert rows[0]["Atoms"] == 0 and rows[0]["PotEng"] == 0.0
    assert rows[-1]["Atoms"] == 2 and rows[-1]["PotEng"] != 0.0


@pytest.mark.parametrize("ranks", [1, 2])
def test_all_atoms_have_left(simulation, ranks):
    """Lost atoms are ignored, until none is left."""
    leave = """
create_atoms 2 single 4 4 7.9
thermo_modify lost ignore
thermo 100
velocity all set 0 0 900
fix 1 all nve
timestep 0.002
run 20
"""
    done = simulation.run_script(EMPTY.format(boundary="p p f", style="charge 0") + leave, ranks=ranks, timeout=200)
    assert done.returncode != 0
    assert re.search(r"no atom is left in the box at step \d+, all 1 have gone through", message(done.stdout))


@pytest.mark.parametrize("ranks", [1, 2])
def test_atoms_too_close(box, ranks):
    """A failure of the loop says which atoms are the reason."""
    near = "set atom 1 x 1.0 y 1.0 z 1.0\nset atom 2 x 1.01 y 1.01 z 1.01"
    style = "pair_style fixedpoint num_scf_steps 1"
    done = box.run_script(script(after=near, style=style), ranks=ranks, timeout=200)
    assert done.returncode != 0
    said = message(done.stdout)
    assert re.search(
        r"not converged at step 0.*The structure is the reason: atoms (1 and 2|2 and 1) are 0\.0173 A apart", said
    )
    done = box.run_script(script(style=style), ranks=ranks, timeout=200)
    assert done.returncode != 0 and "The structure is the reason" not in done.stdout


def test_positions_that_are_no_numbers(box):
    """LAMMPS' own error, on two ranks: it ends both."""
    done = box.run_script(
        script(after="variable e atom 1e300*1e300-1e300*1e300\nset atom 1 x v_e"), ranks=2, timeout=200
    )
    assert done.returncode != 0
    assert "Non-numeric atom coords" in done.stdout + (box.folder / "log.lammps").read_text()


def test_masses(box):
    """Types whose mass is that of another element."""
    swapped = "mass 1 1.008\nmass 3 15.999"
    done = box.run_script(script(after=swapped), timeout=200)
    assert done.returncode == 0
    found = re.findall(
        r"WARNING: pair fixedpoint: atom type (\d) is (\S+) in pair_coeff and has the mass (\S+),", done.stdout
    )
    assert found == [("1", "O", "1.008"), ("3", "H", "15.999")]
    for fine in ("mass 3 2.014", "mass 1 16\nmass 3 1"):
        assert "has the mass" not in box.run_script(script(after=fine), timeout=200).stdout


def test_all_choices_are_in_the_log(box):
    """Model, device, threads, what is held, the loop, and how potentials are summed."""
    style = "pair_style fixedpoint fermi -2.5 kspace mesh kspace_accuracy 0.1 solver linear mixing_parameter 0.3"
    style += " scf_tolerance 1e-5 num_scf_steps 400 on_nonconverged warn write_q no outside ignore"
    done = box.run_script(script(style=style), timeout=200)
    assert done.returncode == 0, done.stdout[-1500:]
    assert re.search(
        r"pair fixedpoint: model\.pt \(elements H O Na Cl, cutoff 4 A, float64\) on cpu, 1 thread per rank, "
        r"Fermi level -2\.5 V\n"
        r"pair fixedpoint: SCF by linear with mixing_parameter 0\.3, at most 400 applications, "
        r"scf_tolerance 1e-05 e, on_nonconverged warn; write_q no, outside ignore\n",
        done.stdout,
    ), done.stdout[-2500:]
    mesh = r"pair fixedpoint: kspace mesh of (\d+) x (\d+) x (\d+) points, accuracy 0\.1, net force kept\n"
    (points,) = re.findall(mesh, done.stdout)
    assert all(4 <= int(n) <= 64 for n in points)
    done = box.run_script(script(run="run 0\nrun 0"), timeout=200)
    assert len(re.findall(r"pair fixedpoint: kspace reciprocal \(chosen by auto\)\n", done.stdout)) == 1
