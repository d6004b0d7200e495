"""The walls of the house: which part of the code may import which, as ``docs/walls.yaml`` says.

``python docs/walls.py`` prints every import through a wall; ``tests/test_architecture.py`` fails for each of them, and
``docs/architecture.py`` draws the rooms and their imports and writes the table of ``docs/architecture.md``.

A room may import what stands in its ``may`` and ``outside``, and nothing else but the standard library. All imports
count: relative ones, those inside functions, and those by a constant name. `Room.floor` is the storey; imports go down,
so that there are no circles.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = "docs/architecture.md"
CODE = ("fp_potential", "train", "lammps_plugin")

#: what the loop is told, and how a batch is divided into structures: handed down by whoever asks for a solution
LOOP_SETTINGS = "fp_potential/scf/settings.py"
#: what torch.jit is used for outside of export.py: a mark, the type of a loaded archive, a switch of its executor
HARMLESS_JIT = ("unused", "ScriptModule", "optimized_execution")


@dataclass(frozen=True)
class Room:
    """A part of the code with a wall around it."""

    name: str
    what: str  #: what its files have in common
    wall: str  #: the wall in a sentence: what the room does not know
    why: str  #: what would be lost without the wall
    may: tuple[str, ...] = ()  #: rooms it may import, or single files of them
    outside: tuple[str, ...] = ()  #: third-party packages; for C++ whose headers
    files: tuple[str, ...] = ()  #: files and folders; none: the folder of its name
    floor: int = 0  #: storey in the picture: above all that it imports
    left: float = 0.0  #: place in the picture, in columns
    right: float = 0.0
    title: str = ""  #: in the picture; none: the name
    label: str = ""  #: in the picture, a few words

    @property
    def places(self) -> tuple[str, ...]:
        """Its files and folders."""
        return self.files or (self.name,)

    @property
    def anchor(self) -> str:
        """Where the page says more about this wall."""
        return f"{PAGE}#{'the-plugin' if self.name.startswith('lammps_plugin/') else 'the-walls'}"


def _rooms() -> Iterator[Room]:
    table = yaml.safe_load((Path(__file__).parent / "walls.yaml").read_text(encoding="utf-8"))
    for name, entry in table.items():
        places = {key: tuple(entry.pop(key, ())) for key in ("may", "outside", "files")}
        yield Room(name, **places, **entry.pop("picture", {}), **entry)


ROOMS = tuple(_rooms())
BY_NAME = {room.name: room for room in ROOMS}


class Import(NamedTuple):
    """An import statement or include directive."""

    file: str  #: path in the repository
    line: int
    target: str  #: path in the repository, or the name of a package or of a library's headers
    inside: bool  #: of this repository
    text: str  #: as written


class Breach(NamedTuple):
    """An import through a wall."""

    found: Import
    room: Room
    what: str

    def __str__(self) -> str:
        place = f"{self.found.file}:{self.found.line}"
        return f"{self.room.wall}: {place} {self.what}; {self.room.why} ({self.room.anchor})"


def room_of(path: str) -> Room | None:
    """The room a file belongs to: the innermost one that holds it."""
    found, length = None, -1
    for room in ROOMS:
        for place in room.places:
            if (path == place or path.startswith(place + "/")) and len(place) > length:
                found, length = room, len(place)
    return found


def source_files() -> list[str]:
    """All files of the house."""
    endings = {".py", ".cpp", ".h", ".cu", ".cuh"}
    found = [path for name in CODE for path in (ROOT / name).rglob("*") if path.suffix in endings]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def _file_of(parts: list[str]) -> str:
    """The file of a dotted name, which may go on with names inside of that file."""
    parts = parts[1:] if parts[:2] == ["fp_potential", "train"] else parts
    while parts:
        path = "/".join(parts)
        if (ROOT / path).is_dir():
            return f"{path}/__init__.py"
        if (ROOT / f"{path}.py").is_file():
            return f"{path}.py"
        parts = parts[:-1]
    return ""


def _is_torch_jit(node: ast.expr) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "jit" and ast.unparse(node) == "torch.jit"


def _by_name(node: ast.Call) -> str:
    """The module that ``import_module`` or ``__import__`` of a constant imports; an empty text for other calls."""
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called not in ("import_module", "__import__") or not node.args or not isinstance(node.args[0], ast.Constant):
        return ""
    return str(node.args[0].value)


def imports_of_python(path: str, text: str) -> Iterator[Import]:
    """Every import of a Python file, at any depth, and every use of torch.jit as one of the package ``torch.jit``."""
    package = ["fp_potential", *path.split("/")[:-1]] if path.startswith("train/") else path.split("/")[:-1]
    for node in ast.walk(ast.parse(text)):
        names: list[list[str]] = []
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) + 1 - node.level] if node.level else []
            start = start + (node.module.split(".") if node.module else [])
            names = [[*start, alias.name] for alias in node.names]
        elif isinstance(node, ast.Attribute) and _is_torch_jit(node.value):
            names = [["torch", "jit", node.attr]]
        elif isinstance(node, ast.Call) and (by_name := _by_name(node)):
            level = len(by_name) - len(by_name.lstrip("."))
            start = package[: len(package) + 1 - level] if level else []
            names = [[*start, *by_name.lstrip(".").split(".")]]
        for parts in names:
            written = ".".join(parts)
            if parts[0] in ("fp_potential", "train"):
                yield Import(path, node.lineno, _file_of(parts), True, written)
            elif parts[:2] == ["torch", "jit"]:
                if len(parts) < 3 or parts[2] not in HARMLESS_JIT:
                    yield Import(path, node.lineno, "torch.jit", False, written)
            elif parts[0] not in sys.stdlib_module_names:
                yield Import(path, node.lineno, parts[0], False, written)


def includes_of(path: str, text: str) -> Iterator[Import]:
    """Every include of a C++ file but those of the standard library and the operating system."""
    for match in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', text, re.MULTILINE):
        line = text.count("\n", 0, match.start()) + 1
        name = match.group(2)
        top = name.split("/")[0]
        beside = (ROOT / path).parent.joinpath(name).resolve()
        if match.group(1) == '"' and beside.is_relative_to(ROOT) and beside.is_file():
            yield Import(path, line, beside.relative_to(ROOT).as_posix(), True, name)
        elif f"lammps_plugin/{top}" in BY_NAME:
            yield Import(path, line, f"lammps_plugin/{name}", True, name)
        elif top in ("torch", "ATen", "c10", "caffe2"):
            yield Import(path, line, "torch", False, name)
        elif name == "mpi.h":
            yield Import(path, line, "MPI", False, name)
        elif name in ("json.h", "json_fwd.h"):
            yield Import(path, line, "json.h", False, name)
        elif match.group(1) == '"':
            yield Import(path, line, "LAMMPS", False, name)


@cache
def imports() -> tuple[Import, ...]:
    """Every import of the house."""
    found: list[Import] = []
    for path in source_files():
        read = imports_of_python if path.endswith(".py") else includes_of
        found += read(path, (ROOT / path).read_text(encoding="utf-8"))
    return tuple(found)


def breach(found: Import) -> Breach | None:
    """The wall that an import goes through; None if there is none."""
    room = room_of(found.file)
    if room is None:
        return None  # said by `homeless`
    if not found.inside:
        allowed = room.outside + (("json.h",) if "LAMMPS" in room.outside else ())
        if found.target == "torch.jit":
            allowed = ("torch.jit",) if room.name == "fp_potential/export.py" else ()
            room = BY_NAME["fp_potential/export.py"]
        of = "" if found.text.startswith(found.target) else f" of {found.target}"
        return None if found.target in allowed else Breach(found, room, f"imports {found.text}{of}")
    target = room_of(found.target)
    if target is None:
        return Breach(found, room, f"imports {found.text}, which is in no room")
    if target is room or target.name in room.may or found.target in room.may:
        return None
    if any(found.target.startswith(place + "/") for place in room.may if place not in BY_NAME):
        return None
    return Breach(found, room, f"imports {found.target}")


def breaches(python: bool) -> list[str]:
    """All imports through walls, of Python or of C++, in a sentence each."""
    found = [breach(item) for item in imports() if item.file.endswith(".py") == python]
    return list(dict.fromkeys(str(wall) for wall in found if wall))


def homeless(python: bool) -> list[str]:
    """Files that are in no room."""
    paths = [path for path in source_files() if path.endswith(".py") == python and room_of(path) is None]
    return [f"every file is in a room, {path} is in none; add it to the table, docs/walls.yaml" for path in paths]


def circles() -> list[str]:
    """Rooms that may import one that is not below them; the walls allow no circle where there are none."""
    found = []
    for room in ROOMS:
        for name in room.may:
            target = BY_NAME.get(name) or room_of(name)
            if target is None:
                found.append(f"{room.name}: `may` names {name}, which is in no room")
            elif target.name != "package" and target.floor >= room.floor:
                found.append(f"{room.name} is on floor {room.floor} and may import {name} on floor {target.floor}")
    return found


def main() -> int:
    found = [line for python in (True, False) for line in (*homeless(python), *breaches(python))] + circles()
    print("\n".join(found) if found else f"{len(imports())} imports, none through a wall")
    return 1 if found else 0


if __name__ == "__main__":
    raise SystemExit(main())
