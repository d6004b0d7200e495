"""Structures out of files: extended XYZ frame by frame, ASE databases row by row, and whatever else ASE reads.

What a file holds beside positions and cell ends up in ``atoms.info``, ``atoms.arrays`` or the results of
``atoms.calc``, as ASE names it; ``data.keys`` says later what is what.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.db import connect
from ase.io import iread

from ..errors import InputError
from .extended_xyz import read_extended_xyz
from .options import is_address

#: receives what deserves a look in a frame: (kind of the doubt, number of the frame, details)
Doubt = Callable[[str, int, str], None]

_COMPRESSED = (".gz", ".bz2", ".xz")
_EXTENDED_XYZ = (".xyz", ".extxyz")
_DATABASES = (".db", ".json", ".aselmdb")

#: rows of a database that are in memory at a time
_ROWS = 500


def expand(names: Sequence[str]) -> list[str]:
    """Files, folders and addresses that ``names`` and their globs stand for, each once.

    Raises:
        InputError: a name that nothing matches.
    """
    paths: list[str] = []
    for name in map(str, names):
        exact = is_address(name) or Path(name).exists()
        found = [name] if exact else [path for path in sorted(glob.glob(name, recursive=True)) if _is_source(path)]
        if not found:
            raise InputError(f"data file '{name}' does not exist (or no file matches)")
        paths += found
    return list(dict.fromkeys(paths))


def _is_source(path: str) -> bool:
    """Whether what a glob found is a file or a prepared set, not any other folder."""
    return not Path(path).is_dir() or (Path(path) / "manifest.json").is_file()


def short_name(path: str) -> str:
    """The name of a source in messages."""
    return path.rpartition("@")[2] if is_address(path) else Path(path).name


def _no_doubt(kind: str, number: int, details: str) -> None:
    """Nobody wants to know."""


def structures(path: str, doubt: Doubt = _no_doubt) -> Iterator[Atoms]:
    """The structures of one file or database, one at a time.

    Args:
        path: of the file, or the address of a database.
        doubt: receives what deserves a look in the form of the file (`read_extended_xyz`).

    Raises:
        InputError: nothing in it, or not readable; says after how many frames.
    """
    number = 0
    try:
        for atoms in _reader(path, doubt):
            yield atoms
            number += 1
    except InputError as error:
        raise InputError(f"{path}, frame {number}: {error}") from error
    except Exception as error:
        place = f"after {number} good frames" if number else "at its first frame"
        text = f"{path}: not readable as {_format(path)} {place}: {type(error).__name__}: {error}"
        if isinstance(error, KeyError) and _format(path) == "a format of ASE":
            text += " (if that is the name of an atom: chemical symbols are needed)"
        raise InputError(text + _EXPECTED[_format(path)]) from error
    if number == 0:
        raise InputError(f"{path}: holds no frames; expected {_format(path)}")


_EXPECTED = {
    "extended XYZ": (
        "; expected a line with the number of atoms, a line of key=value pairs with Properties=..., and one line per "
        "atom"
    ),
    "an ASE database": "",
    "a format of ASE": "; expected extended XYZ (.xyz, .extxyz), an ASE database (.db, .json) or a file that ase reads",
}


def _format(path: str) -> str:
    name = path.lower()
    if is_address(name) or name.endswith(_DATABASES):
        return "an ASE database"
    return "extended XYZ" if _uncompressed(name).endswith(_EXTENDED_XYZ) else "a format of ASE"


def _reader(path: str, doubt: Doubt) -> Iterator[Atoms]:
    kind = _format(path)
    if kind == "an ASE database":
        return _database(path)
    if kind == "extended XYZ":
        return read_extended_xyz(path, doubt)
    return iread(path, index=":", do_not_split_by_at_sign=True)


def _uncompressed(name: str) -> str:
    for suffix in _COMPRESSED:
        name = name.removesuffix(suffix)
    return name


def _database(path: str) -> Iterator[Atoms]:
    database = connect(path)
    if path.lower().endswith(".json"):  # read as a whole for every query
        yield from map(_row_atoms, database.select(sort="id"))
        return
    last = 0
    while True:
        rows = list(database.select(f"id>{last}", sort="id", limit=_ROWS))
        if not rows:
            return
        last = rows[-1].id
        yield from map(_row_atoms, rows)


def _row_atoms(row) -> Atoms:
    """Structure of a row; its key-value pairs and, over them, its data are the info."""
    atoms = row.toatoms()
    data = {name: np.asarray(value) if isinstance(value, list) else value for name, value in row.data.items()}
    atoms.info = {**row.key_value_pairs, **data}
    return atoms
