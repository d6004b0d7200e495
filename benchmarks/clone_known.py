"""Which update can represent which known model? Clones of charge equilibration, split charges and their mixture.

    python benchmarks/clone_known.py [--run clone_known] [--seed 0] [--small] [--teachers charges both ...]

For each known model every update is trained point by point on the same structures (`fixedpoint clone`) and compared
with it on structures that were held out: charges, dipoles, energies and forces of its own converged loop, and charges
point by point.  ``far`` is the charge that 0.1 V/Å moves between two waters 20 Å apart, for known models that have
water.  --small takes a quarter of the structures and half of the steps.
"""

import argparse
import platform
import time
from pathlib import Path

import torch
from ase import Atoms

import fp_potential
from fp_potential.cloning import CloningOptions, clone
from fp_potential.cloning.run import load_clone
from fp_potential.cloning.structures import known_model
from fp_potential.density.problem import own_start
from fp_potential.density.self_consistent import SelfConsistentModel
from fp_potential.graph import graph_from_atoms
from fp_potential.scf.settings import LoopSettings

from common import water  # isort: skip

TEACHERS = ("charges", "both", "split_charges", "mixture")
SMALL = {"train_frames": 16, "test_frames": 8, "density_epochs": 40, "force_epochs": 20}
DISTANCE, FIELD = 20.0, 0.1  # Å, V/Å
LOOP = LoopSettings(300, 1e-10, 0.3, "anderson")


def far_flow(model: SelfConsistentModel) -> float:
    """Charge between two waters far apart in a field, e; NaN without a converged loop."""
    first, second = water(), water()
    second.positions[:, 0] += DISTANCE
    atoms: Atoms = first + second
    charges = []
    for field in (0.0, FIELD):
        given = {"external_field": [field, 0.0, 0.0]}
        graph = graph_from_atoms(atoms, model.elements, model.cutoff, torch.float64, **given)
        result = model.solve(graph, LOOP, own_start(graph.positions), True, False).result
        charges.append(result.x[:3, 0].sum().item() if result.status.item() == 0 else float("nan"))
    return abs(charges[1] - charges[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("clone_known"), help="finished trainings are used again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--teachers", nargs="+", choices=TEACHERS, default=list(TEACHERS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, one thread; fp_potential {fp_potential.__version__}, "
        f"torch {torch.__version__}"
    )
