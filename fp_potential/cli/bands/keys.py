"""``fixedpoint bands keys [NAME]``: the keys of published settings files, and what they are here."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the tool."""
    parser.add_argument("name", nargs="?", help="one key")
    parser.add_argument("--markdown", action="store_true", help="the tables of docs/bands.md")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, or one row of it."""
    from fp_potential.train.bands.bundle.keys import TABLES, answer, markdown
    from fp_potential.train.errors import nearest

    if arguments.markdown:
        print(markdown(), end="")
        return 0
    known = {name for table in TABLES.values() for name in table}
    if arguments.name is not None and arguments.name not in known:
        raise ValueError(f"no key '{arguments.name}'; {nearest(arguments.name, known)}")
    for file, table in TABLES.items():
        for name, key in table.items():
            if arguments.name in (None, name):
                print(f"{file}  {name}: {answer(key)}")
    return 0
