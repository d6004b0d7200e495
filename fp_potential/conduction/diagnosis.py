"""Does a model behave as a metal or as an insulator for a structure?

    evidence                                                         metal                  insulator
    charge per volt between fragments far apart (`exchange`)         ≥ `CONDUCTING`         none
    |α/n| of a chain of n copies (open structures), exponent of n    ≥ `METALLIC_EXPONENT`  near 0: a limit
    capacitance -dQ/dμ                                               ≥ `CONDUCTING`         none, or no Fermi level

Where the evidence, or that of the kinds of fragments, does not agree, the structure is called mixed.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.formula import Formula

from ..graph import Conditions
from .exchange import Exchange, exchange
from .responses import (
    ChainPoint,
    ElementShare,
    by_charge,
    by_level,
    chain_polarizability,
    element_shares,
    growth_exponent,
)
from .settings import CONDUCTING, CONDUCTING_SHARE, LARGEST_CHAIN, METALLIC_EXPONENT, ResponseSettings
from .solver import State, StructureSolver, noted


class Behaviour(enum.Enum):
    """What a structure behaves as."""

    METAL = "behaves as a metal"
    INSULATOR = "behaves as an insulator"
    MIXED = "mixed"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class ResponseDiagnosis:
    """What was found; None and empty lists where it could not be, with the reason in ``notes``."""

    exchange: Exchange
    chain: list[ChainPoint]
    capacitance: float | None  #: -dQ/dμ at constant Fermi level, e/V; 0 where the model has no Fermi level
    level_by_charge: float | None  #: dμ/dQ at constant charge, V/e; None where no level moves charge
    elements: list[ElementShare]
    has_level: bool  #: whether the model says that there is a Fermi level
    notes: list[str] = field(default_factory=list)

    @property
    def exponent(self) -> float | None:
        """Exponent of the growth of the chain's polarizability per copy."""
        return growth_exponent(self.chain)

    @property
    def behaviour(self) -> Behaviour:
        """The verdict."""
        votes = {metallic for metallic, _ in self._evidence()}
        if not votes:
            return Behaviour.UNKNOWN
        if len(votes) > 1:
            return Behaviour.MIXED
        return Behaviour.METAL if votes.pop() else Behaviour.INSULATOR

    @property
    def conducting(self) -> list[str]:
        """Formulas of the fragments that conduct."""
        return [kind.formula for kind in self.exchange.kinds if kind.conducts]

    @property
    def insulating(self) -> list[str]:
        """Formulas of the fragments that do not."""
        return [kind.formula for kind in self.exchange.kinds if kind.conducts is False]

    @property
    def conducting_elements(self) -> list[str]:
        """Symbols of the elements of these fragments that take charge, `CONDUCTING_SHARE` or more; all if not known."""
        there = [symbol for formula in self.conducting for symbol in Formula(formula)]
        small = {element.symbol for element in self.elements if element.share < CONDUCTING_SHARE}
        taking = [symbol for symbol in dict.fromkeys(there) if symbol not in small]
        return taking or list(dict.fromkeys(there))

    @property
    def sentence(self) -> str:
        """The verdict in a sentence."""
        if self.behaviour is not Behaviour.MIXED:
            return self.behaviour.value
        if self.conducting and self.insulating:
            conduct = f"{_verb(self.conducting_elements, 'conduct')} ({', '.join(self.conducting)})"
            return f"mixed: {conduct}, {_verb(self.insulating, 'insulate')}"
        return "mixed: " + ", but ".join(words for _, words in self._evidence())

    def reasons(self) -> list[str]:
        """What the verdict rests on, each with its number and its threshold."""
        return [words for _, words in self._evidence()]

    def _evidence(self) -> list[tuple[bool, str]]:
        """Whether each measurement is a metal's, and it in words."""
        found: list[tuple[bool, str]] = []
        limit = f"metal from {per_volt(CONDUCTING)}"
        for kind in self.exchange.kinds:
            if kind.conducts is None:
                continue
            value = kind.flow if kind.apart is None else kind.apart
            place = "in the structure" if kind.apart is None else f"{self.exchange.gap:g} Å apart"
            words = f"{kind.formula}, {place}, exchanges {per_volt(value or 0.0)} ({limit})"
            found.append((kind.conducts, words))
        if self.exponent is not None:
            words = f"the polarizability per copy of a chain of n copies goes as n^{self.exponent:.2f}"
            words += f" (metal from n^{METALLIC_EXPONENT:g}: it grows with the length; an insulator's has a limit)"
            found.append((self.exponent >= METALLIC_EXPONENT, words))
        if not self.has_level:
            found.append((False, "the model has no Fermi level here: nothing conducts"))
        elif self.capacitance is not None:
            words = f"the capacitance -dQ/dmu is {per_volt(self.capacitance)} ({limit})"
            found.append((abs(self.capacitance) >= CONDUCTING, words))
        return found


def diagnose_response(
    solver: StructureSolver,
    atoms: Atoms,
    conditions: Conditions | None = None,
    settings: ResponseSettings | None = None,
    softness: np.ndarray | None = None,
) -> ResponseDiagnosis:
    """How the charges of ``atoms`` respond.

    Args:
        solver: the model.
        atoms: the structure; its integer array ``fragment``, if there is one, says what belongs together.
        conditions: total charge and external field; the Fermi level is that found at this charge.
        settings: gaps, numbers of copies, length of bonds.
        softness: ``(n,)`` e/V, of updates that know how much of each atom's charge answers to the absolute potential;
            it is shown beside the shares of the elements and decides nothing.

    Raises:
        NotConverged: the loop of the structure itself fails.
        ValueError: an element the model does not know, or an array of fragments that does not hold integers.
    """
    conditions, settings = conditions or Conditions(), settings or ResponseSettings()
    state = solver(atoms, conditions)
    flows = exchange(solver, atoms, conditions, settings, state)
    notes = list(flows.notes)
    points = _chain(solver, atoms, state, settings, notes)
    capacitance, slope, elements = 0.0 if not state.conducts else None, None, []
    if state.conducts:
        with noted(notes, "at constant Fermi level"):
            capacitance = -float(by_level(solver, atoms, conditions, state).sum())
        if capacitance is not None and capacitance < -CONDUCTING:
            notes.append("dQ/dmu has the wrong sign: a higher Fermi level makes the structure more positive")
    with noted(notes, "with another charge"):
        change = by_charge(solver, atoms, conditions, state)
        holds_none = capacitance is not None and abs(capacitance) < CONDUCTING
        slope = None if holds_none else change.level_by_charge
        elements = element_shares(atoms, change.by_charge, softness)
    return ResponseDiagnosis(flows, points, capacitance, slope, elements, state.conducts, notes)


def _chain(
    solver: StructureSolver, atoms: Atoms, state: State, settings: ResponseSettings, notes: list[str]
) -> list[ChainPoint]:
    if atoms.pbc.any():
        notes.append("no chain of copies: the structure is periodic")
        return []
    if len(settings.lengths) > 1 and settings.lengths[1] * len(atoms) > LARGEST_CHAIN:
        notes.append(f"no chain of copies: more than {LARGEST_CHAIN} atoms")
        return []
    with noted(notes, "chains of copies"):
        return chain_polarizability(solver, atoms, state.charge, settings)
    return []


def per_volt(value: float) -> str:
    """Charge per volt, given in e, in words."""
    return f"{value:.3g} e/V" if abs(value) >= 1.0 else f"{1e3 * value:.3g} me/V"


def _verb(names: list[str], verb: str) -> str:
    return f"{', '.join(names)} {verb}{'s' if len(names) == 1 else ''}"
