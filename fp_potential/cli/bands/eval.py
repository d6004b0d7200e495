"""``fixedpoint bands eval SOURCE``: bands on any k-points, their errors, gaps, deformation potentials and masses."""

from __future__ import annotations

import argparse

from fp_potential.cli.bands.sources import add_machine, add_points, add_source, at_points, source_and_systems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    add_source(parser)
    add_points(parser)
    add_machine(parser)
    parser.add_argument(
        "--valence_band", type=int, metavar="N", help="highest valence band (from 0), in the place of the system's"
    )
    parser.add_argument("--no_edges", action="store_true", help="no deformation potentials and masses of the edges")
    parser.add_argument(
        "--output", metavar="DIR", help="folder for <system>_bands.dat, <system>_kpoints.par and bands.pdf"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; write files if asked."""
    from fp_potential.text_tables import aligned
    from fp_potential.train.bands.tools.dense import evaluate
    from fp_potential.train.bands.tools.edges import edge_states, edges_of, edges_table, gap_line
    from fp_potential.train.bands.tools.files import write_results

    if arguments.processes < 1:
        raise ValueError(f"--processes {arguments.processes}: expected at least 1")
    source, chosen = source_and_systems(arguments)
    systems = source.systems(at_points(arguments, chosen))
    for system in systems:
        waves = system.hamiltonian.basis
        missing = f"; basis: published leaves {waves.missing} out" if waves.missing else ""
        print(f"{system.data.name}: {len(system.k)} k-points, {len(waves)} plane waves{missing}")
    results = evaluate(systems, source.potential, arguments.processes, arguments.symmetry)
    if any(system.data.reference is not None for system in systems):
        print("\n" + results.table())
    print()
    for result in results.systems:
        found = edges_of(result, arguments.valence_band)
        print(gap_line(result, found))
        if not arguments.no_edges:
            states = edge_states(result, source.potential, found)
            print(aligned(edges_table(result.system.data.name, found, states)) + "\n")
    if arguments.output is not None:
        for path in write_results(results, arguments.output):
            print(f"wrote {path}")
    return 0
