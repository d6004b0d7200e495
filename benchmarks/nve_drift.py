"""Drift of the total energy in constant-energy molecular dynamics through LAMMPS.

    python benchmarks/nve_drift.py examples/nacl_water/model.pt examples/nacl_water/box.data [--ranks 2]

Prints the slope of a straight line through the total energy, meV per atom and ps, its standard error from ten blocks,
and the SCF's iterations and residual.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

os.environ.setdefault("OMP_NUM_THREADS", "1")

SCRIPT = """units metal
atom_style charge
newton on
read_data {data}
pair_style fixedpoint charge 0 scf_tolerance {tolerance}
pair_coeff * * {model} {elements}
neighbor 1.0 bin
neigh_modify every 1 delay 0 check yes
timestep {timestep}
fix move all nve
compute terms all pair fixedpoint
variable e equal etotal
variable t equal temp
variable n equal c_terms[10]
variable r equal c_terms[11]
fix out all ave/time 1 1 1 v_e v_t v_n v_r format " %.15g" file energy.dat
thermo 1000
run {steps}
"""


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--elements", default="H O Na Cl")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--picoseconds", type=float, default=5.0)
    parser.add_argument("--timestep", type=float, default=0.5, help="fs")
    parser.add_argument("--scf_tolerance", type=float, default=1e-6)
    parser.add_argument("--keep", type=Path, help="copy the energies (LAMMPS' ave/time file) here")
    a = parser.parse_args()
    steps = round(1000 * a.picoseconds / a.timestep)
    binaries = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        text = SCRIPT.format(
            data=a.data.resolve(),
            model=a.model.resolve(),
            elements=a.elements,
            tolerance=a.scf_tolerance,
            timestep=a.timestep / 1000,
            steps=steps,
        )
        Path(folder, "in").write_text(text)
        command = [str(binaries / "mpirun"), "-n", str(a.ranks), str(binaries / "lmp"), "-in", "in", "-log", "none"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
        raw = Path(folder, "energy.dat").read_text()
    if a.keep:
        a.keep.write_text(raw)
    table = np.array([[float(x) for x in line.split()] for line in raw.splitlines() if not line.startswith("#")])
    atoms = int(next(line.split()[0] for line in a.data.read_text().splitlines() if line.strip().endswith(" atoms")))
    time = table[:, 0] * a.timestep / 1000
    energy = 1000 * table[:, 1] / atoms
    slope = np.polyfit(time, energy, 1)[0]
    blocks = [np.polyfit(t, e, 1)[0] for t, e in zip(np.array_split(time, 10), np.array_split(energy, 10), strict=True)]
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {a.ranks} rank(s)"
    print(f"{machine}; {atoms} atoms, {time[-1]:g} ps of {a.timestep} fs, scf_tolerance {a.scf_tolerance:g}")
    spread = f"slopes of tenths {np.mean(blocks):+.3f} ± {np.std(blocks) / 3:.3f}"
    print(f"drift {slope:+.4f} meV/atom/ps; rms fluctuation {np.std(energy - slope * time):.4f} meV/atom; {spread}")
    scf = f"applications {table[:, 3].mean():.2f}; largest residual {table[:, 4].max():.1e}"
    print(f"temperature {table[:, 2].mean():.0f} K; {scf}")


if __name__ == "__main__":
    main()
