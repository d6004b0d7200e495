"""The walls of the house: which part of the code may import which. The one place where this stands.

`ROOMS` is the table. ``python docs/walls.py`` prints every import that goes through a wall;
``tests/test_architecture.py`` fails for each, and ``docs/architecture.py`` draws the rooms and their imports and writes
the table of ``docs/architecture.md``.

A room may import what stands in its ``may`` and ``outside``, and nothing else but the standard library. All imports
count, relative ones and those inside functions too. `Room.floor` is the storey; imports go down, so that there are no
circles.
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
    base = ("foundations",)
    yield Room(
        "package",
        "`__version__`, the public classes when they are first asked for, and where the compiled plugin lies",
        "the package itself imports nothing but the standard library",
        "LAMMPS loads it on every rank, and for users who never ask for this pair style",
        files=("fp_potential/__init__.py", "fp_potential/_plugin_path.py", "fp_potential/_source_tree.py"),
    )
    yield Room(
        "foundations",
        "units, lattice, periodicity, coupling coefficients, small nets, graphs, communication, whole files",
        "the foundations know nothing of the house",
        "everything stands on them",
        may=("package",),
        outside=("torch", "numpy", "ase", "e3nn", "vesin"),
        files=tuple(
            f"fp_potential/{name}.py"
            for name in ("units", "lattice", "periodicity", "coupling", "nets", "graph", "communication", "files")
        ),
        left=2,
        right=9,
        label="units · lattice · periodicity · coupling · nets · graph · communication · files",
    )
    yield Room(
        "fp_potential/options",
        "typed options of model, SCF and long-range sums; their descriptions are the manual",
        "options know no torch",
        "a configuration is read, checked and explained at once, without loading what it configures",
        outside=("pydantic", "pydantic_core"),
        floor=1,
        left=3.6,
        right=6.9,
        title="options/",
        label="typed; their descriptions are the manual",
    )
    yield Room(
        "fp_potential/lammps.py",
        "LAMMPS instances in Python scripts that share MPI and operators with the model",
        "lammps.py knows communication only",
        "a script that runs LAMMPS does not load a trainer or ASE",
        may=base,
        outside=("lammps", "mpi4py"),
        floor=1,
        left=2,
        right=3.5,
        title="lammps.py",
        label="LAMMPS in scripts",
    )
    yield Room(
        "fp_potential/scf",
        "the fixed-point loop for any map: mixing, linear solves, implicit derivative, spectrum, diagnosis",
        "scf/ knows no density",
        "the loop serves every learned model, Kohn–Sham too; hand the map, or its products J v, in as a function",
        may=(*base, "fp_potential/options"),
        outside=("torch", "numpy"),
        floor=2,
        left=2,
        right=3.5,
        title="scf/",
        label="loop for any map",
    )
    yield Room(
        "fp_potential/backbone",
        "geometry to equivariant features: the MACE family in plain torch",
        "backbone/ knows no density and no field",
        "it can be replaced by another one, and weights of mace-torch models fit into it",
        may=(*base, "fp_potential/options"),
        outside=("torch",),
        floor=2,
        left=5.1,
        right=6.9,
        title="backbone/",
        label="geometry → features",
    )
    yield Room(
        "fp_potential/electrostatics",
        "the linear operator from density to field, its energy; a file per method, `mesh/` for large systems",
        "electrostatics/ knows no model",
        "it is exact for Gaussian charges and dipoles whoever made them, and is tested against independent references",
        may=(*base, "fp_potential/options/kspace.py"),
        outside=("torch",),
        floor=2,
        left=3.6,
        right=5,
        title="electrostatics/",
        label="density → field",
    )
    yield Room(
        "fp_potential/response",
        "the update: field features to density",
        "response/ knows neither the Coulomb operator nor the loop",
        "an update is a function of features and field at fixed geometry; what makes the field is not its business",
        may=(*base, "fp_potential/options", "fp_potential/backbone"),
        outside=("torch",),
        floor=3,
        left=5.1,
        right=6.9,
        title="response/",
        label="field → density",
    )
    yield Room(
        "fp_potential/readout",
        "the non-local energy of features, field and density",
        "readout/ knows neither the Coulomb operator nor the loop",
        "as for response/",
        may=(*base, "fp_potential/options", "fp_potential/backbone", "fp_potential/response"),
        outside=("torch",),
        floor=4,
        left=5.1,
        right=6.9,
        title="readout/",
        label="field, density → energy",
    )
    parts = tuple(f"fp_potential/{name}" for name in ("backbone", "electrostatics", "response", "readout"))
    yield Room(
        "fp_potential/density",
        "the potential's fixed-point problem: map, Fermi level, solver, observables, forces by the adjoint",
        "density/ knows no particular model and no archive",
        "the learned potential and the known models are both instances of it",
        may=(*base, "fp_potential/options", "fp_potential/scf", *parts),
        outside=("torch", "numpy"),
        floor=5,
        left=2,
        right=6.9,
        title="density/",
        label="the self-consistent problem: map, Fermi level, energy, adjoint forces",
    )
    yield Room(
        "fp_potential/model.py",
        "FixedPointPotential: options and statistics to backbone, response and read-outs",
        "model.py knows no archive and no training",
        "the same model is trained, exported and analysed",
        may=(*base, "fp_potential/options", *parts, "fp_potential/density"),
        outside=("torch",),
        floor=6,
        left=4.6,
        right=5.7,
        title="model.py",
        label="the potential",
    )
    yield Room(
        "fp_potential/reference",
        "known models (charge equilibration, induced dipoles) with exact solutions: targets, starts, tests",
        "reference/ knows neither the learned model nor its training",
        "what it proves would be worth less if it shared their code",
        may=(*base, "fp_potential/options/base.py", *parts, "fp_potential/density"),
        outside=("torch", "ase", "pydantic"),
        floor=6,
        left=2,
        right=3.1,
        title="reference/",
        label="known models",
    )
    yield Room(
        "fp_potential/export.py",
        "model archives: the only file that compiles, writes and reads TorchScript",
        "export.py exports any SelfConsistentModel and knows none of them; torch.jit is its business alone",
        "another way to export can be added, or take its place, in one file",
        may=("package", *base, "fp_potential/options", LOOP_SETTINGS, "fp_potential/density"),
        outside=("torch", "ase"),
        floor=6,
        left=3.2,
        right=4.5,
        title="export.py",
        label="archive model.pt",
    )
    yield Room(
        "fp_potential/calculator",
        "the ASE calculator of an archive",
        "calculator/ knows archives, not the model or its training",
        "what it computes is what LAMMPS computes from the same file",
        may=(*base, "fp_potential/options", "fp_potential/density", "fp_potential/export.py"),
        outside=("torch", "numpy", "ase"),
        floor=7,
        left=2.75,
        right=3.6,
        title="calculator/",
        label="ASE",
    )
    yield Room(
        "train/errors.py, train/progress.py",
        "the one exception for bad input, and progress bars",
        "errors and progress know nothing of what fails or runs",
        "everything in train/ uses them",
        outside=("rich",),
        files=("train/__init__.py", "train/errors.py", "train/progress.py"),
        floor=1,
        left=7,
        right=9,
        title="train/errors.py, progress.py",
    )
    low = ("train/errors.py, train/progress.py",)
    yield Room(
        "train/config",
        "reads and explains training files of any root section",
        "train/config/ knows no learned model, no data and no torch",
        "a training file of another learned model is another root section, handed in",
        may=(*low, "fp_potential/options"),
        outside=("pydantic", "pydantic_core", "annotated_types", "rich", "yaml"),
        floor=2,
        left=7,
        right=9,
        title="train/config/",
        label="training files",
    )
    yield Room(
        "train/data",
        "frames with labels, units, weights and checks, of files and of prepared sets",
        "train/data/ knows neither trainer nor learned model, and no torch",
        "data can be read, prepared and checked for any of them",
        may=(*base, *low, "train/config"),
        outside=("numpy", "ase", "pydantic", "rich"),
        floor=3,
        left=7,
        right=7.95,
        title="train/data/",
        label="frames",
    )
    yield Room(
        "train/trainer",
        "the trainer of any learned model: stages, optimisers, averages, checkpoints, log, processes",
        "train/trainer/ knows a learned model only as a Problem (train/trainer/problem.py)",
        "the other learned models train with it as it stands; `tests/line_problem.py` fits a straight line with it",
        may=(*base, *low, "train/config"),
        outside=("torch", "pydantic", "rich", "schedulefree", "tensorboard"),
        floor=3,
        left=8.05,
        right=9,
        title="train/trainer/",
        label="any Problem",
    )
    yield Room(
        "train/potential/config",
        "the potential's training file: model, statistics, losses, schedule, names of the published method",
        "train/potential/config/ knows options of trainer and data, nothing that computes",
        "`--help-config`, `--schema` and mistakes in a file take no torch",
        may=(*low, "fp_potential/options", "train/config", "train/data/options.py", "train/trainer/options.py"),
        outside=("pydantic",),
        floor=4,
        left=7,
        right=9,
        title="train/potential/config/",
        label="its training file",
    )
    yield Room(
        "train/potential/modes",
        "predictions that can be trained through: direct, unrolled, implicit, exact linear solve, responses",
        "train/potential/modes/ knows the model, neither losses nor batches nor files",
        "a mode is a differentiable solution of the model; reports and fits use it, too",
        may=(
            *base,
            "fp_potential/options",
            "fp_potential/scf",
            "fp_potential/electrostatics",
            "fp_potential/density",
        ),
        outside=("torch",),
        floor=6,
        left=5.8,
        right=6.9,
        title="modes/",
        label="of train/potential/",
    )
    yield Room(
        "train/potential",
        "the potential as a Problem: batches, losses, errors, statistics, evaluation, initial values from other models",
        "train/potential/ knows neither run folders nor reports nor commands",
        "it is one of several learned models; who runs it decides where results go",
        may=(
            *base,
            *low,
            "fp_potential/options",
            LOOP_SETTINGS,
            "fp_potential/backbone",
            "fp_potential/electrostatics",
            "fp_potential/density",
            "fp_potential/model.py",
            "fp_potential/export.py",
            "train/config",
            "train/data",
            "train/trainer",
            "train/potential/config",
            "train/potential/modes",
        ),
        outside=("torch", "numpy", "ase", "rich"),
        floor=7,
        left=3.7,
        right=9,
        title="train/potential/",
        label="the potential as a Problem: samples, losses, errors, statistics",
    )
    yield Room(
        "train/run.py",
        "a training file in, a run folder out: the one place that knows which Problem a file means",
        "run.py knows the Problem and the trainer, and neither the model's parts nor reports",
        "it stays short enough to say what a run is",
        may=(*base, *low, "train/data", "train/trainer", "train/potential", "train/potential/config"),
        outside=("torch", "ase", "rich", "yaml"),
        floor=8,
        left=3.7,
        right=6.2,
        title="train/run.py",
        label="file in, run folder out",
    )
    yield Room(
        "train/report",
        "`fixedpoint report`: one HTML page of a run",
        "train/report/ runs no training",
        "a report can be made of any run folder at any time",
        may=(
            "package",
            *base,
            *low,
            "fp_potential/options",
            "fp_potential/scf",
            "fp_potential/model.py",
            "train/config",
            "train/data",
            "train/potential",
            "train/potential/config",
        ),
        outside=("torch", "numpy", "ase", "matplotlib", "yaml"),
        floor=8,
        left=6.3,
        right=9,
        title="train/report/",
        label="HTML page of a run",
    )
    yield Room(
        "fp_potential/cloning",
        "trained on a known model, does the fixed point reproduce it?",
        "cloning/ trains as a user would",
        "it tests the whole, so it has no private way into the trainer or the loop",
        may=(
            "package",
            *base,
            "fp_potential/options",
            LOOP_SETTINGS,
            "fp_potential/density",
            "fp_potential/reference",
            "train/config",
            "train/data",
            "train/potential",
            "train/potential/config",
            "train/potential/modes",
            "train/run.py",
        ),
        outside=("torch", "numpy", "ase", "pydantic", "rich"),
        floor=9,
        left=2,
        right=6.2,
        title="cloning/",
        label="does the fixed point reproduce a known model?",
    )
    yield Room(
        "fp_potential/cli",
        "the command `fixedpoint`: train, eval, export, info, scf, report, clone, prepare",
        "cli/ is imported by nobody",
        "commands check what the user gave; what they do is in the rooms below, for Python, too",
        may=(
            *base,
            *low,
            "fp_potential/options",
            "fp_potential/density",
            "fp_potential/scf",
            "fp_potential/export.py",
            "fp_potential/cloning",
            "train/config",
            "train/data",
            "train/trainer",
            "train/potential",
            "train/potential/config",
            "train/run.py",
            "train/report",
        ),
        outside=("torch", "numpy", "ase", "matplotlib", "rich", "yaml"),
        files=("fp_potential/cli", "train/__main__.py"),
        floor=10,
        left=2,
        right=9,
        title="cli/",
        label="fixedpoint train · eval · export · info · scf · report · clone · prepare",
    )
    yield Room(
        "lammps_plugin/kernels",
        "loops over numbers, compiled once per instruction set: splines, mesh and neighbour convolutions, FFT",
        "kernels/ include neither torch nor LAMMPS",
        "they are compiled with the flags of a processor, under which no function of another library may be compiled, "
        "and can be replaced by those of another device",
        title="kernels/",
        label="the processor",
        right=0.95,
    )
    yield Room(
        "lammps_plugin/operators",
        "torch operators and their derivatives: communication, mesh, convolutions",
        "operators/ know no LAMMPS",
        "Python loads the same library without LAMMPS",
        may=("lammps_plugin/kernels",),
        outside=("torch",),
        floor=1,
        title="operators/",
        label="torch",
        right=0.95,
    )
    yield Room(
        "lammps_plugin/model",
        "the archive: its metadata, and calls of its methods with plain arrays",
        "model/ knows of LAMMPS only its json.h",
        "another code than LAMMPS could run the same archives with it",
        outside=("torch", "json.h"),
        floor=6,
        title="model/",
        label="runs model.pt",
        left=0.65,
        right=1.6,
    )
    yield Room(
        "lammps_plugin/pair_style",
        "LAMMPS: keywords, atoms, neighbour lists, communication, output",
        "pair_style/ knows no torch",
        "LAMMPS loads the plugin without torch, and all that depends on torch is behind plain arrays",
        may=("lammps_plugin/model", "lammps_plugin/operators"),
        outside=("LAMMPS", "MPI"),
        floor=7,
        title="pair_style/",
        label="LAMMPS",
        right=1.6,
    )


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
        if f"lammps_plugin/{top}" in BY_NAME:
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
    return [f"every file is in a room, {path} is in none; add it to the table of docs/walls.py" for path in paths]


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
