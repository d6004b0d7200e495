"""Bands of Quantum ESPRESSO and BerkeleyGW as a system of a bundle.

Read are ``data-file-schema.xml`` of pw.x (self-contained), the ``filband`` of bands.x, and ``eqp.dat`` and
``bandstructure.dat`` of BerkeleyGW. The last three hold no crystal; bandstructure.dat and filband have Cartesian
k-points in units of the program that wrote them, so that the fractional ones are given beside them and compared: they
must be proportional to each other.

Formats: quantum-espresso.org (INPUT_PW, INPUT_BANDS, the schema qes), manual.berkeleygw.org (sigma, inteqp).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from ...errors import InputError
from ..config.systems import CellOptions
from ..data import Array, BandSystem
from ..structures import geometry_of, read_structure
from ..systems import path_lengths
from . import files, write
from .text import Line, lines_of

#: Hartree in eV (CODATA 2018), as pw.x writes energies in Hartree
HARTREE = 27.211386245988
#: largest deviation of k-points from those of the path, relative to the longest
SAME_K = 1e-4
NUMBER = re.compile(r"[-+]?\d+\.\d+(?:[eEdD][-+]?\d+)?")


@dataclass(frozen=True)
class Choice:
    """What is taken of a calculation, and what its files do not say.

    Attributes:
        structure: file of the crystal.
        kpoints: file of the fractional k-points.
        bands: ``FIRST:LAST``, counted from 1; None: all.
        mean_field: of BerkeleyGW, mean-field in place of GW energies.
        spinor: bands with spin-orbit coupling, each of which is one state; else each is listed twice.
        shift: added to all energies, eV.
    """

    structure: Path | None = None
    kpoints: Path | None = None
    bands: str | None = None
    mean_field: bool = False
    spinor: bool = False
    shift: float = 0.0


@dataclass(frozen=True)
class Computed:
    """Bands of a calculation: crystal, (nk, 3) fractional k-points, (nk,) weights, (nk, nb) energies in eV."""

    cell: CellOptions
    kpoints: Array
    weights: Array
    energies: Array


def read(source: Path, choice: Choice) -> Computed:
    """Bands of a calculation as chosen.

    Raises:
        InputError: a file of none of these formats, or wrong; the crystal or the k-points missing or others.
    """
    if not source.is_file():
        raise InputError(f"{source}: does not exist; expected bands of Quantum ESPRESSO or BerkeleyGW")
    if source.suffix == ".xml":
        found, spinor = _pwscf_xml(source)
        choice = replace(choice, spinor=choice.spinor or spinor)
    else:
        found = _from_tables(source, choice)
    first, last = _range(choice.bands, found.energies.shape[1])
    energies = found.energies[:, first - 1 : last] + choice.shift
    return replace(found, energies=energies if choice.spinor else np.repeat(energies, 2, axis=1))


def _range(text: str | None, count: int) -> tuple[int, int]:
    if text is None:
        return 1, count
    match = re.fullmatch(r"(\d+):(\d+)", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]) <= count:
        raise InputError(f"--bands {text}: expected FIRST:LAST between 1 and {count}, the bands that there are")
    return int(match[1]), int(match[2])


def _from_tables(source: Path, choice: Choice) -> Computed:
    if choice.structure is None:
        raise InputError(f"{source}: holds no crystal; give it by --structure FILE")
    cell = read_structure(choice.structure)
    lines = lines_of(source, "bands of Quantum ESPRESSO (filband) or BerkeleyGW (eqp.dat, bandstructure.dat)")
    width = len(lines[0].words) if lines else 0
    if width and lines[0].words[0].text.startswith("&plot"):
        return _on_path(source, cell, *_filband(source, lines), choice)
    if width == 8:
        return _on_path(source, cell, *_bandstructure(lines, choice), choice)
    if width == 4:
        kpoints, energies = _eqp(source, lines, choice)
        return Computed(cell, kpoints, np.ones(len(kpoints)), energies)
    raise InputError(
        f"{source}:1: {width} columns, expected '&plot' (filband of bands.x), 8 columns (bandstructure.dat) or 4 "
        "(eqp.dat), or data-file-schema.xml of pw.x"
    )


def _pwscf_xml(source: Path) -> tuple[Computed, bool]:
    try:
        root = ElementTree.parse(source).getroot()
    except ElementTree.ParseError as error:
        line, column = error.position
        raise InputError(
            f"{source}:{line}:{column + 1}: not XML ({error.msg if hasattr(error, 'msg') else error})"
        ) from error
    structure, bands = root.find("output/atomic_structure"), root.find("output/band_structure")
    if structure is None or bands is None:
        raise InputError(
            f"{source}: no output/atomic_structure and output/band_structure; expected data-file-schema.xml"
        )
    if (bands.findtext("lsda") or "").strip() == "true":
        raise InputError(f"{source}: spin-polarised bands (lsda); expected bands that are the same for both spins")
    vectors = np.array([_numbers(structure, f"cell/a{axis}", source) for axis in (1, 2, 3)])
    inverse = np.linalg.inv(vectors)
    atoms = []
    for atom in structure.findall("atomic_positions/atom"):
        position = np.array([float(word) for word in (atom.text or "").split()]) @ inverse
        name = re.match(r"[A-Za-z]{1,2}", atom.get("name", ""))
        atoms.append((name.group() if name else "?", *map(float, position)))
    length = float(structure.get("alat", "nan"))
    points = bands.findall("ks_energies")
    kpoints = np.array([_numbers(point, "k_point", source) for point in points])
    weights = [float(point.find("k_point").get("weight", "1")) for point in points]  # type: ignore[union-attr]
    energies = HARTREE * np.array([_numbers(point, "eigenvalues", source) for point in points])
    cell = CellOptions(scale=1.0, vectors=vectors.tolist(), atoms=atoms)
    # Cartesian, in units of 2 pi/alat; fractional ones are products with the vectors of the cell
    fractional = kpoints @ vectors.T / length
    spinor = (bands.findtext("noncolin") or "").strip() == "true"
    return Computed(cell, fractional, np.array(weights), energies), spinor


def _numbers(element: ElementTree.Element, name: str, source: Path) -> list[float]:
    found = element.find(name)
    if found is None or not found.text:
        raise InputError(f"{source}: no {element.tag}/{name}; expected data-file-schema.xml of pw.x")
    return [float(word) for word in found.text.split()]


def _filband(source: Path, lines: list[Line]) -> tuple[Array, Array]:
    head = " ".join(word.text for word in lines[0].words)
    counts = re.search(r"nbnd\s*=\s*(\d+).*nks\s*=\s*(\d+)", head)
    if counts is None:
        raise lines[0].wrong(f"got '{head}'", "&plot nbnd= N, nks= N /")
    n_bands, n_k = int(counts[1]), int(counts[2])
    numbers: list[float] = []
    for line in lines[1:]:  # columns may touch: -10.123-10.456
        numbers += [float(word) for word in NUMBER.findall(" ".join(word.text for word in line.words))]
    if len(numbers) != n_k * (3 + n_bands):
        raise InputError(
            f"{source}: {len(numbers)} numbers, expected {n_k * (3 + n_bands)}: for each of {n_k} k-points 3 and "
            f"{n_bands} energies"
        )
    table = np.array(numbers).reshape(n_k, 3 + n_bands)
    return table[:, :3], table[:, 3:]


def _bandstructure(lines: list[Line], choice: Choice) -> tuple[Array, Array]:
    if any(len(line.words) != 8 for line in lines):
        line = next(line for line in lines if len(line.words) != 8)
        raise line.wrong(f"{len(line.words)} columns", "8: spin band kx ky kz E(MF) E(QP) dE")
    table = np.array([line.numbers() for line in lines])
    if len(set(table[:, 0])) > 1:
        raise lines[0].wrong("two spins", "bands that are the same for both spins")
    bands = sorted(set(table[:, 1]))
    chosen = [table[table[:, 1] == band] for band in bands]
    if len({len(rows) for rows in chosen}) > 1:
        raise lines[0].wrong("bands with different numbers of k-points", "each band at each k-point")
    column = 5 if choice.mean_field else 6
    return chosen[0][:, 2:5], np.stack([rows[:, column] for rows in chosen], axis=1)


def _eqp(source: Path, lines: list[Line], choice: Choice) -> tuple[Array, Array]:
    kpoints, energies = [], []
    place = 0
    while place < len(lines):
        head = lines[place].numbers()
        if len(head) != 4:
            raise lines[place].wrong(f"{len(head)} columns", "a k-point: k1 k2 k3 and the number of rows below it")
        count = lines[place].words[3].integer("the number of bands below the k-point")
        block = [line.numbers() for line in lines[place + 1 : place + 1 + count]]
        if len(block) != count or any(len(row) != 4 for row in block):
            raise lines[place].wrong(f"not {count} rows below it", f"{count} rows: spin band E(MF) E(QP)")
        kpoints.append(head[:3])
        energies.append([row[2 if choice.mean_field else 3] for row in sorted(block, key=lambda row: row[:2])])
        place += 1 + count
    if len({len(row) for row in energies}) != 1:
        raise InputError(f"{source}: k-points with different numbers of bands; expected the same bands at each")
    return np.array(kpoints), np.array(energies)


def _on_path(source: Path, cell: CellOptions, cartesian: Array, energies: Array, choice: Choice) -> Computed:
    """Bands at Cartesian k-points, whose fractional ones are given beside them."""
    if choice.kpoints is None:
        raise InputError(
            f"{source}: its k-points are Cartesian, in units that it does not say; give the fractional ones by "
            "--kpoints FILE: the pw.x input with K_POINTS crystal_b or crystal, or rows k1 k2 k3"
        )
    kpoints, weights = read_path(choice.kpoints)
    if len(kpoints) != len(cartesian):
        raise InputError(f"{choice.kpoints}: {len(kpoints)} k-points, expected {len(cartesian)} as in {source}")
    reciprocal = 2 * np.pi * np.linalg.inv(cell.scale * np.array(cell.vectors)).T
    expected = kpoints @ reciprocal
    norm = float((cartesian * cartesian).sum())
    factor = float((expected * cartesian).sum()) / norm if norm > 0 else 0.0
    deviation = np.linalg.norm(expected - factor * cartesian, axis=1)
    if deviation.max() > SAME_K * max(float(np.linalg.norm(expected, axis=1).max()), SAME_K):
        number = int(deviation.argmax())
        raise InputError(
            f"{source}: k-point {number} is not that of {choice.kpoints}: {kpoints[number].tolist()}; expected the "
            "same path in the same order, and the crystal in the orientation of the calculation"
        )
    return Computed(cell, kpoints, weights, energies)


def read_path(path: Path) -> tuple[Array, Array]:
    """Fractional k-points and weights: of a pw.x input, or rows ``k1 k2 k3 [weight]``.

    Raises:
        InputError: K_POINTS of another kind than crystal and crystal_b, or a row that is wrong.
    """
    if path.is_file() and not re.search(r"^\s*K_POINTS", path.read_text(encoding="utf-8"), re.M | re.I):
        return files.read_kpoints(path)
    lines = lines_of(path, "k-points: a pw.x input with K_POINTS, or rows k1 k2 k3 [weight]")
    start = next(i for i, line in enumerate(lines) if line.words[0].text.upper().startswith("K_POINTS"))
    kind = lines[start].words[-1].text.strip("{}()").lower()
    if kind not in ("crystal", "crystal_b"):
        raise lines[start].wrong(f"K_POINTS {kind}", "K_POINTS crystal_b or crystal: fractional k-points")
    count = lines[start + 1].words[0].integer("the number of k-points")
    listed = lines[start + 2 : start + 2 + count]
    if len(listed) != count or any(len(line.words) < 4 for line in listed):
        raise lines[start + 1].wrong(f"not {count} rows below it", f"{count} rows: k1 k2 k3 and a number")
    numbers = np.array([[word.number() for word in line.words[:4]] for line in listed])
    if kind == "crystal":
        return numbers[:, :3].copy(), numbers[:, 3].copy()
    points = [
        begin[:3] + (end[:3] - begin[:3]) * step / steps
        for begin, end in pairwise(numbers)
        for steps in [max(1, round(begin[3]))]
        for step in range(steps)
    ]
    kpoints = np.array([*points, numbers[-1, :3]])
    return kpoints, np.ones(len(kpoints))


def add_to_bundle(folder: Path, found: Computed, max_ke: float) -> int:
    """Write bands as the next system of a bundle, which may be new; returns its number."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output '{folder}' is a file; expected a folder, a bundle or a new one")
    if max_ke <= 0:
        raise InputError(f"the cutoff of the plane waves is {max_ke:g} Hartree; expected one above zero")
    folder.mkdir(parents=True, exist_ok=True)
    number = next(n for n in range(10**6) if not (folder / f"system_{n}.par").exists())
    geometry = geometry_of(found.cell)
    system = BandSystem(
        name="".join(dict.fromkeys(geometry.species)),
        geometry=geometry,
        max_ke=max_ke,
        n_bands=found.energies.shape[1],
        kpoints=found.kpoints,
        k_weights=found.weights,
        path=path_lengths(found.kpoints, geometry),
        reference=found.energies,
        band_weights=np.ones_like(found.energies),
    )
    write.write_system(folder, number, system, found.cell, {"systemName": system.name})
    return number
