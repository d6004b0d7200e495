"""``fixedpoint bands decompose RUN``: kinetic, local, non-local and spin-orbit parts of each band's energy."""

from __future__ import annotations

import argparse

from fp_potential.cli.bands.common import add_common, asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
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
    return 0
