"""Memory and time of molecular-dynamics steps in LAMMPS against the size of the box, one process for each size.

    python benchmarks/large_box.py examples/nacl_water/model.pt [--sizes 1536 24000 100000] [--steps 2]

The boxes are one box of water (192 atoms), replicated to the smallest nearly cubic box with at least as many atoms as
asked for.  Time per step is LAMMPS' loop time over the steps after the first force call; CPU time is its share that the
process was running, which is what counts on a machine that is not quiet.  Peak memory is that of the whole process.
The speed of a machine drifts: the smallest box is run again after every larger one, and `ratio` is CPU time per atom
over the mean of the runs of the smallest box before and after.
"""

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from itertools import combinations_with_replacement
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fp_potential.export import read_metadata

from common import dynamics_of_water  # isort: skip

UNIT = (4, 4, 4)  # molecules in the box that is replicated
SIZES = [1536, 6144, 24000, 100000]
ATOM_STEPS = 30000  # of a small box at least


class Row(NamedTuple):
    """What is measured of one size."""

    atoms: int
    seconds: float  # per step
    cpu_seconds: float
    peak_bytes: int
    applications: float
    residual: float


def replicas(atoms: int) -> tuple[int, int, int]:
    """Replicas of the unit along each axis: the fewest with ``atoms`` atoms or more, edges within 1.5 of each other."""
    needed = atoms / (3 * math.prod(UNIT))
    largest = math.ceil(needed ** (1 / 3)) + 1
    boxes = [b for b in combinations_with_replacement(range(1, largest + 1), 3) if b[2] <= 1.5 * b[0]]
    return min((b for b in boxes if math.prod(b) >= needed), key=math.prod)


def measure(model: Path, elements: list[str], atoms: int, steps: int) -> Row:
    """One run of LAMMPS."""
    grid = replicas(atoms)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "in"
        style = (
            f"pair_style fixedpoint charge 0 scf_tolerance 1e-6\npair_coeff * * {model.resolve()} {' '.join(elements)}"
        )
        script.write_text(
            dynamics_of_water(Path(folder), UNIT, elements, grid, style, 0.0005)
            + f"""compute t all pair fixedpoint
thermo_style custom step c_t[10] c_t[11]
thermo 1
run {steps}
"""
        )
        command = [str(Path(sys.executable).with_name("lmp")), "-in", str(script), "-log", "none"]
        with (Path(folder) / "out").open("w+") as out:
            process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, cwd=folder)
            _, status, usage = os.wait4(process.pid, 0)
            out.seek(0)
            lines = out.read().splitlines()
    if status:
        raise SystemExit("\n".join(lines[-20:]))
    loop = next(line.split() for line in lines if line.startswith("Loop time"))
    share = next(float(line.split("%")[0]) for line in lines if "% CPU use" in line) / 100.0
    last = [line.split() for line in lines if len(line.split()) == 3 and line.split()[0] == str(steps)][-1]
    seconds = float(loop[3]) / steps
    scale = 1 if sys.platform == "darwin" else 1024
    return Row(int(loop[-2]), seconds, seconds * share, usage.ru_maxrss * scale, float(last[1]), float(last[2]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="exported model that knows H and O")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=SIZES, help="least numbers of atoms (default %(default)s)"
    )
    parser.add_argument("--steps", type=int, default=2, help="steps after the first force call (default %(default)s)")
    arguments = parser.parse_args()
    metadata = read_metadata(arguments.model)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {version('torch')}, "
          f"LAMMPS {version('lammps')}, {metadata['dtype']}, OMP_NUM_THREADS {os.environ['OMP_NUM_THREADS']}, "
          f"one rank, scf_tolerance 1e-6")  # fmt: skip
    print(f"{'atoms':>7} {'s/step':>8} {'µs/atom':>8} {'CPU µs/atom':>12} {'ratio':>6} {'peak MB':>8} {'kB/atom':>8} "
          f"{'applications':>13} {'residual':>9}")  # fmt: skip

    def run(size: int) -> Row:
        return measure(arguments.model, metadata["elements"], size, max(arguments.steps, ATOM_STEPS // size))

    def show(row: Row, ratio: str = "") -> None:
        n, each = row.atoms, row.cpu_seconds / row.atoms * 1e6
        print(
            f"{n:7d} {row.seconds:8.3f} {row.seconds / n * 1e6:8.0f} {each:12.0f} {ratio:>6} "
            f"{row.peak_bytes / 1e6:8.0f} {row.peak_bytes / n / 1e3:8.1f} {row.applications:13.1f} {row.residual:9.1e}",
            flush=True,
        )

    smallest, *larger = sorted(arguments.sizes)
    before = run(smallest)
    show(before)
    for size in larger:
        row, after = run(size), run(smallest)
        reference = (before.cpu_seconds + after.cpu_seconds) / (2 * before.atoms)
        show(row, f"{row.cpu_seconds / row.atoms / reference:.2f}")
        show(after)
        before = after


if __name__ == "__main__":
    main()
