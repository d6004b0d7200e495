"""Cost of a molecular-dynamics step in LAMMPS: µs per atom at several sizes, split into its parts.

    python benchmarks/lammps_step.py examples/nacl_water/model.pt [--ranks 1] [--steps 20]

The step is measured in LAMMPS (loop time, model call and communication as the pair style reports them).  The split of
the model call comes from the same operations run one by one in Python on the same structure and with the same number
of iterations, scaled to the model call measured in LAMMPS.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from ase import Atoms
from ase.io.lammpsdata import write_lammps_data

from fp_potential.density.any_loops import AnyLoops
from fp_potential.density.problem import own_start
from fp_potential.export import load_model
from fp_potential.graph import graph_from_atoms
from fp_potential.scf.settings import LoopSettings

from common import SIZES, fastest, water  # isort: skip


def lammps_step(model: Path, atoms: Atoms, elements: list[str], ranks: int, steps: int) -> dict[str, float]:
    """Seconds per step: whole loop, model call, communication; and SCF applications."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "box.data"
        write_lammps_data(data, atoms, specorder=elements, atom_style="charge", masses=True)
        script = Path(folder) / "in"
        script.write_text(
            f"""units metal
atom_style charge
newton on
read_data {data}
pair_style fixedpoint charge 0 scf_tolerance 1e-6
pair_coeff * * {model.resolve()} {" ".join(elements)}
velocity all create 300 1 mom yes
neighbor 1.0 bin
timestep 0.0005
fix 1 all nve
compute t all pair fixedpoint
thermo_style custom step temp c_t[10] c_t[11] c_t[13] c_t[14]
thermo 1
run 5
thermo_modify norm no
run {steps}
"""
        )
        launcher = [str(Path(sys.executable).with_name("mpirun")), "-n", str(ranks)] if ranks > 1 else []
        command = [*launcher, str(Path(sys.executable).with_name("lmp")), "-in", str(script), "-log", "none"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            raise SystemExit(done.stdout[-2000:] + done.stderr[-2000:])
    rows, loops = [], []
    for line in done.stdout.splitlines():
        words = line.split()
        if line.startswith("Loop time"):
            loops.append(float(words[3]))
            if len(loops) == 1:
                rows = []
        elif len(words) == 6 and words[0].isdigit():
            rows.append([float(w) for w in words])
    rows = rows[1:]
    middle = [statistics.median(column) for column in zip(*rows, strict=True)]
    return {
        "step": loops[1] / steps,
        "model": middle[4],
        "communication": middle[5],
        "applications": middle[2],
        "residual": middle[3],
    }


def parts(module: torch.jit.ScriptModule, atoms: Atoms, numbers: list[int], cutoff: float, dtype: torch.dtype) -> dict:
    """Seconds of backbone (forward), SCF, adjoint and derivatives in the scripted model, one thread."""
    graph = graph_from_atoms(atoms, numbers, cutoff, dtype)
    model = module.model
    loops, start = AnyLoops(model), own_start(graph.positions)

    def evaluate(steps: int, response: bool, forces: bool):  # type: ignore[no-untyped-def]
        return loops.evaluate(graph, LoopSettings(steps, 1e-6, 0.25, "anderson"), start, True, response, forces)

    one, scf, adjoint, full = fastest(
        lambda: evaluate(1, False, False),
        lambda: evaluate(100, False, False),
        lambda: evaluate(100, True, False),
        lambda: evaluate(100, True, True),
    )
    return {"backbone": one, "scf": scf - one, "adjoint": adjoint - scf, "derivatives": full - adjoint, "full": full}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module, metadata = load_model(arguments.model)
    from ase.data import atomic_numbers

    numbers = [atomic_numbers[s] for s in metadata["elements"]]
    dtype = getattr(torch, metadata["dtype"])
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"{metadata['dtype']}, {arguments.ranks} rank(s), scf_tolerance 1e-6; µs per atom and step")  # fmt: skip
    print(f"{'atoms':>6} {'step':>8} {'model':>8} {'backbone':>9} {'SCF':>7} {'adjoint':>8} {'derivatives':>12} "
          f"{'communication':>14} {'applications':>13} {'residual':>9}")  # fmt: skip
    for size in arguments.sizes:
        atoms = water(SIZES[size])
        run = lammps_step(arguments.model, atoms, metadata["elements"], arguments.ranks, arguments.steps)
        split = parts(module, atoms, numbers, float(metadata["cutoff"]), dtype)
        scale = 1e6 / size
        share = (run["model"] - run["communication"]) / split["full"] * scale
        print(
            f"{size:6d} {run['step'] * scale:8.0f} {run['model'] * scale:8.0f} {split['backbone'] * share:9.0f} "
            f"{split['scf'] * share:7.0f} {split['adjoint'] * share:8.0f} {split['derivatives'] * share:12.0f} "
            f"{run['communication'] * scale:14.0f} {run['applications']:13.1f} {run['residual']:9.1e}"
        )


if __name__ == "__main__":
    main()
