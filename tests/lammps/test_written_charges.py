"""The atoms' property q, which the pair style writes for owners and ghosts, beside styles that read it."""

from __future__ import annotations

import re

import numpy as np
import pytest
from ase import Atoms

import figures

SYSTEM = Atoms(
    ["Na", "Cl", "O", "H", "H", "O", "H", "H"],
    positions=[
        [0.1, 0.2, 0.1],
        [2.8, 0.1, 0.3],
        [0.2, 2.6, 0.2],
        [0.8, 3.1, 0.3],
        [-0.7, 3.2, 0.1],
        [3.4, 3.0, 3.6],
        [4.2, 3.4, 3.7],
        [2.9, 3.6, 4.1],
    ],
    cell=[7.0, 7.2, 7.4],
    pbc=True,
)

SCRIPT = """
units metal
atom_style charge
read_data system.data
{neighbours}
pair_style hybrid/overlay {styles}
pair_coeff * * fixedpoint model.pt O Na H Cl
{coeff}
set group all charge 0
{more}
compute b all pair {reader}
velocity all create 600 11
fix 1 all nve
timestep 0.002
thermo 1
thermo_style custom step c_b pe
thermo_modify format float %.17g
run {steps}
"""


def energies(simulation, ranks: int = 1, neighbours: str = "", keyword: str = "", steps: int = 4, **lines) -> tuple:
    """Energy of coul/cut at every step, and the screen output; with several ``neighbours`` one run after the other."""
    lines = {"coeff": "pair_coeff * * coul/cut", "reader": "coul/cut", "more": "", **lines}
    lines.setdefault("styles", f"fixedpoint charge 0 scf_tolerance 1e-4 {keyword} coul/cut 5.0")
    simulation.write_structure(SYSTEM)
    settings = [neighbours] if isinstance(neighbours, str) else neighbours
    scripts = [SCRIPT.format(neighbours=setting, steps=steps, **lines) for setting in settings]
    done = simulation.run_script("clear\n".join(scripts), ranks=ranks)
    assert done.returncode == 0, done.stdout[-1500:]
    return np.array([row["c_b"] for row in simulation.thermo()]), done.stdout


RARELY, ALWAYS = "neighbor 2.0 bin\nneigh_modify every 50 delay 50 check no", "neigh_modify every 1 delay 0 check no"


def test_same_charges_on_owners_and_ghosts(simulation):
    """At every step, on any number of ranks, however often the lists are rebuilt."""
    expected, said = energies(simulation, neighbours=ALWAYS)
    assert len(set(expected)) == 5, "the charges change with the positions"
    assert len(re.findall("WARNING: .*coul/cut reads the charges q that the model writes", said)) == 1
    for ranks in (1, 2, 3):
        found, _ = energies(simulation, ranks, (RARELY, ALWAYS))
        error = abs(found.reshape(2, -1) - expected)
        figures.at_most("q read by coul/cut: energy on 1, 2, 3 ranks, two neigh_modify, eV", error, 1e-10)


def test_charges_that_are_not_written(simulation):
    """Those of the script stay, and nobody is warned."""
    found, said = energies(simulation, keyword="write_q no", steps=1)
    assert (found == 0.0).all()
    assert "reads the charges" not in said


def test_long_range_of_written_charges(simulation):
    """k-space styles take the sums of q of the present step: the energy is that of a script that sets them."""
    lines = {
        "styles": "fixedpoint charge 0 coul/long 5.0",
        "coeff": "pair_coeff * * coul/long\nkspace_style ewald 1e-6\nkspace_modify gewald 0.4",
        "reader": "coul/long",
    }
    first = "set type 1 charge -0.4\nset type 3 charge 0.2"
    done = [energies(simulation, ranks, steps=2, more=first, **lines) for ranks in (1, 2)]
    np.testing.assert_allclose(done[1][0], done[0][0], rtol=0, atol=1e-9)
    rows = simulation.thermo()
    # the same positions as a first step: sums of q that are old would show
    again = "set type 1 charge 0.9\nset type 3 charge -0.45"
    energies(simulation, steps=2, more=again, **lines)
    np.testing.assert_allclose([r["PotEng"] for r in simulation.thermo()], [r["PotEng"] for r in rows], atol=1e-8)


def test_two_models(simulation):
    """Both write q: said once."""
    simulation.write_structure(SYSTEM)
    text = """
units metal
atom_style charge
read_data system.data
pair_style hybrid/scaled 0.5 fixedpoint charge 0 {first} 0.5 fixedpoint charge 1
pair_coeff * * fixedpoint 1 model.pt O Na H Cl
pair_coeff * * fixedpoint 2 model.pt O Na H Cl
run 0
"""
    for first, times in (("", 1), ("write_q no", 0)):
        done = simulation.run_script(text.format(first=first))
        assert done.returncode == 0, done.stdout[-1500:]
        assert len(re.findall("WARNING: .*several pair styles fixedpoint write their charges", done.stdout)) == times


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("fix e all efield 0 0 0", "fix e efield acts on the charges q as if they were fixed, .*keyword efield"),
        ("fix e all qeq/point 1 5 1e-6 100 qeq.dat", "fix e qeq/point finds charges q of its own"),
    ],
)
def test_fixes_with_charges(simulation, line, said):
    simulation.write_structure(SYSTEM)
    (simulation.folder / "qeq.dat").write_text("".join(f"{k} 0.0 10.0 0.0 0.0 0.0\n" for k in range(1, 5)))
    text = f"""
units metal
atom_style charge
read_data system.data
pair_style fixedpoint charge 0
pair_coeff * * model.pt O Na H Cl
{line}
run 0
"""
    done = simulation.run_script(text)
    assert done.returncode == 0, done.stdout[-1500:]
    assert re.search(said, done.stdout)
