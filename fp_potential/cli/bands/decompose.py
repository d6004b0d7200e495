"""``fixedpoint bands decompose SOURCE``: what T, V_loc, V_nl and V_so contribute to the bands."""

from __future__ import annotations

import argparse

from fp_potential.cli.bands.sources import add_points, add_source, at_points, source_and_systems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
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
    from fp_potential.text_tables import aligned
    from fp_potential.train.bands.tools.decompose import decomposed, terms_table, write_terms

    source, chosen = source_and_systems(arguments)
    for system in source.systems(at_points(arguments, chosen)):
        found = decomposed(system, source.potential, arguments.valence_band)
        place = found.edges.valence_k if arguments.at is None else arguments.at
        print("\n" + aligned(terms_table(found, place)))
        if arguments.output is not None:
            for path in write_terms(found, arguments.output):
                print(f"wrote {path}")
    return 0
