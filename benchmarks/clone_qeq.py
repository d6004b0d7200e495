"""Cloning of charge equilibration: errors point by point and self-consistently, with enough and with too little data.

    python benchmarks/clone_qeq.py [--run clone_qeq] [--seeds 0 1 2]

"enough" are the defaults of `fixedpoint clone`; "little" is a quarter of the structures and a tenth of the steps,
where the two architectures differ.  The target is a self-consistent charge error below 1e-3 e for the constrained
response.
"""

import argparse
import platform
import statistics
from pathlib import Path

import torch

import fp_potential
from fp_potential.cloning import Clone, CloningOptions, clone, table

TARGET = 1e-3
#: updates whose response is that of single atoms
ATOMS = ["constrained", "unconstrained", "symmetric"]
SIZES = {"enough": {}, "little": {"train_frames": 16, "density_epochs": 40, "force_epochs": 10}}


def summary(rows: list[Clone]) -> list[str]:
    """Per architecture: self-consistent charge errors of all seeds, and by how much iteration multiplies them."""
    lines = []
    for name in ATOMS:
        found = [row.comparison for row in rows if row.model == name]
        errors = [c.self_consistent.charge for c in found]
        ratios = [c.self_consistent.charge / c.pointwise.charge for c in found]
        below = sum(error < TARGET for error in errors)
        lines.append(
            f"{name}: {1000 * statistics.median(errors):.2f} me (largest {1000 * max(errors):.2f}), "
            f"{statistics.median(ratios):.1f} times the error point by point; "
            f"below {1000 * TARGET:.0f} me in {below} of {len(errors)}; "
            f"{statistics.median(row.seconds for row in rows if row.model == name):.0f} s of training each"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("clone_qeq"), help="folder; finished trainings are used again")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, one thread; fp_potential {fp_potential.__version__}, "
        f"torch {torch.__version__}"
    )
    for name, sizes in SIZES.items():
        options = CloningOptions(clones=ATOMS, seeds=arguments.seeds, run_dir=str(arguments.run / name), **sizes)
        rows = clone(options)
        print(f"\n{name}: {options.train_frames} structures", table(rows), *summary(rows), sep="\n")


if __name__ == "__main__":
    main()
