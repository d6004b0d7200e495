"""Units of data files: names read, dimensions checked, factors to eV, Å, e.

Charges are in e everywhere. Source of the factors: CODATA 2018, Rev. Mod. Phys. 93, 025010 (2021),
doi:10.1103/RevModPhys.93.025010.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from ...units import DEBYE
from ..errors import InputError, nearest


class Unit(NamedTuple):
    """A unit as ``factor`` eV^energy Å^length (times a power of e, which is 1)."""

    factor: float
    energy: int
    length: int


_HARTREE, _BOHR = 27.211386245988, 0.529177210903
#: kJ/mol in eV: 1000 / (N_A e), both exact
_KILOJOULE_PER_MOLE = 1000.0 / 96485.33212331
_KILOCALORIE_PER_MOLE = 4.184 * _KILOJOULE_PER_MOLE
#: GPa in eV/Å³
_GIGAPASCAL = 1.0 / 160.2176634

UNITS: dict[str, Unit] = {
    "eV": Unit(1.0, 1, 0),
    "meV": Unit(1e-3, 1, 0),
    "Ha": Unit(_HARTREE, 1, 0),
    "Hartree": Unit(_HARTREE, 1, 0),
    "Ry": Unit(_HARTREE / 2, 1, 0),
    "kcal/mol": Unit(_KILOCALORIE_PER_MOLE, 1, 0),
    "kJ/mol": Unit(_KILOJOULE_PER_MOLE, 1, 0),
    "V": Unit(1.0, 1, 0),
    "Å": Unit(1.0, 0, 1),
    "A": Unit(1.0, 0, 1),
    "Angstrom": Unit(1.0, 0, 1),
    "Bohr": Unit(_BOHR, 0, 1),
    "nm": Unit(10.0, 0, 1),
    "GPa": Unit(_GIGAPASCAL, 1, -3),
    "kbar": Unit(0.1 * _GIGAPASCAL, 1, -3),
    "D": Unit(1.0 / DEBYE, 0, 1),
    "Debye": Unit(1.0 / DEBYE, 0, 1),
    "e": Unit(1.0, 0, 0),
}

#: powers of energy and length in what a data file may hold, by its name in ``data.keys``
DIMENSIONS: dict[str, tuple[int, int]] = {
    "energy": (1, 0),
    "forces": (1, -1),
    "stress": (1, -3),
    "virial": (1, 0),
    "dipole": (0, 1),
    "fermi_level": (1, 0),
    "charges": (0, 0),
    "total_charge": (0, 0),
    "external_field": (1, -1),
    "electric_field": (1, -1),
    "electrostatic_potentials": (1, 0),
    "polarizability": (-1, 2),
    "born_charges": (0, 0),
    "molecules": (0, 0),
    "fragments": (0, 0),
}


def parse_unit(text: str) -> Unit:
    """The unit ``text`` stands for: names of ``UNITS`` with ``*``, ``/`` and powers, ``Ha/Bohr`` or ``eV/Å^3``.

    Raises:
        InputError: a name that is not known; names the nearest one.
    """
    factor, energy, length = 1.0, 0, 0
    # the slash of "per mole" is part of a name
    words = text.replace("/mol", "|mol").replace("³", "^3").replace("²", "^2").replace("·", "*")
    for operator, word in re.findall(r"(^|[*/])([^*/]*)", words.replace("**", "^").replace(" ", "")):
        name, _, power = word.partition("^")
        name = name.replace("|", "/")
        if name not in UNITS or not re.fullmatch(r"-?\d*", power):
            raise InputError(f"unit '{text}': '{word.replace('|', '/')}' is not known; {nearest(name, UNITS)}")
        exponent = int(power or 1) * (-1 if operator == "/" else 1)
        unit = UNITS[name]
        factor *= unit.factor**exponent
        energy += exponent * unit.energy
        length += exponent * unit.length
    return Unit(factor, energy, length)


class Conversion:
    """Factors from the units of files to eV, Å, e.

    Args:
        energy, length: units of everything that is not in ``labels``.
        labels: units of single labels, by their names in ``data.keys``.

    Raises:
        InputError: a unit that is not known or has the wrong dimension, or a label without a unit of its own.
    """

    def __init__(self, energy: str = "eV", length: str = "Å", labels: dict[str, str] | None = None) -> None:
        self.names = {"energy": energy, "length": length} | (labels or {})
        self._energy = _checked(energy, (1, 0), "energy")
        self.length = _checked(length, (0, 1), "length")
        self._own: dict[str, float] = {}
        for name, unit in (labels or {}).items():
            if name not in DIMENSIONS:
                raise InputError(
                    f"data.units.labels.{name}: no label with a unit of its own (atomic_multipoles are in e and e "
                    f"times the unit of length); {nearest(name, DIMENSIONS)}"
                )
            self._own[name] = _checked(unit, DIMENSIONS[name], f"labels.{name}")

    def factor(self, name: str) -> float | np.ndarray:
        """What a value of ``data.keys.<name>`` is multiplied with; four factors for atomic_multipoles."""
        if name == "atomic_multipoles":
            return np.array([1.0, self.length, self.length, self.length])
        if name in self._own:
            return self._own[name]
        energy, length = DIMENSIONS[name]
        return float(self._energy**energy * self.length**length)

    def describe(self) -> str:
        """One line for the introduction of a run."""
        if all(self.factor(name) == 1.0 for name in DIMENSIONS) and self.length == 1.0:
            return "units of the data: eV, Å, e"
        own = "".join(f", {name} {unit}" for name, unit in self.names.items() if name not in ("energy", "length"))
        return f"units of the data: {self.names['energy']}, {self.names['length']}, e{own}; converted to eV, Å, e"


def _checked(text: str, dimension: tuple[int, int], option: str) -> float:
    unit = parse_unit(text)
    if (unit.energy, unit.length) != dimension:
        raise InputError(
            f"data.units.{option}: '{text}' is an energy^{unit.energy} length^{unit.length}, expected "
            f"energy^{dimension[0]} length^{dimension[1]} (times charges)"
        )
    return unit.factor
