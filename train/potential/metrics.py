"""Errors per structure, summed by kind and by element, and their tables.

The unit of every column is in its heading: energies meV/atom, forces meV/Å, stress meV/Å³, charges me, atomic and total
dipoles me·Å per component, Fermi levels meV, total charges me, potentials at the nuclei mV, polarizabilities me·Å²/V
and Born charges me per component.

With the errors e of all components of a property that have a label, over the structures of a kind or all, a cell holds

    RMSE = sqrt(<e²>),   MAE = <|e|>.

A Fermi level means nothing where nothing conducts: it has no error there, and such structures are counted.

At constant Fermi level the energy of a structure is Ω = E + μQ, and that of its labels E* + μ*Q*; the level is given
and has no error, the total charge has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from .batch import Batch

#: heading -> short name in messages and code
PROPERTIES: dict[str, str] = {
    "energy": "energy [meV/atom]",
    "forces": "forces [meV/Å]",
    "stress": "stress [meV/Å³]",
    "charge": "charges [me]",
    "atomic_dipole": "atomic dipoles [me·Å]",
    "dipole": "dipole [me·Å]",
    "fermi_level": "Fermi level [meV]",
    "total_charge": "total charge [me]",
    "esps": "potentials [mV]",
    "polarizability": "polarizability [me·Å²/V]",
    "born_charges": "Born charges [me]",
}


class Compared(NamedTuple):
    """One property of a batch: rows are structures, or atoms where ``per_atom``."""

    predicted: Tensor
    reference: Tensor
    weight: Tensor  #: broadcast over the components; 0 where there is no label
    per_atom: bool


def compared(output: dict[str, Tensor], batch: Batch, constant_charge: bool = True) -> dict[str, Compared]:
    """Predictions beside labels, eV, Å, e; energies per atom of the structure. Keys are those of `PROPERTIES`.

    Args:
        output: what a model gives for the batch: ``energy`` ``(B,)``, ``density`` ``(N, 4)``, ``dipole`` ``(B, 3)``,
            ``fermi_level`` and ``total_charge`` ``(B,)``, and those of ``forces``, ``stress``, ``esps``,
            ``reference_esps``, ``polarizability`` and ``born_charges`` that were asked for.
        batch: structures and labels.
        constant_charge: whether the total charge was held, or else the Fermi level.
    """
    labels, graph = batch.labels, batch.graph
    energy = labels.energy
    if not constant_charge:
        energy = energy + (labels.fermi_level.double() * graph.total_charge).nan_to_num()
    density, multipoles = output["density"], labels.multipoles
    found = {
        "energy": Compared(
            output["energy"] / batch.num_atoms, energy / batch.num_atoms, labels.energy_weight, per_atom=False
        ),
        "charge": Compared(density[:, :1], multipoles[:, :1], labels.multipoles_weight[:, :1], per_atom=True),
        "atomic_dipole": Compared(density[:, 1:], multipoles[:, 1:], labels.multipoles_weight[:, 1:], per_atom=True),
        "dipole": Compared(output["dipole"], labels.dipole, labels.dipole_weight, per_atom=False),
    }
    if constant_charge:
        level, weight = labels.fermi_level.nan_to_num(), labels.fermi_level_weight * conducting(output)
        found["fermi_level"] = Compared(output["fermi_level"], level, weight, per_atom=False)
    else:
        wanted = graph.total_charge
        found["total_charge"] = Compared(output["total_charge"], wanted, torch.ones_like(wanted), per_atom=False)
    if "forces" in output:
        found["forces"] = Compared(output["forces"], labels.forces, labels.forces_weight, per_atom=True)
    if "stress" in output:
        found["stress"] = Compared(output["stress"], labels.stress, labels.stress_weight, per_atom=False)
    if "reference_esps" in output:
        known = labels.multipoles_weight[:, 0]
        found["esps"] = Compared(output["esps"], output["reference_esps"], known, per_atom=True)
    elif "esps" in output:
        found["esps"] = Compared(output["esps"], labels.potentials, labels.potentials_weight, per_atom=True)
    if "polarizability" in output:
        reference, weight = labels.polarizability, labels.polarizability_weight
        found["polarizability"] = Compared(output["polarizability"], reference, weight, per_atom=False)
    if "born_charges" in output:
        reference, weight = labels.born_charges, labels.born_charges_weight
        found["born_charges"] = Compared(output["born_charges"], reference, weight, per_atom=True)
    return found


def conducting(output: dict[str, Tensor]) -> Tensor:
    """Where there is a Fermi level ``(B,)`` bool; everywhere for archives of earlier versions, which do not say."""
    return output.get("conducts", torch.ones_like(output["fermi_level"], dtype=torch.bool))


class SCFStatistics(NamedTuple):
    """Applications of the map over structures; ``median`` and ``p95`` are of those that converged, NaN without any."""

    mean: float
    largest: int
    converged: float  #: %
    median: float
    p95: float


@dataclass
class StructureErrors:
    """Sums over the components of each property for each structure: squares, absolute values, numbers."""

    constant_charge: bool = True
    sums: dict[str, list[Tensor]] = field(default_factory=dict)  #: property -> (structures, 3) pieces
    by_element: dict[str, Tensor] = field(default_factory=dict)  #: property of atoms -> (elements, 3)
    scf_steps: list[Tensor] = field(default_factory=list)
    status: list[Tensor] = field(default_factory=list)
    without_level: list[Tensor] = field(default_factory=list)  #: bool: a label of the Fermi level, but nothing conducts
    kinds: list[str] = field(default_factory=list)
    atoms: list[Tensor] = field(default_factory=list)

    def add(self, output: dict[str, Tensor], batch: Batch, kinds: Sequence[str]) -> None:
        """Errors of one batch; properties that are not in ``output`` or carry no label count nothing."""
        graph = batch.graph
        for name, pair in compared(output, batch, self.constant_charge).items():
            rows = self._rows((pair.predicted - pair.reference).detach(), pair.weight).double()
            if pair.per_atom:
                self._add_by_element(name, rows, graph.species[: graph.batch.shape[0]])
                rows = rows.new_zeros(len(kinds), 3).index_add(0, graph.batch, rows)
            self.sums.setdefault(name, []).append(rows.cpu())
        self.kinds += kinds
        self.atoms.append(batch.num_atoms.cpu())
        labelled = (batch.labels.fermi_level_weight > 0) & self.constant_charge
        self.without_level.append((labelled & ~conducting(output)).cpu())
        if "scf_steps" in output:
            self.scf_steps.append(output["scf_steps"].detach().cpu())
            self.status.append(output["status"].detach().cpu())

    def extend(self, other: StructureErrors) -> None:
        """Append the structures of ``other``."""
        for name, pieces in other.sums.items():
            self.sums.setdefault(name, []).extend(pieces)
        for name, rows in other.by_element.items():
            self._add_by_element(name, rows, torch.arange(len(rows)))
        self.scf_steps += other.scf_steps
        self.status += other.status
        self.without_level += other.without_level
        self.kinds += other.kinds
        self.atoms += other.atoms

    @staticmethod
    def _rows(error: Tensor, weight: Tensor) -> Tensor:
        known = (weight > 0).expand_as(error)
        error = torch.where(known, error, torch.zeros_like(error))
        rows = torch.stack([error.square(), error.abs(), known.to(error.dtype)], dim=-1)
        return rows.reshape(rows.shape[0], -1, 3).sum(1)

    def _add_by_element(self, name: str, rows: Tensor, species: Tensor) -> None:
        seen = self.by_element.get(name, torch.zeros(0, 3, dtype=torch.float64))
        total = torch.zeros(max(len(seen), len(torch.bincount(species))), 3, dtype=torch.float64)
        total[: len(seen)] = seen
        self.by_element[name] = total.index_add(0, species.cpu(), rows.cpu())

    def chosen(self, kind: str | None) -> Tensor:
        """Indices of the structures of ``kind`` (all for None)."""
        wanted = [number for number, name in enumerate(self.kinds) if kind is None or name == kind]
        return torch.tensor(wanted, dtype=torch.int64)

    def row_kinds(self) -> list[str | None]:
        """Kinds in the order of their appearance, and None (all) if there is more than one."""
        kinds = list(dict.fromkeys(self.kinds))
        return [*kinds] if len(kinds) == 1 else [*kinds, None]

    def rmse_mae(self, name: str, kind: str | None = None) -> tuple[float, float] | None:
        """Root mean square and mean absolute error times 1000, or None without labels."""
        if name not in self.sums:
            return None
        return _rmse_mae(torch.cat(self.sums[name])[self.chosen(kind)].sum(0))

    def element_rmse_mae(self, name: str, element: int) -> tuple[float, float] | None:
        """The same over the atoms of the element with this index in the model's list."""
        rows = self.by_element.get(name)
        return None if rows is None or element >= len(rows) else _rmse_mae(rows[element])

    def scf(self, kind: str | None = None) -> SCFStatistics | None:
        """How the SCF went, or None without one."""
        if not self.scf_steps:
            return None
        index = self.chosen(kind)
        steps, converged = torch.cat(self.scf_steps)[index].double(), torch.cat(self.status)[index] == 0
        quantiles = torch.tensor([0.5, 0.95], dtype=torch.float64)
        done = steps[converged].quantile(quantiles).tolist() if converged.any() else [float("nan")] * 2
        return SCFStatistics(float(steps.mean()), int(steps.max()), 100 * float(converged.double().mean()), *done)

    def no_level(self, kind: str | None = None) -> int:
        """Number of structures at constant charge whose Fermi level is labelled while no atom of the model conducts."""
        return int(torch.cat(self.without_level)[self.chosen(kind)].sum()) if self.without_level else 0

    def not_converged(self) -> int:
        """Number of structures whose SCF did not converge."""
        return sum(self.failures().values())

    def failures(self) -> dict[int, int]:
        """Number of structures by the status of an SCF that did not converge (`scf.status`)."""
        states = torch.cat(self.status).tolist() if self.status else []
        return {state: states.count(state) for state in sorted(set(states) - {0})}


def _rmse_mae(sums: Tensor) -> tuple[float, float] | None:
    squares, absolute, count = sums.tolist()
    return (1000 * (squares / count) ** 0.5, 1000 * absolute / count) if count > 0 else None
