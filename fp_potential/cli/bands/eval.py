"""``fixedpoint bands eval RUN``: bands of a fitted potential on any path, also of a crystal it has not seen."""

from __future__ import annotations

import argparse

from fp_potential.cli.bands.common import add_common, asked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    add_common(parser)
    parser.add_argument(
        "--output", metavar="FILE", help="bands as in expBandStruct_X.par (default: bands.dat in the run)"
    )
    parser.add_argument("--plot", metavar="FILE", help="a picture of them (.png, .pdf, .svg)")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="processes that share the k-points")


def run(arguments: argparse.Namespace) -> int:
    """Write the bands; says the gap."""
    from pathlib import Path

    from fp_potential.train.bands import full_bands as tools
    from fp_potential.train.bands.pictures import path_figure, save
    from fp_potential.train.bands.targets import edges, make_system

    found = asked(arguments)
    crystal, waves = found.hamiltonian.crystal, found.hamiltonian.basis
    energies = tools.full_bands(found.hamiltonian, found.potential, found.k, found.n_bands, arguments.workers)
    output = Path(arguments.output) if arguments.output else Path(arguments.folder) / "bands.dat"
    tools.write_bands(output, crystal, found.k, energies)
    name = "".join(crystal.kinds)
    print(f"{name}: {len(found.k)} k-points, {len(waves)} plane waves, {found.n_bands} bands; wrote {output}")
    valence = None
    if found.system.valence_band is not None or found.system.reference is not None:
        _, valence, _ = edges(make_system(found.system, "complete", found.potential.terms, False, None))
    for line in tools.gap_lines(energies, found.k, valence):
        print(line)
    if arguments.plot:
        length = tools.path_lengths(found.k.numpy(), tools.geometry(crystal))
        save(path_figure(length, energies, found.named, name), Path(arguments.plot))
        print(f"wrote {arguments.plot}")
    return 0
