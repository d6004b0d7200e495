"""A periodic crystal in atomic units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import ase
import numpy as np
import torch
from torch import Tensor

from ..lattice import cell_volume, reciprocal_cell
from .units import BOHR


@dataclass(frozen=True, eq=False)
class Crystal:
    """Cell ``(3, 3)`` (rows are vectors, Bohr), one species per atom, positions ``(n, 3)`` in fractions of the cell.

    ``reference_volume`` (Bohr³) is the volume of the unstrained cell, to which the strain term refers; by default that
    of this cell. `scaled` and `strained` keep it.

    Raises ValueError if the cell is flat, an array has another shape, or there is not one species per position.
    """

    cell: Tensor
    species: tuple[str, ...]
    positions: Tensor
    reference_volume: float | None = None

    def __post_init__(self) -> None:
        cell = torch.as_tensor(np.asarray(self.cell), dtype=torch.float64)
        positions = torch.as_tensor(np.asarray(self.positions), dtype=torch.float64)
        species = tuple(self.species)
        if cell.shape != (3, 3) or not bool(torch.isfinite(cell).all()) or float(cell_volume(cell)) < 1e-9:
            raise ValueError(f"`cell` must be three independent vectors (3, 3) in Bohr, not {cell.tolist()}")
        if positions.shape != (len(species), 3) or not species or not bool(torch.isfinite(positions).all()):
            raise ValueError(
                f"`positions` must be fractions ({len(species)}, 3), a row for each of the species {species}, "
                f"not an array of shape {tuple(positions.shape)}"
            )
        object.__setattr__(self, "cell", cell)
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "species", species)

    @property
    def volume(self) -> float:
        """Volume of the cell, Bohr³."""
        return float(cell_volume(self.cell))

    @property
    def volume_ratio(self) -> float:
        """Volume of the cell in units of ``reference_volume``."""
        return 1.0 if self.reference_volume is None else self.volume / self.reference_volume

    @property
    def reciprocal(self) -> Tensor:
        """Reciprocal vectors (rows, 1/Bohr), b_i · a_j = 2 pi delta_ij."""
        return reciprocal_cell(self.cell)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The distinct species, in the order in which they first occur."""
        return tuple(dict.fromkeys(self.species))

    @property
    def kind_of_atom(self) -> Tensor:
        """Index of each atom's species in `kinds`, ``(n,)``."""
        kinds = self.kinds
        return torch.tensor([kinds.index(s) for s in self.species])

    def scaled(self, ratio: float) -> Crystal:
        """The crystal with all lengths multiplied by ``ratio``."""
        return self.strained(ratio * np.eye(3))

    def strained(self, deformation: Sequence[Sequence[float]] | np.ndarray | Tensor) -> Crystal:
        """The crystal with every vector r taken to F r, F ``(3, 3)``; the atoms follow the cell."""
        matrix = torch.as_tensor(np.asarray(deformation), dtype=torch.float64)
        reference = self.volume if self.reference_volume is None else self.reference_volume
        return replace(self, cell=self.cell @ matrix.T, reference_volume=reference)

    @classmethod
    def from_ase(cls, atoms: ase.Atoms) -> Crystal:
        """The crystal of ASE's atoms (Å); they must be periodic in all three directions."""
        if not all(atoms.pbc):
            raise ValueError(f"a crystal is periodic in three directions, these atoms in {tuple(atoms.pbc)}")
        cell = torch.from_numpy(np.asarray(atoms.cell) / BOHR)
        positions = torch.from_numpy(atoms.get_scaled_positions(wrap=False))
        return cls(cell, tuple(atoms.get_chemical_symbols()), positions)

    def to_ase(self) -> ase.Atoms:
        """ASE's atoms (Å)."""
        return ase.Atoms(
            list(self.species), scaled_positions=self.positions.numpy(), cell=self.cell.numpy() * BOHR, pbc=True
        )
