"""``fixedpoint prepare``: reference data once into a form that is read frame by frame."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the command."""
    parser.add_argument(
        "source",
        nargs="+",
        help="a training file (YAML), or data files; then section.option=value set over options",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to write; name it in data.files")
    parser.add_argument(
        "--cutoff", type=float, metavar="Å", help="of the neighbour lists; default: model.r_max of the training file"
    )
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        metavar="NAME=KEY",
        help="for data files: key of a label, energy=REF_energy (NAME as in data.keys)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a prepared set in DIR")


def run(arguments: argparse.Namespace) -> int:
    """Read, write, and say what was written."""
    from rich.console import Console

    from fp_potential.cli.info import prepared_folder, text
    from fp_potential.train.data.prepared_writer import prepare
    from fp_potential.train.potential.statistics import collect

    options, cutoff = _options(arguments)
    if cutoff is None or not cutoff > 0:
        raise ValueError(f"--cutoff {cutoff}: data files need a cutoff above zero, that of the model (model.r_max, Å)")
    prepare(options, cutoff, arguments.output, collect, arguments.overwrite, Console())
    print(text(prepared_folder(arguments.output)))
    print(f"\nnext: data.files: [{Path(arguments.output).absolute()}] in the training file")
    return 0


def _options(arguments: argparse.Namespace) -> tuple[Any, float | None]:
    """Section ``data`` and the cutoff."""
    from fp_potential.train.config.load import apply_override
    from fp_potential.train.config.schema import validate
    from fp_potential.train.data.options import DataOptions
    from fp_potential.train.potential.config import load_config

    sources = [word for word in arguments.source if not _is_override(word)]
    overrides = [word for word in arguments.source if _is_override(word)]
    files = [name for name in sources if name.endswith((".yaml", ".yml"))]
    if files:
        if len(sources) > 1 or arguments.key:
            raise ValueError(f"give either one training file or data files with --key, not both: {' '.join(sources)}")
        config = load_config(files[0], overrides)
        return config.data, arguments.cutoff or config.model.r_max
    keys = dict(pair.partition("=")[::2] for pair in arguments.key)
    content: dict[str, Any] = {"data": {"files": sources, "keys": keys}}
    for override in overrides:
        apply_override(content, override)
    return validate(content["data"], DataOptions, "fixedpoint prepare"), arguments.cutoff


def _is_override(word: str) -> bool:
    return "=" in word and "://" not in word and not Path(word).exists()
