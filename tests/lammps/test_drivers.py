"""Other layouts, minimisation, barostats and several instances."""

from __future__ import annotations

import re
import sys

import numpy as np
from ase import Atoms

SCATTERED = Atoms(
    "NaClO6H12",
    positions=np.random.default_rng(5).uniform(0, 1, (20, 3)) * [11.0, 6.0, 6.5],
    cell=[11.0, 6.0, 6.5],
    pbc=True,
)


def test_tiled_layout(simulation):
    """Recursive bisection instead of bricks gives the same forces."""
    simulation.write_structure(SCATTERED)
    bricks = simulation.frames(1)[0][0]
    tiles = simulation.frames(3, setup="comm_style tiled", extra="balance 1.0 rcb")
    np.testing.assert_allclose(tiles[0][0].table, bricks.table, rtol=0, atol=1e-9)


def test_minimise_and_barostat(simulation):
    """Other drivers than plain dynamics: the energy falls, the box moves."""
    simulation.write_structure(SCATTERED)
    done = simulation.run_script(
        """
units metal
atom_style charge
read_data system.data
pair_style fixedpoint charge 0
pair_coeff * * model.pt O Na H Cl
thermo 1
thermo_style custom step pe vol press
min_style cg
minimize 0 1e-3 5 20
velocity all create 100 1
fix 1 all npt temp 100 100 0.1 aniso 0 0 0.5
run 3
""",
        ranks=2,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    rows = [list(map(float, line.split())) for line in done.stdout.splitlines() if re.match(r"^\s+\d+\s+-", line)]
    assert rows[4][1] < rows[0][1]
    assert rows[-1][2] != rows[0][2]


def test_many_instances(simulation, tools):
    """Two instances side by side and torch in the same process do not disturb each other."""
    simulation.write_structure(SCATTERED)
    program = """
import torch
from fp_potential.lammps import open_instance
from fp_potential.calculator import FixedPointCalculator
threads = torch.get_num_threads()
def start(charge):
    lmp = open_instance()
    lmp.commands_string('''
units metal
atom_style charge
read_data system.data
pair_style fixedpoint charge %s
pair_coeff * * model.pt O Na H Cl
fix 1 all nve
run 0''' % charge)
    return lmp
a, b = start(0), start(1)
first = a.get_thermo("pe"), b.get_thermo("pe")
for lmp in (a, b, a, b):
    lmp.command("run 0")
assert abs(a.get_thermo("pe") - first[0]) < 1e-9 and abs(b.get_thermo("pe") - first[1]) < 1e-9
assert abs(first[0] - first[1]) > 1e-3
a.close()
b.command("run 1")
b.command("plugin unload pair fixedpoint")
b.close()
assert torch.get_num_threads() == threads
assert torch._C._get_graph_executor_optimize()
print("reached the end")
"""
    done = tools.run([sys.executable, "-c", program], simulation.folder, 120)
    assert "reached the end" in done.stdout, done.stdout[-1000:] + done.stderr[-2000:]
