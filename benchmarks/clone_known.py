"""Which update can represent which known model? Clones of charge equilibration, split charges and their mixture.

    python benchmarks/clone_known.py [--run clone_known] [--seed 0] [--small] [--teachers charges ...] [--clones ...]

For each known model every update is trained point by point on the same structures (`fixedpoint clone`) and compared
with it on structures that were held out: root mean squares of charges and forces point by point, and of charges,
dipoles, energies and forces of its own converged loop.  "far" is the charge that 0.1 V/Å moves between two waters 20 Å
apart, where a clone knows H and O.  --small takes a quarter of the structures and half of the steps.
"""

import argparse
import platform
from pathlib import Path

import torch
from ase.build import molecule
from fp_potential.train.potential.trained import find_checkpoint, load_trained
from rich.console import Console

import fp_potential
from fp_potential.cloning import ARCHITECTURES, Clone, CloningOptions, clone
from fp_potential.cloning.structures import known_model
from fp_potential.density.problem import own_start
from fp_potential.density.self_consistent import SelfConsistentModel
from fp_potential.graph import graph_from_atoms
from fp_potential.scf.settings import LoopSettings
from fp_potential.text_tables import aligned

ELEMENTS = {
    "charges": ["Cl", "H", "Na", "O"],
    "both": ["Cl", "H", "Na", "O"],
    "split_charges": ["H", "O"],
    "mixture": ["Cu", "H", "O"],
}
#: the constrained response is one of the unconstrained ones
CLONES = ["unconstrained", "symmetric", "split_charges", "insulator"]
SMALL = {"train_frames": 16, "test_frames": 8, "density_epochs": 40, "force_epochs": 20}
DISTANCE, FIELD = 20.0, 0.1  # Å, V/Å
LOOP = LoopSettings(300, 1e-10, 0.3, "anderson")
HEAD = ["known model", "clone", "charge point by point [me]", "charge [me]", "dipole [meÅ]", "energy [meV/atom]"]
HEAD += ["forces point by point [meV/Å]", "forces [meV/Å]", "far [me]", "converged [%]", "eigenvalues of J", "time [s]"]


def far_flow(model: SelfConsistentModel) -> float:
    """Charge that the field moves between two waters far apart, e; NaN without a converged loop."""
    atoms = molecule("H2O") + molecule("H2O")
    atoms.positions[3:, 0] += DISTANCE
    charges = []
    for field in (0.0, FIELD):
        given = {"external_field": [field, 0.0, 0.0]}
        graph = graph_from_atoms(atoms, model.elements, model.cutoff, torch.float64, **given)
        result = model.solve(graph, LOOP, own_start(graph.positions), True, False).result
        charges.append(result.x[:3, 0].sum().item() if result.status.item() == 0 else float("nan"))
    return abs(charges[1] - charges[0])


def cells(teacher: str, row: Clone, far: float) -> list[str]:
    """One row of the table."""
    c = row.comparison
    point, own = c.pointwise, c.self_consistent
    figures = [point.charge, own.charge, own.atomic_dipole, own.energy, point.forces, own.forces]
    eigenvalues = f"{c.smallest_eigenvalue:.2f} ... {c.largest_eigenvalue:.2f}"
    ends = [f"{1000 * far:.2g}", f"{100 * c.converged:.0f}", eigenvalues, f"{row.seconds:.0f}"]
    return [teacher, row.model, *(f"{1000 * figure:.2f}" for figure in figures), *ends]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("clone_known"), help="finished trainings are used again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--clones", nargs="+", choices=list(ARCHITECTURES), default=CLONES)
    parser.add_argument("--teachers", nargs="+", choices=list(ELEMENTS), default=list(ELEMENTS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, one thread; fp_potential {fp_potential.__version__}, "
        f"torch {torch.__version__}"
    )
    lines = [HEAD]
    for teacher in arguments.teachers:
        folder, sizes = arguments.run / teacher, SMALL if arguments.small else {}
        sizes = sizes | {"clones": arguments.clones, "seeds": [arguments.seed]}
        options = CloningOptions(teacher=teacher, run_dir=str(folder), **sizes)
        for row in clone(options, Console(stderr=True)):
            if row.seed is None:
                model = known_model(teacher, ELEMENTS[teacher])
            else:
                model = load_trained(find_checkpoint(folder / f"{row.model}-{row.seed}"))[0]
            lines.append(cells(teacher, row, far_flow(model)))
        print(aligned(lines, ruled=True), flush=True)


if __name__ == "__main__":
    main()
