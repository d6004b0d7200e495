"""``fixedpoint bands plot OUTPUT FILE ...``: bands of files against each other."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument("output", help="picture to write (.png, .pdf, .svg)")
    parser.add_argument("files", nargs="+", help="bands as in expBandStruct_X.par; the first is drawn as lines")
    parser.add_argument("--window", nargs=2, type=float, metavar="EV", help="lowest and highest energy shown")


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture."""
    from pathlib import Path

    from fp_potential.train.bands.full_bands import read_band_file
    from fp_potential.train.bands.pictures import files_figure, save

    sets = [(Path(name).stem, *read_band_file(Path(name))) for name in arguments.files]
    window = tuple(arguments.window) if arguments.window else None
    save(files_figure(sets, window), Path(arguments.output))
    print(f"wrote {arguments.output}: {', '.join(name for name, _, _ in sets)}")
    return 0
