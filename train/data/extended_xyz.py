"""Extended XYZ frame by frame, with a look at what ASE's reader takes without a word."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from ase import Atoms
from ase.data import atomic_numbers
from ase.io.extxyz import key_val_str_to_dict, read_xyz
from ase.io.formats import open_with_compression

from ..errors import InputError

#: kinds of doubt, as the summary over all frames calls them
TWICE = "have a key twice in their header, of which the last is used"
CASE = "have atoms whose names are not written as chemical symbols and are read as such"

#: what counts as one letter when a header is split: \\x, and all between quotes or brackets
_QUOTED = re.compile(r"""\\.|"[^"]*"|'[^']*'|\{[^}]*\}|\[[^]]*\]""")


def read_extended_xyz(path: str, doubt: Callable[[str, int, str], None]) -> Iterator[Atoms]:
    """The frames of a file, by ASE's reader on one at a time: it would scan the whole file, and end at an empty line.

    Args:
        path: may be compressed.
        doubt: receives the kind (``TWICE``, ``CASE``), the number of the frame and details.

    Raises:
        InputError: an atom whose name is no chemical symbol.
        Exception: whatever ASE raises of a malformed frame.
    """
    number = 0
    with open_with_compression(path, "r") as file:
        lines = iter(file)
        first = next(lines, "")
        while first.strip():
            # a count that is no number is ASE's to refuse
            count = int(first) if first.strip().isdigit() else 0
            text = [first, *(next(lines, "") for _ in range(count + 1))]
            if count and not text[-1]:
                raise EOFError(f"the file ends within a frame of {count} atoms")
            first = next(lines, "")
            while first.lstrip().startswith("VEC"):
                text.append(first)
                first = next(lines, "")
            if count:
                for key in keys_twice(text[1]):
                    doubt(TWICE, number, f"'{key}'")
                for atom, name in enumerate(_names(text[1], text[2 : count + 2])):
                    check_symbol(name, atom)
                    if name != name.capitalize():
                        doubt(CASE, number, f"atom {atom}: '{name}' as {name.capitalize()}")
            yield from read_xyz(io.StringIO("".join(text)), index=slice(None))
            number += 1
        if any(line.strip() for line in lines):
            raise ValueError("an empty line where a frame should begin")


def check_symbol(name: str, atom: int) -> None:
    """Refuse the name of an atom that is no chemical symbol; ASE, and so this, does not mind the case of letters.

    Raises:
        InputError: naming the atom.
    """
    if atomic_numbers.get(name.capitalize(), 0) > 0:
        return
    advice = {
        "X": "a dummy atom (ghost of a basis set, virtual site): remove it from the frame",
        "D": "write deuterium as H; energies do not depend on the mass",
        "T": "write tritium as H; energies do not depend on the mass",
    }.get(name.capitalize(), "write the element in the place of the label")
    raise InputError(f"atom {atom}: unknown chemical symbol '{name}'; {advice}")


def keys_twice(header: str) -> list[str]:
    """Keys that occur more than once in the second line of a frame, with the grammar of ASE's reader."""
    bare = re.sub(r"\s*=\s*", "=", _QUOTED.sub("_", header))
    keys = Counter(pair.partition("=")[0] for pair in bare.split())
    return [key for key, times in keys.items() if times > 1]


def _names(header: str, rows: Sequence[str]) -> Iterator[str]:
    """What stands in the column of the species, if the frame has one."""
    properties = key_val_str_to_dict(header).get("Properties", "species:S:1:pos:R:3")
    words = str(properties).split(":")
    if "species" not in words[::3] or "Z" in words[::3]:
        return
    place = words[::3].index("species")
    column = sum(map(int, words[2 : 3 * place : 3]))
    for row in rows:
        parts = row.split(None, column + 1)
        if len(parts) > column:
            yield parts[column]
