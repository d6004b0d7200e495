"""``fixedpoint bands primitive STRUCTURE OUTPUT``: the primitive cell of a crystal."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument("structure", help="a file that ASE reads, or a published system_X.par")
    parser.add_argument("output", help="file to write: a published system_X.par, or what ASE writes by its name")
    parser.add_argument("--tolerance", type=float, default=1e-5, metavar="Å", help="of the symmetry's positions")


def run(arguments: argparse.Namespace) -> int:
    """Find and write it; says how the cells compare."""
    from pathlib import Path

    from fp_potential.train.bands.structures import primitive, read_structure, write_structure

    cell = read_structure(Path(arguments.structure))
    found, symmetry = primitive(cell, arguments.tolerance)
    write_structure(Path(arguments.output), found)
    before, after = len(cell.atoms), len(found.atoms)
    print(f"{symmetry}: {before} atoms, {after} in the primitive cell ({before // after} times as large)")
    print(f"wrote {arguments.output}")
    return 0
