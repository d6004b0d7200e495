"""Arguments that several tools share: where the pseudopotential comes from, of which crystals, at which k-points."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fp_potential.train.bands.data import BandSystem
    from fp_potential.train.bands.tools.source import Source


def add_source(parser: argparse.ArgumentParser) -> None:
    """The pseudopotential, and the crystals."""
    parser.add_argument(
        "source", help="run folder, checkpoint (.pt), published bundle (folder) or training file (.yaml)"
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="parameters in the place of the source's: another run, final_pot.pth, best_pot.pth, init_PPmodel.pth",
    )
    parser.add_argument("--system", action="append", default=[], metavar="NAME", help="only this one; again for more")
    parser.add_argument(
        "--on", metavar="MATERIAL", help="systems of another bundle, training file or run, in the place of the source's"
    )
    parser.add_argument(
        "--structure", metavar="FILE", help="a crystal without a reference: what ASE reads, or a system_X.par"
    )
    parser.add_argument("--max_ke", type=float, metavar="HARTREE", help="cutoff of --structure; default: the systems'")
    parser.add_argument("--n_bands", type=int, metavar="N", help="bands of --structure; default: the systems'")


def add_points(parser: argparse.ArgumentParser) -> None:
    """The k-points."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--path",
        metavar="LETTERS",
        help="path by special points, GXWKGL (a comma is a jump), or auto: the lattice's",
    )
    group.add_argument("--kpoints", metavar="FILE", help="fractional k-points: rows k1 k2 k3 [weight]")
    group.add_argument("--refine", type=int, metavar="N", help="the system's own points with N more between neighbours")
    parser.add_argument("--points", type=int, default=100, metavar="N", help="number of k-points of --path")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Processes and symmetry."""
    parser.add_argument("--processes", type=int, default=1, metavar="N", help="processes that share the k-points")
    parser.add_argument(
        "--symmetry", action="store_true", help="solve points that the crystal's symmetry makes equal once (spglib)"
    )


def source_and_systems(arguments: argparse.Namespace) -> tuple[Source, list[BandSystem]]:
    """The pseudopotential, and the systems that were asked for; prints where the first comes from."""
    from pathlib import Path

    from fp_potential.train.bands.structures import geometry_of, read_structure
    from fp_potential.train.bands.tools.source import load_material, load_source, material_of

    if arguments.on is not None and arguments.structure is not None:
        raise ValueError("--on and --structure are two crystals: give one of them")
    if arguments.structure is None and (arguments.max_ke is not None or arguments.n_bands is not None):
        raise ValueError("--max_ke and --n_bands belong to --structure; the systems of a source have their own")
    source = load_source(arguments.source, arguments.weights)
    for line in source.lines:
        print(line)
    if arguments.structure is not None:
        geometry = geometry_of(read_structure(Path(arguments.structure)))
        material = (material_of(geometry, source, arguments.max_ke, arguments.n_bands),)
        return source, source.chosen(arguments.system, material)
    if arguments.on is not None:
        return source, source.chosen(arguments.system, load_material(arguments.on))
    return source, source.chosen(arguments.system)


def at_points(arguments: argparse.Namespace, systems: list[BandSystem]) -> list[BandSystem]:
    """The systems at the k-points that were asked for."""
    from fp_potential.train.bands.tools.paths import chosen_points

    if arguments.points < 2:
        raise ValueError(f"--points {arguments.points}: expected at least 2")
    points, refine = arguments.points, arguments.refine
    return [chosen_points(system, arguments.path, points, arguments.kpoints, refine) for system in systems]
