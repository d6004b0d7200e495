"""The cost: terms of a batch, added up over whatever parts the batch is divided into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ...bands import Pseudopotential
from .config import ObjectiveOptions
from .couplings import couplings_cost
from .penalties import penalties, strong_spin_orbit
from .targets import System, bands, bands_cost, deformation, masses, number_fitted

#: terms of the cost, in the order of the log
TERMS = ("bands", "deformation", "couplings", "masses", "large_q", "magnitude", "roughness", "spin_orbit")

Kind = Literal["k", "transition", "masses", "couplings", "penalties", "spin_orbit"]


class Item(NamedTuple):
    """A piece of work whose share of the cost is its own: one k-point, one transition, …"""

    system: int
    kind: Kind
    number: int = 0

    @property
    def cost(self) -> int:
        """Diagonalisations, about."""
        return {"k": 1, "transition": 3, "masses": 7, "couplings": 20}.get(self.kind, 0)


def items(systems: Sequence[System], chosen: Sequence[int], split: str) -> list[Item]:
    """The pieces of work of a batch of the systems ``chosen``; held-out k-points alone for validation."""
    found = []
    for place in chosen:
        system = systems[place]
        if split == "valid":
            found += [Item(place, "k", number) for number in system.held_out]
            continue
        data = system.data
        found += [Item(place, "k", number) for number in system.fitted]
        found += [Item(place, "transition", n) for n, row in enumerate(data.transitions) if row.weight > 0]
        found += [Item(place, "masses")] if data.masses is not None and data.masses.weight > 0 else []
        found += [Item(place, "couplings")] if data.couplings else []
        found.append(Item(place, "penalties"))
    return found + ([Item(chosen[0], "spin_orbit")] if split != "valid" and chosen else [])


def cost(
    systems: Sequence[System], potential: Pseudopotential, chosen: Sequence[Item], options: ObjectiveOptions
) -> dict[str, Tensor]:
    """Terms of the cost of ``chosen`` pieces of work, with their weights; every term is there.

    Each is a sum over the pieces, so that parts of a batch add up to the batch whatever they are.
    """
    terms = {name: torch.zeros((), dtype=torch.float64) for name in TERMS}
    for place in sorted({item.system for item in chosen}):
        own = [item for item in chosen if item.system == place]
        for name, value in _of_system(systems[place], potential, own, options).items():
            terms[name] = terms[name] + value
    return terms


def bands_term(energies: Tensor, system: System, numbers: Sequence[int], options: ObjectiveOptions) -> Tensor:
    """The term ``bands`` of the k-points ``numbers`` with these ``energies``, with its weight."""
    value = bands_cost(energies, system, numbers, options.gaps)
    return options.bands * value / (max(1, number_fitted(system, options.gaps)) if options.mean else 1)


def _of_system(
    system: System, potential: Pseudopotential, chosen: Sequence[Item], options: ObjectiveOptions
) -> Mapping[str, Tensor]:
    found: dict[str, Tensor] = {}
    numbers = [item.number for item in chosen if item.kind == "k"]
    kinds = {item.kind for item in chosen}
    if numbers and options.bands > 0:
        found["bands"] = bands_term(bands(system, potential, numbers), system, numbers, options)
    rows = [system.data.transitions[item.number] for item in chosen if item.kind == "transition"]
    if rows and options.deformation > 0:
        errors = deformation(system, potential, rows) - torch.tensor([row.target for row in rows], dtype=torch.float64)
        weights = torch.tensor([row.weight for row in rows], dtype=torch.float64)
        found["deformation"] = options.deformation * (weights * errors.square()).sum()
    target = system.data.masses
    if "masses" in kinds and target is not None and options.masses > 0:
        errors = masses(system, potential) - torch.tensor([target.electron, target.hole], dtype=torch.float64)
        found["masses"] = options.masses * target.weight * errors.square().sum()
    if "couplings" in kinds and options.coupling > 0:
        number = len(system.data.couplings) if options.mean else 1
        found["couplings"] = options.coupling * couplings_cost(system, potential) / number
    if "penalties" in kinds:
        rows_of = potential.rows(system.hamiltonian.crystal)
        found |= penalties(potential, rows_of, len(system.fitted), options)
    if "spin_orbit" in kinds and options.spin_orbit_penalty > 0:
        found["spin_orbit"] = options.spin_orbit_penalty * strong_spin_orbit(potential, options.spin_orbit_limit)
    return found
