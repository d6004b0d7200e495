"""Memory of a mesh in a mostly empty periodic cell: what is estimated before it is made, and what a process takes.

    python benchmarks/vacuum_memory.py model.pt [--edges 50 80 110]

A water molecule with energy and forces in periodic cubes, each in a fresh process; measured is the peak of the resident
memory above that of the smallest cube.
"""

import argparse
import json
import resource
import subprocess
import sys

import numpy as np
import torch
from ase.build import molecule

from fp_potential.calculator import FixedPointCalculator
from fp_potential.electrostatics.memory import mesh_memory


def one(model: str, edge: float) -> None:
    """Points, bytes estimated and peak of this process, as JSON."""
    atoms = molecule("H2O", cell=[edge] * 3, pbc=True)
    calculator = FixedPointCalculator(model, total_charge=0.0, kspace="mesh")
    atoms.calc = calculator
    atoms.get_forces()
    electrostatics = calculator.module.model.electrostatics
    positions, cell = torch.tensor(atoms.positions), torch.tensor(atoms.cell.array)
    found = mesh_memory(electrostatics, positions, cell, torch.tensor(atoms.pbc))
    assert found is not None
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"points": int(np.prod(found.shape)), "estimated": found.size, "peak": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="archive of `fixedpoint export` that knows H and O")
    parser.add_argument("--edges", type=float, nargs="+", default=[50.0, 80.0, 110.0], help="of the cubes, Å")
    parser.add_argument("--one", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        return one(arguments.model, arguments.one)
    rows = []
    for edge in sorted(arguments.edges):
        command = [sys.executable, "-W", "ignore", __file__, arguments.model, "--one", str(edge)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"{'edge, Å':>8}{'points':>12}{'estimated, MB':>16}{'taken, MB':>12}{'bytes per point':>18}")
    for edge, row in zip(sorted(arguments.edges), rows, strict=True):
        taken, points = row["peak"] - rows[0]["peak"], row["points"] - rows[0]["points"]
        measured = f"{taken / 1e6:>12.0f}{taken / points:>18.0f}" if points else ""
        print(f"{edge:>8.0f}{row['points']:>12}{row['estimated'] / 1e6:>16.0f}{measured}")
    return None


if __name__ == "__main__":
    main()
