"""Parallel efficiency of a molecular-dynamics step in LAMMPS, beside LAMMPS' own long range in the same run.

    python benchmarks/parallel.py examples/nacl_water/model.pt [--replicas 2x4x4 4x4x8] [--ranks 2] [--steps 2]

Water boxes of 192 atoms are replicated.  Every program runs on one rank and on so many ranks in turns; an efficiency is
t(1) / (P t(P)) of the fastest of LAMMPS' loop times.  What the machine itself allows is measured with P separate runs
on one rank at the same time: t(1) / t(each of them).  The other program is lj/cut/coul/long with pppm 1e-5 and fixed
charges, without constraints: it does not stand for a model of water, but for what such a step costs.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fp_potential.export import read_metadata

from common import dynamics_of_water  # isort: skip

UNIT = (4, 4, 4)


class Run(NamedTuple):
    """How a program is started."""

    ranks: int
    copies: int  # at the same time


class Loop(NamedTuple):
    """What LAMMPS reports of a loop."""

    seconds: float  # per step
    atoms: int


#: steps of the classical program for one of ours: it takes a thousandth of the time
CLASSICAL_STEPS = 20


def fixedpoint(model: Path, elements: list[str]) -> str:
    """Commands of our pair style."""
    return f"pair_style fixedpoint charge 0 scf_tolerance 1e-6\npair_coeff * * {model.resolve()} {' '.join(elements)}"


def classical(elements: list[str]) -> str:
    """Commands of point charges with a mesh."""
    lines = ["pair_style lj/cut/coul/long 9.0", "kspace_style pppm 1e-5", "pair_coeff * * 1e-6 0.5"]
    charges = {"H": 0.4, "O": -0.8}
    lines += [f"set type {i + 1} charge {charges.get(e, 0.0)}" for i, e in enumerate(elements)]
    return "\n".join(lines)


def seconds(commands: str, elements: list[str], replicas: str, run: Run, steps: int, timestep: float) -> Loop:
    """Loop time per step, the longest of the copies, and number of atoms."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "in"
        box = tuple(int(n) for n in replicas.split("x"))
        script.write_text(
            dynamics_of_water(Path(folder), UNIT, elements, box, commands, timestep)
            + f"thermo 1000\nrun 1\nrun {steps}\n"
        )
        launcher = [str(Path(sys.executable).with_name("mpirun")), "-n", str(run.ranks)]
        command = [*launcher, str(Path(sys.executable).with_name("lmp")), "-in", str(script), "-log", "none"]
        copies = [
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder)
            for _ in range(run.copies)
        ]
        texts = [copy.communicate()[0] for copy in copies]
    found = []
    for text, copy in zip(texts, copies, strict=True):
        loops = [line.split() for line in text.splitlines() if line.startswith("Loop time")]
        if copy.returncode or len(loops) != 2:
            raise SystemExit(text[-2000:])
        found.append(Loop(float(loops[1][3]) / steps, int(loops[1][-2])))
    return max(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="exported model that knows H and O")
    parser.add_argument("--replicas", nargs="+", default=["2x4x4", "4x4x8"])
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    metadata = read_metadata(arguments.model)
    elements = metadata["elements"]
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {version('torch')}, "
          f"LAMMPS {version('lammps')}, {metadata['dtype']}, one thread per rank, scf_tolerance 1e-6")  # fmt: skip
    ways = (Run(1, 1), Run(arguments.ranks, 1), Run(1, arguments.ranks))
    print(f"{'program':>12} {'atoms':>7} {'ms, 1 rank':>11} {f'{arguments.ranks} ranks':>9} "
          f"{f'{arguments.ranks} copies':>9} {'efficiency':>11} {'of the machine':>15}")  # fmt: skip
    for replicas in arguments.replicas:
        programs = (
            ("fixedpoint", fixedpoint(arguments.model, elements), arguments.steps, 1e-4),
            # without bonds the point charges would fall onto each other
            ("pppm", classical(elements), arguments.steps * CLASSICAL_STEPS, 1e-7),
        )
        for name, commands, steps, timestep in programs:
            loops: dict[Run, list[Loop]] = {way: [] for way in ways}
            for _ in range(arguments.rounds):
                for way in ways:
                    loops[way].append(seconds(commands, elements, replicas, way, steps, timestep))
            alone, together, copies = (min(loops[way]).seconds for way in ways)
            print(
                f"{name:>12} {loops[ways[0]][0].atoms:7d} {alone * 1e3:11.1f} {together * 1e3:9.1f} "
                f"{copies * 1e3:9.1f} {100 * alone / arguments.ranks / together:9.0f} % {100 * alone / copies:13.0f} %",
                flush=True,
            )


if __name__ == "__main__":
    main()
