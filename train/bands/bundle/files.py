"""Readers of the files of a published bundle; each mistake is named with its line and column.

Both generations are read: k-points with and without a weight, parameter vectors of four, five and nine entries (the
fifth of five is the strain parameter), deformation potentials of single states (five columns), of transitions (seven)
and the legacy file of two numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..config.model import nine
from ..config.systems import CellOptions
from ..data import Array, Coupling, EffectiveMasses, Transition
from .text import Line, Word, lines_of, rows, settings

#: largest deviation of an occupied volume from zero, relative to the cube of the longest vector
FLAT = 1e-6
#: what stands in the place of a coupling that is not fitted
NOT_FITTED = "Not-fit"
#: lattice ratio of the legacy deformation potentials of the valence and the conduction edge
LEGACY_RATIO = 1.01


def read_cell(path: Path) -> CellOptions:
    """``system_X.par``: scale, cell and atoms.

    Raises:
        InputError: a part is missing, or of another form.
    """
    scale, vectors, atoms = 1.0, [], []
    section = ""
    given = set()
    for line in lines_of(path, "scale, cell and atoms"):
        first = line.words[0].text.partition("=")[0]
        if first in ("scale", "cell", "atoms"):
            if first in given:
                raise line.wrong(f"a second '{first}'", f"'{first}' once", "remove one")
            given.add(first)
            section = first
            if first == "scale":
                scale = _scale(path, line)
        elif section == "cell":
            if len(line.words) != 3:
                raise line.wrong(f"{len(line.words)} words", "a vector of the cell: three numbers")
            vectors.append(line.numbers())
            section = "cell" if len(vectors) < 3 else ""
        elif section == "atoms":
            if len(line.words) != 4:
                raise line.wrong(f"{len(line.words)} words", "SPECIES x y z with fractional coordinates")
            atoms.append((_species(line.words[0]), *(word.number("a coordinate") for word in line.words[1:])))
        else:
            raise line.words[0].wrong("'scale = NUMBER', 'cell' with three vectors, or 'atoms'")
    for name, found in (("cell", len(vectors) == 3), ("atoms", bool(atoms))):
        if not found:
            raise InputError(f"{path}: no complete '{name}'; expected 'cell' with three vectors and 'atoms' below it")
    matrix = np.array(vectors)
    if abs(np.linalg.det(matrix)) < FLAT * np.abs(matrix).max() ** 3:
        raise InputError(f"{path}: the three vectors of the cell lie in a plane; expected a cell with a volume")
    return CellOptions(scale=scale, vectors=vectors, atoms=atoms)


def _scale(path: Path, line: Line) -> float:
    found = settings_of_line(line)
    value = found.number("the scale, a number above zero in Bohr")
    if value <= 0:
        raise found.wrong("a scale above zero, in Bohr")
    return value


def settings_of_line(line: Line) -> Word:
    """The value of ``key = value`` with one word."""
    text = [word for word in line.words if word.text != "="]
    if len(text) == 1 and "=" in text[0].text:
        word = text[0]
        place = word.text.index("=") + 1
        return Word(word.text[place:], word.file, word.line, word.column + place)
    if len(text) != 2:
        raise line.wrong(f"got '{' '.join(word.text for word in line.words)}'", "scale = NUMBER")
    return Word(text[1].text.removeprefix("="), text[1].file, text[1].line, text[1].column)


def _species(word: Word) -> str:
    if not word.text[0].isalpha():
        raise word.wrong("a species, such as In", "species come before the coordinates")
    return word.text


def read_kpoints(path: Path, what: str = "k-points") -> tuple[Array, Array]:
    """``kpoints_X.par`` or ``qpoints_X.par``: (n, 3) fractional and (n,) weights, 1 if there are none."""
    found = rows(path, f"{what}: k1 k2 k3, or k1 k2 k3 weight", (3, 4))
    numbers = np.array([line.numbers() for line in found])
    weights = numbers[:, 3] if numbers.shape[1] == 4 else np.ones(len(numbers))
    if weights.min() < 0:
        raise found[int(weights.argmin())].words[3].wrong("a weight of zero or more")
    return numbers[:, :3].copy(), weights.copy()


def read_bands(path: Path, n_kpoints: int, n_bands: int) -> tuple[Array, Array]:
    """``expBandStruct_X.par``: (nk,) length along the path and (nk, nb) energies in eV; nan where one is missing."""
    found = lines_of(path, "reference bands: length along the path and the energies, a row per k-point")
    table = []
    for line in found:
        if len(line.words) != n_bands + 1:
            raise line.wrong(
                f"{len(line.words)} columns",
                f"{n_bands + 1}: the length along the path and {n_bands} energies (nBands)",
                "change nBands, or complete the row",
            )
        path_length = line.words[0].number("the length along the path")
        energies = [
            float("nan") if word.text.lower() == "nan" else word.number("an energy in eV") for word in line.words[1:]
        ]
        table.append([path_length, *energies])
    if len(table) != n_kpoints:
        raise InputError(f"{path}: {len(table)} rows, expected {n_kpoints}: one for each k-point")
    numbers = np.array(table)
    return numbers[:, 0].copy(), numbers[:, 1:].copy()


def read_band_weights(path: Path, n_kpoints: int, n_bands: int) -> Array:
    """``bandWeights_X.par``: (nb,) from one column or one row, or (nk, nb)."""
    found = lines_of(path, "a weight for each band")
    numbers = [line.numbers("a weight") for line in found]
    flat = [value for row in numbers for value in row]
    if flat and min(flat) < 0:
        line = next(line for line in found if min(line.numbers()) < 0)
        raise min(line.words, key=Word.number).wrong("a weight of zero or more")
    if len(flat) == n_bands and (len(numbers) == 1 or all(len(row) == 1 for row in numbers)):
        return np.array(flat)
    if len(numbers) == n_kpoints and all(len(row) == n_bands for row in numbers):
        return np.array(numbers)
    raise InputError(
        f"{path}: {len(numbers)} rows with {len(flat)} weights, expected {n_bands} (nBands), one in each row, or a row "
        f"of {n_bands} for each of {n_kpoints} k-points"
    )


def read_order(path: Path, n_kpoints: int, n_bands: int) -> NDArray[np.int64]:
    """``kpoints_X_orderMatrix.par``: (nk, nb), each row the numbers 0 … nb - 1 in some order."""
    found = rows(path, "the order of bands, a row per k-point", (n_bands,))
    if len(found) != n_kpoints:
        raise InputError(f"{path}: {len(found)} rows, expected {n_kpoints}: one for each k-point")
    for line in found:
        order = [word.integer("the number of a band") for word in line.words]
        if sorted(order) != list(range(n_bands)):
            raise line.wrong("the numbers do not occur once each", f"0 … {n_bands - 1} in some order")
    return np.array([[int(value) for value in line.numbers()] for line in found], dtype=np.int64)


def read_deformation(
    path: Path, n_kpoints: int, n_bands: int, edges: tuple[int, int, int] | None
) -> tuple[Transition, ...]:
    """``expDefPot_X.par`` in one of its three forms.

    Args:
        edges: k-point and bands of the valence and the conduction edge, for the legacy form.

    Raises:
        InputError: another number of columns, an index beyond k-points or bands, a ratio of 1.
    """
    found = rows(path, "deformation potentials: k b ratio target weight, or k_VB b_VB k_CB b_CB ratio target weight")
    width = len(found[0].words)
    if width == 1 and len(found) == 2:
        if edges is None:
            raise InputError(
                f"{path}: two numbers, of the valence and the conduction edge, need idxVB, idxCB and idxGap in the "
                "input file; expected those, or a table with 5 or 7 columns"
            )
        gap, *bands = edges
        targets = [line.words[0].number("a deformation potential in eV") for line in found]
        pairs = zip(bands, targets, strict=True)
        return tuple(Transition(None, None, gap, band, LEGACY_RATIO, target, 1.0) for band, target in pairs)
    if width not in (5, 7):
        raise found[0].wrong(
            f"{width} columns",
            "5 (k b ratio target weight) or 7 (k_VB b_VB k_CB b_CB ratio target weight)",
            "indices count from 0",
        )
    return tuple(_transition(line, n_kpoints, n_bands) for line in found)


def transitions_of(
    table: Sequence[Sequence[float]], n_kpoints: int, n_bands: int, where: str
) -> tuple[Transition, ...]:
    """The same from numbers of a training file, whose option is called ``where``; messages count rows and columns."""
    source = Path(where)
    lines = []
    for row, values in enumerate(table, start=1):
        words = tuple(Word(f"{value:g}", source, row, column) for column, value in enumerate(values, start=1))
        lines.append(Line(source, row, words))
        if len(values) not in (5, 7):
            expected = "5 (k b ratio target weight) or 7 (k_VB b_VB k_CB b_CB ratio target weight)"
            raise lines[-1].wrong(f"{len(values)} numbers", expected, "indices count from 0")
    return tuple(_transition(line, n_kpoints, n_bands) for line in lines)


def _transition(line: Line, n_kpoints: int, n_bands: int) -> Transition:
    words = line.words
    ends = [_index(words[i], (n_kpoints, n_bands)[i % 2], ("k-point", "band")[i % 2]) for i in range(len(words) - 3)]
    ratio = words[-3].number("the ratio of lattice constants")
    if ratio <= 0 or ratio == 1:
        raise words[-3].wrong("a ratio of lattice constants above zero that is not 1", "such as 1.01")
    target, weight = words[-2].number("a target in eV"), words[-1].number("a weight")
    if weight < 0:
        raise words[-1].wrong("a weight of zero or more")
    k_from, b_from = (ends[0], ends[1]) if len(ends) == 4 else (None, None)
    return Transition(k_from, b_from, ends[-2], ends[-1], ratio, target, weight)


def _index(word: Word, count: int, what: str) -> int:
    value = word.integer(f"the number of a {what}")
    if not 0 <= value < count:
        raise word.wrong(f"the number of a {what}, 0 … {count - 1}", "indices count from 0")
    return value


def read_masses(path: Path) -> EffectiveMasses:
    """``expEffMasses_X.par``: mass of electrons, of holes, weight."""
    words = [word for line in lines_of(path, "effective masses and a weight") for word in line.words]
    if len(words) != 3:
        raise InputError(f"{path}: {len(words)} numbers, expected 3: mass of electrons, of holes, weight")
    return EffectiveMasses(*(word.number() for word in words))


def read_couplings(path: Path, species: Sequence[str], n_q: int) -> tuple[Coupling, ...]:
    """``expCoupling_X.par``: blocks of each atom, edge and axis with a number for each q-point.

    Raises:
        InputError: a line of another form, an atom that is not there, or another number of q-points.
    """
    found: list[Coupling] = []
    atom: int | None = None
    edge: Literal["valence", "conduction"] | None = None
    axis: int | None = None
    for line in lines_of(path, "couplings in blocks 'Atom idx = N', 'vb-vb …', 'polarization … = x'"):
        words = [word.text for word in line.words]
        if words[0] == "Atom":
            atom, edge, axis = _atom(line, species), None, None
        elif words[0] in ("vb-vb", "cb-cb"):
            edge = "valence" if words[0] == "vb-vb" else "conduction"
            axis = _axis(line)
        elif words[0] == "polarization":
            axis = _axis(line)
        elif atom is None or edge is None or axis is None:
            raise line.words[0].wrong("'Atom idx = N', then 'vb-vb …' or 'cb-cb …', before numbers")
        else:
            if len(line.words) != n_q:
                raise line.wrong(f"{len(line.words)} numbers", f"{n_q}: one for each q-point")
            for q, word in enumerate(line.words):
                if word.text != NOT_FITTED:
                    found.append(Coupling(atom, axis, q, edge, word.number("a coupling in eV/Bohr")))
    return tuple(found)


def _atom(line: Line, species: Sequence[str]) -> int:
    words = [word for word in line.words if word.text != "="]
    if len(words) < 3 or words[1].text != "idx":
        raise line.wrong("a block of another form", "'Atom idx = N   atom = SPECIES'")
    number = _index(words[2], len(species), "atom")
    if len(words) > 4 and words[3].text == "atom" and words[4].text != species[number]:
        raise words[4].wrong(f"{species[number]}, atom {number} of the crystal", "the order is that of the system file")
    return number


def _axis(line: Line) -> int:
    last = line.words[-1]
    if last.text not in ("x", "y", "z"):
        raise last.wrong("x, y or z at the end of the line")
    return "xyz".index(last.text)


def read_parameters(path: Path) -> list[float]:
    """``init_<atom>Params.par``: nine numbers, one in each line (or 5, or 4), as nine."""
    return _vector(path, "the parameters a0 … a8 of a species, one in each line")


def read_steps(path: Path) -> list[float]:
    """``<atom>ParamSteps.par``: largest steps of the parameters."""
    steps = _vector(path, "the steps of the parameters a0 … a8 of a species, one in each line")
    if min(steps) < 0:
        raise InputError(f"{path}: a step is {min(steps):g}; expected zero or more")
    return steps


def _vector(path: Path, purpose: str) -> list[float]:
    words = [word for line in lines_of(path, purpose) for word in line.words]
    numbers = [word.number() for word in words]
    try:
        return nine(numbers, str(path))
    except ValueError as error:
        raise InputError(str(error)) from None


def read_potential_table(path: Path, n_species: int) -> tuple[Array, Array]:
    """``init_qSpace_pot.par``: (m,) q in 1/Bohr, increasing, and (m, n_species) v(q) in Ha Bohr³."""
    found = rows(path, f"q and v(q) of {n_species} species", (n_species + 1,))
    numbers = np.array([line.numbers() for line in found])
    steps = np.flatnonzero(np.diff(numbers[:, 0]) <= 0)
    if len(steps) > 0 or numbers[0, 0] < 0:
        line = found[int(steps[0]) + 1] if len(steps) > 0 else found[0]
        raise line.words[0].wrong("q above that of the row before, from 0 on")
    return numbers[:, 0].copy(), numbers[:, 1:].copy()


def read_beta_schedule(path: Path) -> list[tuple[int, float]]:
    """``mc_beta_schedule``: pairs of a move and the inverse temperature from it on."""
    found = rows(path, "pairs: number of the move, beta", (2,))
    schedule = [(line.words[0].integer("the number of a move"), line.words[1].number("beta")) for line in found]
    for before, (line, (move, beta)) in zip([-1, *(move for move, _ in schedule)], zip(found, schedule), strict=False):
        if move <= before:
            raise line.words[0].wrong(f"the number of a move above {before}", "moves must increase")
        if beta < 0:
            raise line.words[1].wrong("beta of zero or more")
    return schedule


def read_settings(path: Path, purpose: str) -> dict[str, tuple[Word, tuple[Word, ...]]]:
    """``KEY = VALUE`` lines of ``NN_config.par``, ``input_X.par`` and ``mcOpts*.par``."""
    return settings(path, purpose)
