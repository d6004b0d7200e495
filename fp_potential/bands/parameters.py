"""The nine analytic parameters of a species, in the order of the published parameter files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """One of the nine: its symbol, name, unit and meaning."""

    symbol: str
    name: str
    unit: str
    meaning: str


SLOTS = (
    Slot("a0", "local 0", "Ha Bohr⁵", "prefactor of v(q) = a0 (q² - a1) / (a2 exp(a3 q²) - 1)"),
    Slot("a1", "local 1", "1/Bohr²", "q² at which v(q) changes sign"),
    Slot("a2", "local 2", "1", "prefactor of the exponential in the denominator of v(q)"),
    Slot("a3", "local 3", "Bohr²", "exponent in the denominator of v(q)"),
    Slot("a4", "long range", "Ha Bohr", "charge of -a4 (4 pi / q²) exp(-q² / 4 gamma²)"),
    Slot("a5", "spin-orbit", "Ha", "strength of the spin-orbit projectors (l = 1)"),
    Slot("a6", "non-local 1", "Ha", "strength of the l = 1 projectors of weight exp(-r²)"),
    Slot("a7", "non-local 2", "Ha", "strength of the l = 1 projectors of weight exp(-(r - 1.5)²)"),
    Slot("a8", "strain", "1", "slope of the short-range local potential with volume: 1 + a8 (Omega/Omega_0 - 1)"),
)
N_SLOTS = len(SLOTS)
#: positions of the terms in the vector of nine
LOCAL = slice(0, 4)
LONG_RANGE = 4
SPIN_ORBIT = 5
NONLOCAL = slice(6, 8)
STRAIN = 8


@dataclass(frozen=True)
class Terms:
    """Which terms a pseudopotential has besides its learned local form; each is a switch.

    ``analytic`` adds the Zunger form of a0 … a3 to the learned form, ``long_range`` a4, ``spin_orbit`` a5 (the basis
    then has two spin components), ``nonlocal`` a6 and a7, ``strain`` a8.
    """

    analytic: bool = False
    long_range: bool = False
    spin_orbit: bool = False
    nonlocal_: bool = False
    strain: bool = False
