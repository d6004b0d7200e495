"""Changes of charges with field, length, Fermi level and total charge, by central differences.

The field is given as the gradient F = -E of a potential; polarizabilities and flows are derivatives by E.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from ase import Atoms

from ..graph import Conditions
from .pieces import chain
from .settings import (
    CHARGE_STEP,
    FLAT,
    LARGEST_CHAIN,
    LARGEST_FIELD,
    LEVEL_STEP,
    NO_POLARIZABILITY,
    POTENTIAL_STEP,
    ResponseSettings,
)
from .solver import State, StructureSolver


class ChainPoint(NamedTuple):
    """A chain of copies."""

    copies: int
    polarizability: float  #: per copy, along the chain, e Å²/V
    carried: float  #: the part of it that is charge flowing between copies, e Å²/V


class ElementShare(NamedTuple):
    """Where charge that is added goes."""

    symbol: str
    atoms: int
    share: float  #: dq/dQ of all atoms of the element; the shares of all elements add up to 1
    softness: float | None  #: e/V, mean over its atoms, of updates that know it


class LevelResponse(NamedTuple):
    """Change with the total charge, at constant charge."""

    by_charge: np.ndarray  #: (n,) dq/dQ
    level_by_charge: float  #: dμ/dQ, V/e


def by_field(
    solver: StructureSolver, atoms: Atoms, conditions: Conditions, direction: np.ndarray, start: State | None = None
) -> tuple[np.ndarray, float] | None:
    """Derivative of the density ``(n, 4)`` by a field E along a unit vector, and the extent along it, Å.

    None where the structure is flatter than `FLAT`, so that there is no potential difference.
    """
    extent = float(np.ptp(atoms.positions @ direction))
    if extent < FLAT:
        return None
    return _field_difference(solver, atoms, conditions, direction, extent, start), extent


def _field_difference(
    solver: StructureSolver,
    atoms: Atoms,
    conditions: Conditions,
    direction: np.ndarray,
    extent: float,
    start: State | None,
) -> np.ndarray:
    step = min(POTENTIAL_STEP / max(extent, FLAT), LARGEST_FIELD)
    ends = []
    for sign in (1.0, -1.0):
        field = np.asarray(conditions.external_field, dtype=np.float64) - sign * step * direction
        ends.append(solver(atoms, conditions._replace(external_field=field.tolist()), start=start).density)
    return (ends[0] - ends[1]) / (2.0 * step)


def chain_polarizability(
    solver: StructureSolver, atoms: Atoms, charge: float, settings: ResponseSettings
) -> list[ChainPoint]:
    """Polarizability per copy of chains of an open structure with ``charge`` e each; the longest ones are left out."""
    found = []
    for copies in settings.lengths:
        if copies * len(atoms) > LARGEST_CHAIN:
            break
        made = chain(atoms, copies, settings.gap)
        along = made.atoms.positions @ made.direction
        conditions = Conditions(total_charge=copies * charge)
        change = _field_difference(solver, made.atoms, conditions, made.direction, float(np.ptp(along)), None)
        dipole = change[:, 0] @ along + change[:, [3, 1, 2]].sum(0) @ made.direction
        flowing = np.bincount(made.piece, weights=change[:, 0])
        centres = np.bincount(made.piece, weights=along) / np.bincount(made.piece)
        found.append(ChainPoint(copies, float(dipole) / copies, float(flowing @ centres) / copies))
    return found


def growth_exponent(points: list[ChainPoint]) -> float | None:
    """x of |α/n| ~ nˣ between the two longest chains: about 2 for a metal, 0 at a limit; None for fewer than two."""
    if len(points) < 2:
        return None
    shorter, longer = points[-2], points[-1]
    first, last = (max(abs(point.polarizability), NO_POLARIZABILITY) for point in (shorter, longer))
    return float(np.log(last / first) / np.log(longer.copies / shorter.copies))


def by_level(solver: StructureSolver, atoms: Atoms, conditions: Conditions, state: State) -> np.ndarray:
    """dq/dμ ``(n,)`` e/V, at constant Fermi level about that of ``state``; -dQ/dμ, its sum, is the capacitance."""
    ends = []
    for sign in (1.0, -1.0):
        moved = conditions._replace(fermi_level=state.level + sign * LEVEL_STEP)
        ends.append(solver(atoms, moved, constant_charge=False, start=state).charges)
    return (ends[0] - ends[1]) / (2.0 * LEVEL_STEP)


def by_charge(solver: StructureSolver, atoms: Atoms, conditions: Conditions, state: State) -> LevelResponse:
    """Change with the total charge about that of ``conditions``, at constant charge."""
    ends = []
    for sign in (1.0, -1.0):
        moved = conditions._replace(total_charge=conditions.total_charge + sign * CHARGE_STEP)
        ends.append(solver(atoms, moved, start=state))
    up, down = ends
    return LevelResponse(
        (up.charges - down.charges) / (2.0 * CHARGE_STEP), (up.level - down.level) / (2.0 * CHARGE_STEP)
    )


def element_shares(atoms: Atoms, share: np.ndarray, softness: np.ndarray | None) -> list[ElementShare]:
    """By element, most first: ``share`` dq/dQ ``(n,)``, and ``softness`` ``(n,)`` where the update knows it."""
    found = []
    for symbol in dict.fromkeys(atoms.get_chemical_symbols()):
        own = atoms.symbols == symbol
        soft = None if softness is None else float(softness[own].mean())
        found.append(ElementShare(symbol, int(own.sum()), float(share[own].sum()), soft))
    return sorted(found, key=lambda element: -abs(element.share))
