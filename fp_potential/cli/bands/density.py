"""``fixedpoint bands density SOURCE OUTPUT``: the charge density of bands, as a cube or xsf file."""

from __future__ import annotations

import argparse

from fp_potential.cli.bands.sources import add_source, source_and_systems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
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
