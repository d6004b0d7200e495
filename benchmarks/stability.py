"""Does a model hold in dynamics? Several hot trajectories in LAMMPS, and the extremes that they visit.

    python benchmarks/stability.py examples/nacl_water/model.pt examples/nacl_water/box.data
        [--seeds 1 2 3 4] [--temperature 350] [--picoseconds 2]

A test set says how a model does near its training data; a trajectory goes where the model leads it.  What goes wrong
first is a charge that runs away or a pair of atoms that meets, so both are looked at every 10 steps: largest and
smallest charge of each element and the shortest distance of each pair of elements that is not bonded.  A trajectory has
failed if LAMMPS stopped (an SCF that does not converge is an error), if a charge left the range --charges, or if a
molecule came apart.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from ase import Atoms
from ase.geometry import get_distances
from ase.io import read

SCRIPT = """units metal
atom_style charge
newton on
read_data {data}
pair_style fixedpoint charge 0
pair_coeff * * {model} {elements}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep 0.0005
velocity all create {temperature} {seed} mom yes rot no dist gaussian
fix move all nve
fix bath all langevin {temperature} {temperature} 0.1 {seed} zero yes
compute terms all pair fixedpoint
fix density all pair 10 fixedpoint charge 0
variable t equal temp
variable n equal c_terms[10]
fix out all ave/time 1 1 1 v_t v_n file steps.dat
dump frames all custom 10 frames.lammpstrj id element x y z f_density
dump_modify frames element {elements} sort id
thermo 1000
run {steps}
"""
#: longest O-H distance in a molecule (Å)
BONDED = 1.4


@dataclass
class Trajectory:
    """Extremes of one run."""

    seed: int
    steps: int
    temperature: float
    applications: int
    charges: dict[str, tuple[float, float]]
    distances: dict[str, float]
    longest_bond: float
    message: str


def run(arguments: argparse.Namespace, seed: int) -> Trajectory:
    """One trajectory on one process."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        values = vars(arguments) | {"model": arguments.model.resolve(), "data": arguments.data.resolve()}
        values |= {"seed": 7919 * seed, "steps": round(2000 * arguments.picoseconds)}
        (folder / "in").write_text(SCRIPT.format(**values))
        command = [str(Path(sys.executable).with_name("lmp")), "-in", "in", "-log", "none"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        message = ""
        if done.returncode:
            lines = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
            message = lines[0] if lines else f"status {done.returncode}"
        rows = np.loadtxt(folder / "steps.dat", ndmin=2)
        frames = read_dump(folder / "frames.lammpstrj")
    return Trajectory(
        seed, int(rows[-1, 0]), rows[:, 1].mean(), int(rows[:, 2].max()), *extremes(frames), message=message
    )


def read_dump(path: Path) -> list[Atoms]:
    """Frames with their charges in ``arrays['charge']``."""
    frames = read(path, ":", format="lammps-dump-text")
    for atoms in frames:
        atoms.arrays["charge"] = np.asarray(atoms.arrays["f_density"], dtype=float).reshape(-1)
    return frames


def extremes(frames: list[Atoms]) -> tuple[dict[str, tuple[float, float]], dict[str, float], float]:
    """Ranges of charges per element, shortest distances per pair of elements not bonded, longest O-H bond."""
    symbols = np.array(frames[0].get_chemical_symbols(), dtype=object)
    present = sorted(set(symbols))
    charges = np.array([atoms.arrays["charge"] for atoms in frames])
    ranges = {e: (charges[:, symbols == e].min(), charges[:, symbols == e].max()) for e in present}
    oxygens = np.flatnonzero(symbols == "O")
    bonded = np.eye(len(symbols), dtype=bool)
    for first in oxygens:  # molecules are O, H, H
        for i in range(3):
            bonded[first + i, first : first + 3] = True
    shortest: dict[str, float] = {}
    longest = 0.0
    for atoms in frames:
        distances = get_distances(atoms.positions, cell=atoms.cell, pbc=True)[1]
        longest = max(longest, distances[oxygens, oxygens + 1].max(), distances[oxygens, oxygens + 2].max())
        apart = np.where(bonded, np.inf, distances)
        for k, a in enumerate(present):
            for b in present[k:]:
                value = apart[np.ix_(symbols == a, symbols == b)].min()
                if np.isfinite(value):
                    shortest[f"{a}-{b}"] = min(shortest.get(f"{a}-{b}", np.inf), value)
    return ranges, shortest, longest


def main() -> None:
    """Run and print; the exit status is 1 if a trajectory failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="LAMMPS data file; waters as O, H, H in order of the ids")
    parser.add_argument("--elements", default="H O Na Cl")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--temperature", type=float, default=350.0)
    parser.add_argument("--picoseconds", type=float, default=2.0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--charges", default="H 0.1 0.5 O -0.9 -0.3 Na 0.3 1.1 Cl -1.2 -0.4", help="allowed range of each element, e"
    )
    arguments = parser.parse_args()
    words = arguments.charges.split()
    allowed = {e: (float(low), float(high)) for e, low, high in zip(*(words[k::3] for k in range(3)), strict=True)}
    print(f"{platform.machine()}; {arguments.picoseconds:g} ps at {arguments.temperature:g} K, 0.5 fs, Langevin")
    print(f"{'seed':>4} {'steps':>6} {'T [K]':>6} {'applications':>13}  charges [e] | shortest distances [Å]")
    failed = 0
    with ThreadPoolExecutor(arguments.processes) as pool:
        for found in pool.map(partial(run, arguments), arguments.seeds):
            charges = " ".join(f"{e} {low:.2f} … {high:.2f}" for e, (low, high) in found.charges.items())
            distances = " ".join(f"{pair} {value:.2f}" for pair, value in found.distances.items())
            out = [e for e, (low, high) in found.charges.items() if low < allowed[e][0] or high > allowed[e][1]]
            problem = found.message or (f"charge of {', '.join(out)} out of range" if out else "")
            problem = problem or ("a molecule came apart" if found.longest_bond > BONDED else "")
            failed += bool(problem)
            print(
                f"{found.seed:4d} {found.steps:6d} {found.temperature:6.0f} {found.applications:13d}  {charges} | "
                f"{distances}" + (f" | FAILED: {problem}" if problem else ""),
                flush=True,
            )
    print(f"{failed} of {len(arguments.seeds)} failed")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
