<<<<<<< HEAD
"""``fixedpoint bands density RUN OUTPUT``: the charge density of some bands on a grid of the cell."""
=======
"""``fixedpoint bands density SOURCE OUTPUT``: the charge density of bands, as a cube or xsf file."""
>>>>>>> bands-files

from __future__ import annotations

import argparse

<<<<<<< HEAD
from fp_potential.cli.bands.common import add_common, asked
=======
from fp_potential.cli.bands.sources import add_source, source_and_systems
>>>>>>> bands-files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
<<<<<<< HEAD
    add_common(parser)
    parser.add_argument("output", help="file to write: .cube or .xsf")
    parser.add_argument("--bands", metavar="FIRST:LAST", help="bands, from 0, both included (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Write the density; says how many electrons it holds."""
    from pathlib import Path

    import torch

    from fp_potential.bands import solve
    from fp_potential.bands.density import charge_density, write_density

    found = asked(arguments)
    first, last = _range(arguments.bands, found.n_bands)
    states = solve(found.hamiltonian, found.potential, found.k, found.n_bands)
    occupations = torch.zeros(found.n_bands, dtype=torch.float64)
    occupations[first : last + 1] = 1.0
    density = charge_density(states, occupations)
    write_density(Path(arguments.output), found.hamiltonian.crystal, density)
    electrons = float(density.mean()) * found.hamiltonian.crystal.volume
    print(f"bands {first} … {last}, {len(found.k)} k-points: {electrons:.6f} electrons; wrote {arguments.output}")
    return 0


def _range(text: str | None, n_bands: int) -> tuple[int, int]:
    if text is None:
        return 0, n_bands - 1
    parts = text.split(":")
    if len(parts) > 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"--bands {text}: expected FIRST:LAST, numbers from 0")
    first, last = int(parts[0]), int(parts[-1])
    if not first <= last < n_bands:
        raise ValueError(f"--bands {text}: expected 0 <= FIRST <= LAST < {n_bands}")
    return first, last
=======
    add_source(parser)
    parser.add_argument("output", help="file to write: .cube (electrons/Bohr³) or .xsf (electrons/Å³)")
    parser.add_argument(
        "--bands", metavar="FIRST:LAST", help="bands (from 0, both counted) with one electron each; default: 0 to VBM"
    )
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--k", nargs=3, type=float, metavar="K", help="one k-point, fractional")
    group.add_argument("--mesh", nargs=3, type=int, metavar="N", help="Γ-centred mesh of k-points; default: 4 4 4")
    group.add_argument("--kpoints", metavar="FILE", help="k-points with weights: rows k1 k2 k3 [weight]")
    parser.add_argument("--grid", nargs=3, type=int, metavar="N", help="points of the cell; default: exact")
    parser.add_argument(
        "--valence_band", type=int, metavar="N", help="highest valence band (from 0), in the place of the system's"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the file; says how many electrons it holds."""
    from pathlib import Path

    from fp_potential.bands.density import FORMATS, write_density
    from fp_potential.train.bands.tools.density import density_of, points_of

    output = Path(arguments.output)
    if output.suffix not in FORMATS:
        raise ValueError(f"output '{output}': expected a name that ends in {' or '.join(FORMATS)}")
    source, chosen = source_and_systems(arguments)
    if len(chosen) != 1:
        names = ", ".join(system.name for system in chosen)
        raise ValueError(f"a density is that of one system: give --system NAME, of {names}")
    (system,) = source.systems(points_of(chosen, arguments.k, arguments.mesh, arguments.kpoints))
    found = density_of(system, source.potential, arguments.bands, arguments.valence_band, arguments.grid)
    write_density(output, system.hamiltonian.crystal, found.values)
    shape = " x ".join(map(str, found.values.shape))
    print(
        f"{system.data.name}: bands {found.first} to {found.last} at {len(system.k)} k-points, {shape} points, "
        f"{found.electrons:.6f} electrons"
    )
    print(f"wrote {output}")
    return 0
>>>>>>> bands-files
