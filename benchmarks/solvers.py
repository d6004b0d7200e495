"""Applications of the map that each solver needs on real structures, beside GMRES and the best linear mixing.

    python benchmarks/solvers.py examples/nacl_water/model.pt examples/nacl_water/data/*.extxyz.gz [--every 10]

The map is affine for the one-body update, so GMRES on (1 - J) p = b, started at the local guess, is the best any
residual method can do without a preconditioner: the yardstick.  All counts are applications of the map until the mean
residual is below the tolerance, the first one included.
"""

import argparse
import statistics
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from ase.data import atomic_numbers
from ase.io import read
from scipy.sparse.linalg import LinearOperator, gmres

from fp_potential.density.any_loops import AnyLoops
from fp_potential.density.problem import own_start
from fp_potential.export import load_model
from fp_potential.graph import graph_from_atoms
from fp_potential.scf.settings import LoopSettings


def counts(module: torch.jit.ScriptModule, atoms, numbers: list[int], cutoff: float, tolerance: float) -> list[float]:  # type: ignore[no-untyped-def]
    """Applications of Anderson, GMRES and the best linear mixing for one structure."""
    charge = float(atoms.info.get("total_charge", 0.0))
    graph = graph_from_atoms(atoms, numbers, cutoff, torch.float64, total_charge=charge)
    model = module.model

    loops, start = AnyLoops(model), own_start(graph.positions)

    def run(solver: str, steps: int, mixing: float):  # type: ignore[no-untyped-def]
        return loops.solve(graph, LoopSettings(steps, tolerance, mixing, solver), start, True)

    solution = run("anderson", 200, 0.3)
    anderson = int(solution.result.steps)
    linear = [
        int(out.result.steps) if int(out.result.status) == 0 else 999
        for out in (run("linear", 300, alpha) for alpha in np.arange(0.1, 1.01, 0.1))
    ]
    density_map = model.solver.density_map
    start = density_map.project(solution.fixed, solution.frozen.density)
    shape, n = start.shape, start.numel()

    def residual(p: torch.Tensor) -> torch.Tensor:
        return density_map(solution.fixed, p, solution.result.level)[0] - p

    zero = residual(start)

    def action(x: np.ndarray) -> np.ndarray:
        return (zero - residual(start + torch.tensor(x).reshape(shape))).numpy().reshape(-1)

    operator = LinearOperator((n, n), action)
    for inner in range(1, 100):
        step, _ = gmres(operator, zero.numpy().reshape(-1), rtol=1e-14, restart=inner, maxiter=1)
        if residual(start + torch.tensor(step).reshape(shape)).abs().mean().item() <= tolerance:
            break
    return [anderson, inner + 1, min(linear)]


def main() -> None:
    """Print one row per kind of structure."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--every", type=int, default=10, help="use every n-th structure of each kind")
    parser.add_argument("--tolerance", type=float, default=1e-8)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    module, metadata = load_model(arguments.model)
    numbers = [atomic_numbers[s] for s in metadata["elements"]]
    kinds = defaultdict(list)
    for name in arguments.files:
        for atoms in read(name, ":"):
            kinds[atoms.info.get("kind", Path(name).stem)].append(atoms)
    print(f"mean residual {arguments.tolerance:g}, {metadata['dtype']}; median (largest)")
    print(
        f"{'kind':16} {'structures':>10} {'Anderson':>14} {'GMRES':>14} {'best linear':>14} {'1.2 GMRES + 2 kept':>20}"
    )
    with torch.jit.optimized_execution(False):
        for kind, structures in sorted(kinds.items()):
            rows = [
                counts(module, a, numbers, metadata["cutoff"], arguments.tolerance)
                for a in structures[:: arguments.every]
            ]
            columns = [f"{statistics.median(c):.0f} ({max(c):.0f})" for c in zip(*rows, strict=True)]
            kept = sum(a <= 1.2 * g + 2 for a, g, _ in rows)
            print(
                f"{kind:16} {len(rows):10d} {columns[0]:>14} {columns[1]:>14} {columns[2]:>14} {kept:>13d}/{len(rows)}"
            )


if __name__ == "__main__":
    main()
