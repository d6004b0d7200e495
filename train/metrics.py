"""Errors per structure, summed by kind, and their table.

The unit of every column is in its heading: energies meV/atom, forces meV/Å, stress meV/Å³, charges me, atomic and total
dipoles me·Å per component, Fermi levels meV, potentials at the nuclei mV, polarizabilities me·Å²/V and Born charges me
per component.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .data import Batch

#: heading -> short name in messages and code
PROPERTIES: dict[str, str] = {
    "energy": "energy [meV/atom]",
    "forces": "forces [meV/Å]",
    "stress": "stress [meV/Å³]",
    "charge": "charges [me]",
    "atomic_dipole": "atomic dipoles [me·Å]",
    "dipole": "dipole [me·Å]",
    "fermi_level": "Fermi level [meV]",
    "esps": "potentials [mV]",
    "polarizability": "polarizability [me·Å²/V]",
    "born_charges": "Born charges [me]",
}


@dataclass
class StructureErrors:
    """Sums over the components of each property for each structure: squares, absolute values, numbers."""

    sums: dict[str, list[Tensor]] = field(default_factory=dict)  #: property -> [structures, 3] pieces
    scf_steps: list[Tensor] = field(default_factory=list)
    status: list[Tensor] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    atoms: list[Tensor] = field(default_factory=list)

    def add(self, output: dict[str, Tensor], batch: Batch, kinds: Sequence[str]) -> None:
        """Errors of one batch; properties that are not in ``output`` or carry no label count nothing."""
        labels, graph = batch.labels, batch.graph
        density = output["density"].detach()
        pieces = {
            "energy": ((output["energy"] - labels.energy) / batch.num_atoms, labels.energy_weight),
            "charge": (density[:, :1] - labels.multipoles[:, :1], labels.multipoles_weight),
            "atomic_dipole": (density[:, 1:] - labels.multipoles[:, 1:], labels.multipoles_weight),
            "dipole": (output["dipole"] - labels.dipole, labels.dipole_weight),
            "fermi_level": (output["fermi_level"] - labels.fermi_level, labels.fermi_level_weight),
        }
        if "forces" in output:
            pieces["forces"] = (output["forces"] - labels.forces, labels.forces_weight)
        if "stress" in output:
            pieces["stress"] = (output["stress"] - labels.stress, labels.stress_weight)
        if "reference_esps" in output:
            pieces["esps"] = (output["esps"] - output["reference_esps"], labels.multipoles_weight[:, 0])
        elif "esps" in output:
            pieces["esps"] = (output["esps"] - labels.potentials, labels.potentials_weight)
        if "polarizability" in output:
            pieces["polarizability"] = (output["polarizability"] - labels.polarizability, labels.polarizability_weight)
        if "born_charges" in output:
            pieces["born_charges"] = (output["born_charges"] - labels.born_charges, labels.born_charges_weight)
        for name, (error, weight) in pieces.items():
            rows = self._rows(error.detach(), weight, graph.batch, len(kinds))
            self.sums.setdefault(name, []).append(rows.double().cpu())
        self.kinds += kinds
        self.atoms.append(batch.num_atoms.cpu())
        if "scf_steps" in output:
            self.scf_steps.append(output["scf_steps"].detach().cpu())
            self.status.append(output["status"].detach().cpu())

    @staticmethod
    def _rows(error: Tensor, weight: Tensor, batch: Tensor, structures: int) -> Tensor:
        known = (weight > 0).expand_as(error)
        error = torch.where(known, error, torch.zeros_like(error))
        rows = torch.stack([error.square(), error.abs(), known.to(error.dtype)], dim=-1)
        rows = rows.reshape(rows.shape[0], -1, 3).sum(1)
        if rows.shape[0] == structures:
            return rows
        return rows.new_zeros(structures, 3).index_add(0, batch, rows)

    def chosen(self, kind: str | None) -> Tensor:
        """Indices of the structures of ``kind`` (all for None)."""
        wanted = [number for number, name in enumerate(self.kinds) if kind is None or name == kind]
        return torch.tensor(wanted, dtype=torch.int64)

    def rmse_mae(self, name: str, kind: str | None = None) -> tuple[float, float] | None:
        """Root mean square and mean absolute error times 1000, or None without labels."""
        if name not in self.sums:
            return None
        squares, absolute, count = torch.cat(self.sums[name])[self.chosen(kind)].sum(0).tolist()
        return (1000 * (squares / count) ** 0.5, 1000 * absolute / count) if count > 0 else None

    def scf(self, kind: str | None = None) -> tuple[float, int, float] | None:
        """Mean and largest number of applications of the map and the percentage converged, or None without an SCF."""
        if not self.scf_steps:
            return None
        index = self.chosen(kind)
        steps, status = torch.cat(self.scf_steps)[index], torch.cat(self.status)[index]
        return float(steps.double().mean()), int(steps.max()), 100 * float((status == 0).double().mean())

    def not_converged(self) -> int:
        """Number of structures whose SCF did not converge."""
        return int(sum((part != 0).sum() for part in self.status))


def error_table(errors: StructureErrors, by_kind: bool = True) -> str:
    """Fixed-width table, one row per kind and one for all; a cell holds ``RMSE / MAE``."""
    kinds: list[str | None] = list(dict.fromkeys(errors.kinds)) if by_kind else []
    kinds = kinds if len(kinds) == 1 else [*kinds, None]
    shown = [name for name in PROPERTIES if errors.rmse_mae(name) is not None]
    head = ["kind", "frames", "atoms", *(PROPERTIES[name] for name in shown)]
    if errors.scf():
        head += ["SCF applications (max)", "converged [%]"]
    rows = [head]
    atoms = torch.cat(errors.atoms)
    for kind in kinds:
        index = errors.chosen(kind)
        row = [kind or "all", str(len(index)), str(int(atoms[index].sum()))]
        for name in shown:
            pair = errors.rmse_mae(name, kind)
            row.append("-" if pair is None else f"{pair[0]:.2f} / {pair[1]:.2f}")
        scf = errors.scf(kind)
        if scf:
            row += [f"{scf[0]:.1f} ({scf[1]})", f"{scf[2]:.1f}"]
        rows.append(row)
    return "errors: RMSE / MAE\n" + align(rows)


def align(rows: Sequence[Sequence[str]]) -> str:
    """Rows as text with columns of equal width; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Iterable[str]) -> str:
        cells = [
            cell.ljust(width) if not number else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * width for width in widths), *(line(row) for row in rows[1:])])
