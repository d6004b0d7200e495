"""``fixedpoint bands plot FILES --output PICTURE``: bands, potentials or costs from files."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument(
        "files",
        nargs="+",
        help="tables of one kind: bands (expBandStruct_X.par, *_bands.dat), potentials (*_pot.dat, *_qSpace_pot.dat) "
        "or costs (training_cost.dat)",
    )
    parser.add_argument("--output", required=True, metavar="PICTURE", help="picture to write: .pdf, .png or .svg")
    parser.add_argument(
        "--kind", choices=["bands", "reciprocal", "real", "cost"], help="what the files hold; default: by their names"
    )
    parser.add_argument("--window", nargs=2, type=float, metavar="EV", help="lowest and highest value shown")
    parser.add_argument("--largest", type=float, metavar="X", help="largest q (1/Bohr) or r (Bohr) shown")


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture."""
    from pathlib import Path

    from fp_potential.train.bands.pictures import save
    from fp_potential.train.bands.tools.files import read_table, tables_figure

    output = Path(arguments.output)
    if output.suffix not in (".pdf", ".png", ".svg"):
        raise ValueError(f"--output {output}: expected a name that ends in .pdf, .png or .svg")
    tables = [read_table(Path(name), arguments.kind) for name in arguments.files]
    window = None if arguments.window is None else (arguments.window[0], arguments.window[1])
    save(tables_figure(tables, window, arguments.largest), output)
    print(f"wrote {output}")
    return 0
