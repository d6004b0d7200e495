"""Does water insulate? What charges do in fields, and what the loop makes of it, for model archives side by side.

    python benchmarks/insulators.py model.pt other.pt [--waters 64] [--atoms 24576] [--parts chain slab far loop]

- chain: polarizability per molecule, e Å²/V, along n waters 3.2 Å apart, from the dipole in fields of ±0.02 V/Å. That
  of an insulator tends to a limit, that of a metal grows with the square of n.
- slab: layers of waters, periodic in the plane, in 0.05 V/Å across: the largest charge that the field moves through a
  plane between two layers, e.
- far: charge that the field of 0.1 V/Å moves between two waters 20 and 40 Å apart, e.
- spectrum: the most negative eigenvalue of the SCF map in boxes of water 12 × 12 × {12, 37, 149} Å.
- loop: applications of the map to a mean residual of 1e-6 from the local guess in boxes of 192 and more atoms.

Loops of the first three run to 1e-10.  Waters are rigid; those in a line are alike, others are turned at random, with
a seed that does not change.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from fp_potential.density.any_loops import AnyLoops
from fp_potential.density.jacobian import jacobian_spectrum
from fp_potential.export import load_model
from fp_potential.graph import graph_from_atoms
from fp_potential.periodicity import field_origin
from fp_potential.scf.settings import LoopSettings, Start

from common import water  # isort: skip

CHAIN_FIELD, SLAB_FIELD, FAR_FIELD = 0.02, 0.05, 0.1  # V/Å
CHAIN_DISTANCE = 3.2  # Å
LONG_BOXES = (4, 12, 48)  # molecules along the longest edge
TIGHT = LoopSettings(300, 1e-10, 0.3, "anderson")
LOOSE = LoopSettings(300, 1e-6, 0.3, "anderson")


class Archive:
    """An archive of any age, in double precision or not."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self.module, metadata = load_model(path)
        self.model = self.module.model
        self.elements = [atomic_numbers[symbol] for symbol in metadata["elements"]]
        self.cutoff, self.dtype = float(metadata["cutoff"]), getattr(torch, metadata["dtype"])
        self.loops = AnyLoops(self.model)

    def _arguments(self, atoms: Atoms, field: np.ndarray | None) -> tuple:
        given = {} if field is None else {"external_field": -np.asarray(field)}
        origin = field_origin(atoms.cell.array, atoms.pbc)
        graph = graph_from_atoms(atoms, self.elements, self.cutoff, self.dtype, field_origin=origin, **given)
        return graph, Start(torch.zeros(0, 4, dtype=self.dtype), torch.zeros(0, dtype=self.dtype))

    def solved(self, atoms: Atoms, field: np.ndarray | None = None, loop: LoopSettings = TIGHT) -> dict:
        """Outputs for ``atoms`` in the physical field ``field``, V/Å, without forces."""
        if self.dtype == torch.float32:
            loop = loop._replace(scf_tolerance=max(loop.scf_tolerance, 1e-6))
        graph, start = self._arguments(atoms, field)
        with torch.jit.optimized_execution(False):
            out = self.loops.evaluate(graph, loop, start, True, False, False)
        if int(out["status"][0]):
            raise SystemExit(f"{self.name}: no solution for {atoms.get_chemical_formula()} (status {out['status']})")
        return out

    def smallest_eigenvalue(self, atoms: Atoms) -> float:
        """Of the Jacobian of the SCF map at constant charge."""
        graph, start = self._arguments(atoms, None)
        with torch.jit.optimized_execution(False):
            end = self.loops.solve(graph, LOOSE, start, True)
            return jacobian_spectrum(self.model.solver.density_map, end.fixed).smallest


def in_line(n: int, distance: float) -> Atoms:
    """Waters in a line along x, turned alike, in the vacuum."""
    one = water((1, 1, 1))
    atoms = Atoms()
    for k in range(n):
        atoms += Atoms(one.numbers, one.positions + [k * distance, 0.0, 0.0])
    return atoms


def molecular_charges(out: dict) -> np.ndarray:
    """Charges of waters, e."""
    return out["density"][:, 0].double().numpy().reshape(-1, 3).sum(1)


def chain(archive: Archive, n: int) -> float:
    """Polarizability per molecule along a chain."""
    field = np.array([CHAIN_FIELD, 0.0, 0.0])
    atoms = in_line(n, CHAIN_DISTANCE)
    up, down = (float(archive.solved(atoms, sign * field)["dipole"][0, 0]) for sign in (1, -1))
    return (up - down) / (2 * CHAIN_FIELD) / n


def slab(archive: Archive) -> float:
    """Largest charge through a plane between layers."""
    grid = (3, 3, 6)
    atoms = water(grid)
    atoms.pbc = [True, True, False]
    atoms.cell[2] = 0.0
    field = np.array([0.0, 0.0, SLAB_FIELD])
    change = molecular_charges(archive.solved(atoms, field)) - molecular_charges(archive.solved(atoms))
    layers = change.reshape(grid).sum((0, 1))
    return float(np.abs(np.cumsum(layers)[:-1]).max())


def far(archive: Archive, distance: float) -> float:
    """Charge that moves from one of two waters to the other."""
    atoms = in_line(2, distance)
    with_field = archive.solved(atoms, np.array([FAR_FIELD, 0.0, 0.0]))
    return float(np.abs(molecular_charges(with_field) - molecular_charges(archive.solved(atoms))).max())


def grid_of(atoms: int) -> tuple[int, int, int]:
    """A grid of molecules with edges within a factor of two of each other; exactly ``atoms`` where it is 192 · 2^k."""
    grid, axis = [4, 4, 4], 2
    while 3 * int(np.prod(grid)) < atoms:
        grid[axis] *= 2
        axis = (axis - 1) % 3
    return grid[0], grid[1], grid[2]


def rows_of(options: argparse.Namespace) -> dict[str, Callable[[Archive], float]]:
    """What is measured, by name."""
    lengths = [n for n in (1, 2, 4, 8, 16, 32, 64, 128) if n <= options.waters]
    rows: dict[str, Callable[[Archive], float]] = {}
    if "chain" in options.parts:
        rows |= {f"polarizability per molecule, chain of {n}": lambda a, n=n: chain(a, n) for n in lengths}
    if "slab" in options.parts:
        rows["charge through a plane between layers, e"] = slab
    if "far" in options.parts:
        rows |= {f"charge between waters {d:g} Å apart, e": lambda a, d=d: far(a, d) for d in (20.0, 40.0)}
    if "spectrum" in options.parts:
        for n in LONG_BOXES:
            rows[f"smallest eigenvalue, 12 × 12 × {3.106 * n:.0f} Å"] = lambda a, n=n: a.smallest_eigenvalue(
                water((4, 4, n))
            )
    if "loop" in options.parts:
        for n in dict.fromkeys((192, options.atoms)):
            rows[f"applications to 1e-6, {n} atoms"] = lambda a, n=n: float(
                a.solved(water(grid_of(n)), None, LOOSE)["scf_steps"][0]
            )
    return rows


def main() -> None:
    """Print a row per measurement, a column per archive."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--waters", type=int, default=64, help="longest chain")
    parser.add_argument("--atoms", type=int, default=24576, help="of the larger box")
    parts = ["chain", "slab", "far", "spectrum", "loop"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    options = parser.parse_args()
    archives = [Archive(path) for path in options.models]
    print(" " * 46 + "".join(f"{archive.name:>16}" for archive in archives))
    for name, measure in rows_of(options).items():
        print(f"{name:<46}" + "".join(f"{measure(archive):16.4g}" for archive in archives), flush=True)


if __name__ == "__main__":
    main()
