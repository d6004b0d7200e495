"""Charge that flows in a field between fragments that no bond connects: in the structure, and far apart.

Neighbours may exchange a little charge in an insulator, too, where their electrons overlap. Far apart they do not: what
flows there answers to the absolute potential, as in a metal.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from ..graph import Conditions
from .fragments import Fragments, fragments_of
from .pieces import apart, largest_kinds, open_directions
from .responses import by_field
from .settings import CONDUCTING, LARGEST_PIECES, MOST_KINDS, ResponseSettings
from .solver import State, StructureSolver, noted


@dataclass(frozen=True)
class KindOfFragment:
    """Fragments of one formula; flows are the largest change of a fragment's charge, e per volt over all."""

    formula: str
    number: int
    flow: float | None  #: in the structure; None where no field can be applied, or none of the others is there
    apart: float | None  #: far apart; None where that was not tested

    @property
    def conducts(self) -> bool | None:
        """Whether charge flows to and from it; None where that is not known."""
        flow = self.flow if self.apart is None else self.apart
        return None if flow is None else flow >= CONDUCTING


@dataclass(frozen=True)
class Exchange:
    """Charge that fragments exchange."""

    kinds: list[KindOfFragment]
    gap: float  #: between fragments far apart, Å
    notes: list[str] = field(default_factory=list)

    @property
    def flow(self) -> float | None:
        """Largest in the structure, e/V."""
        return max((kind.flow for kind in self.kinds if kind.flow is not None), default=None)

    @property
    def apart(self) -> float | None:
        """Largest far apart, e/V."""
        return max((kind.apart for kind in self.kinds if kind.apart is not None), default=None)


def exchange(
    solver: StructureSolver,
    atoms: Atoms,
    conditions: Conditions,
    settings: ResponseSettings | None = None,
    state: State | None = None,
) -> Exchange:
    """Flows between the fragments of ``atoms``; ``state`` is that of the structure, if it is known.

    Raises:
        NotConverged: of the structure itself; other failures are in the notes.
        ValueError: an array of fragments that does not hold integers.
    """
    settings = settings or ResponseSettings()
    state = state or solver(atoms, conditions)
    fragments = fragments_of(atoms, settings.bond_factor)
    notes: list[str] = []
    flows = far = None
    gap = max(settings.apart, solver.cutoff)
    with noted(notes, "the field on the structure"):
        flows = _flows(solver, atoms, conditions, fragments, state, notes)
    with noted(notes, "fragments far apart"):
        far = _far_flows(solver, atoms, fragments, largest_kinds(fragments, MOST_KINDS), gap, state, notes)
    kinds = []
    for formula in dict.fromkeys(fragments.formulas):
        own = np.array([name == formula for name in fragments.formulas])
        flow = None if flows is None else float(flows[own].max())
        kinds.append(KindOfFragment(formula, int(own.sum()), flow, None if far is None else far.get(formula)))
    return Exchange(kinds, gap, notes)


def _flows(
    solver: StructureSolver,
    atoms: Atoms,
    conditions: Conditions,
    fragments: Fragments,
    state: State,
    notes: list[str],
) -> np.ndarray | None:
    """Largest change of each fragment's charge over the open directions ``(fragments,)``, e/V."""
    directions = open_directions(atoms)
    if fragments.number < 2 or len(directions) == 0:
        why = "it is one fragment" if fragments.number < 2 else "it has no open axis"
        made = "as finite pieces in open space" if len(directions) == 0 else "as copies"
        notes.append(f"no flow between fragments of the structure as it is: {why}; they are tested {made}, far apart")
        return None
    largest = None
    for direction in directions:
        found = by_field(solver, atoms, conditions, direction, state)
        if found is not None:
            change = np.abs(fragments.sums(found[0][:, 0])) / found[1]
            largest = change if largest is None else np.maximum(largest, change)
    return largest


def _far_flows(
    solver: StructureSolver,
    atoms: Atoms,
    fragments: Fragments,
    kinds: list[str],
    gap: float,
    state: State,
    notes: list[str],
) -> dict[str, float] | None:
    """Formula -> largest change of charge of one of its two fragments, e/V."""
    pieces = apart(atoms, fragments, kinds, gap)
    if len(pieces.atoms) > LARGEST_PIECES:
        notes.append(f"fragments far apart are not tested: {len(pieces.atoms)} atoms, more than {LARGEST_PIECES}")
        return None
    left_out = [formula for formula in dict.fromkeys(fragments.formulas) if formula not in kinds]
    if left_out:
        notes.append(f"not tested far apart, as they are few: {', '.join(left_out)}")
    # each piece with the charge that its kind has in the structure, to the nearest integer
    charges = fragments.sums(state.charges)
    formulas = np.array(fragments.formulas)
    conditions = Conditions(total_charge=2.0 * sum(float(np.rint(charges[formulas == kind].mean())) for kind in kinds))
    found = by_field(solver, pieces.atoms, conditions, pieces.direction)
    assert found is not None, "pieces that are apart have an extent"
    change = np.abs(np.bincount(pieces.piece, weights=found[0][:, 0])) / found[1]
    return {kind: float(max(change[k], change[k + len(kinds)])) for k, kind in enumerate(kinds)}
