<<<<<<< HEAD
"""``fixedpoint bands decompose RUN``: kinetic, local, non-local and spin-orbit parts of each band's energy."""
=======
"""``fixedpoint bands decompose SOURCE``: what T, V_loc, V_nl and V_so contribute to the bands."""
>>>>>>> bands-files

from __future__ import annotations

import argparse

<<<<<<< HEAD
from fp_potential.cli.bands.common import add_common, asked
=======
from fp_potential.cli.bands.sources import add_points, add_source, at_points, source_and_systems
>>>>>>> bands-files


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
<<<<<<< HEAD
    add_common(parser)
    parser.add_argument("--output", metavar="FILE", help="table (default: decomposition.dat in the run)")


def run(arguments: argparse.Namespace) -> int:
    """Write a row for each k-point and band: k, band, E, T, V_loc, V_nl, V_so, eV."""
    from pathlib import Path

    from fp_potential.bands import HARTREE, solve
    from fp_potential.bands.decomposition import decompose
    from fp_potential.files import write_whole

    found = asked(arguments)
    states = solve(found.hamiltonian, found.potential, found.k, found.n_bands)
    terms = decompose(states, found.potential)
    parts = [HARTREE * getattr(terms, name) for name in ("kinetic", "local", "nonlocal_", "spin_orbit")]
    energies = HARTREE * states.listed(states.energies)
    lines = ["# k band E T V_loc V_nl V_so [eV]"]
    for k in range(len(found.k)):
        for band in range(found.n_bands):
            values = [float(energies[k, band]), *(float(part[k, band]) for part in parts)]
            lines.append(f"{k} {band} " + " ".join(f"{value:.8f}" for value in values))
    output = Path(arguments.output) if arguments.output else Path(arguments.folder) / "decomposition.dat"
    write_whole(output, "\n".join(lines) + "\n")
    print(f"wrote {output}: {len(lines) - 1} rows")
=======
    add_source(parser)
    add_points(parser)
    parser.add_argument(
        "--at", type=int, metavar="N", help="number of the k-point (from 0) of the table; default: of the valence edge"
    )
    parser.add_argument(
        "--valence_band", type=int, metavar="N", help="highest valence band (from 0), in the place of the system's"
    )
    parser.add_argument("--output", metavar="DIR", help="folder for <system>_terms.dat and <system>_terms.pdf")


def run(arguments: argparse.Namespace) -> int:
    """Print a table of each system; write all k-points and a picture if asked."""
    from fp_potential.train.bands.evaluation import aligned
    from fp_potential.train.bands.tools.decompose import decomposed, terms_table, write_terms

    source, chosen = source_and_systems(arguments)
    for system in source.systems(at_points(arguments, chosen)):
        found = decomposed(system, source.potential, arguments.valence_band)
        place = found.edges.valence_k if arguments.at is None else arguments.at
        print("\n" + "\n".join(aligned(terms_table(found, place))))
        if arguments.output is not None:
            for path in write_terms(found, arguments.output):
                print(f"wrote {path}")
>>>>>>> bands-files
    return 0
