"""Makes the starting box: 62 waters, 3 Na+ and 3 Cl- (192 atoms), equilibrated classically.

    python make_box.py [--picoseconds 10] [--out box_start.data]

The classical force field of `classical.py` runs at 300 K with an O-H length near that of the reference
method; then `in.equilibrate` relaxes the box with the trained model and writes box.data, from which
`in.nacl_water` starts. Seeds are fixed: the same command gives the same file.  Needs ase, numpy, scipy.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.data import atomic_masses, atomic_numbers

from classical import WaterAndIons, solution_box, trajectory

HERE = Path(__file__).resolve().parent
ELEMENTS = ["H", "O", "Na", "Cl"]  # LAMMPS types 1, 2, 3, 4


def write_data(path: Path, atoms: Atoms) -> None:
    """A LAMMPS data file, units metal, atom_style charge; molecules stay whole across the boundary."""
    length = atoms.cell[0, 0]
    positions = atoms.positions.copy()
    symbols = atoms.get_chemical_symbols()
    images = np.floor(positions / length).astype(int)
    positions -= images * length
    lines = [
        f"{symbols.count('O')} H2O, {symbols.count('Na')} NaCl at 300 K (classical force field); units metal",
        "",
        f"{len(atoms)} atoms",
        f"{len(ELEMENTS)} atom types",
        "",
        *(f"0.0 {length:.10f} {axis}lo {axis}hi" for axis in "xyz"),
        "",
        "Masses",
        "",
        *(f"{i} {atomic_masses[atomic_numbers[e]]:.4f}  # {e}" for i, e in enumerate(ELEMENTS, 1)),
        "",
        "Atoms  # charge",
        "",
    ]
    for i, symbol in enumerate(symbols):
        x, y, z = positions[i]
        image = " ".join(str(n) for n in images[i])
        lines.append(f"{i + 1} {ELEMENTS.index(symbol) + 1} 0.0 {x:.8f} {y:.8f} {z:.8f} {image}")
    path.write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picoseconds", type=float, default=10.0, help="length of the classical run")
    parser.add_argument("--out", type=Path, default=HERE / "box_start.data", help="file to write")
    arguments = parser.parse_args()
    rng = np.random.default_rng(20261123)
    steps = int(arguments.picoseconds / 0.0005)
    force_field = WaterAndIons(bond_length=0.965, angle=108.0)
    # hot for the first fifth, so that the grid of the start is forgotten
    box = next(trajectory(solution_box(62, 3, rng), force_field, 450, 1, rng, steps // 5 - 1, 1))
    box = next(trajectory(box, force_field, 300, 1, rng, steps - steps // 5 - 1, 1))
    write_data(arguments.out, box)
    print(f"{arguments.out}: {len(box)} atoms, box length {box.cell[0, 0]:.4f} Angstrom")


if __name__ == "__main__":
    main()
