"""What a calculation reads from atoms: total charge or Fermi level, field, start of the loop, and the graph."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ..graph import Graph, graph_from_atoms, to_device
from ..options import PERIODIC_AXES, SCFOptions
from ..periodicity import completed_cell, field_origin, letters
from .published_arguments import PublishedArguments


class Given(NamedTuple):
    """Charge, level and field as the arguments or ``atoms.info`` give them; None where they do not."""

    total_charge: float | None  #: e
    fermi_level: float | None  #: eV
    external_field: tuple[float, ...] | None  #: (3,) F = -E, V/Å


class State(NamedTuple):
    """What is held in a calculation, and the field."""

    total_charge: float  #: e
    fermi_level: float | None  #: eV; None: constant charge
    external_field: tuple[float, ...]  #: (3,) F = -E, V/Å


def gradient_of(electric_field: Any) -> tuple[float, ...] | None:
    """Gradient F = -E of the potential of a physical field E ``(3,)``, V/Å; None for None."""
    return None if electric_field is None else tuple((-np.asarray(electric_field, dtype=float)).tolist())


@dataclass(frozen=True)
class InputReader:
    """Reads charge, level, field and start from atoms, and makes their graph for one model."""

    elements: list[int]  #: atomic numbers that the model knows
    cutoff: float  #: Å
    dtype: torch.dtype
    device: torch.device
    scf: SCFOptions
    charge_key: str  #: entries of ``atoms.info``: total charge,
    field_key: str  #: F = -E,
    level_key: str  #: and Fermi level that is held, or that the search starts from
    density_key: str  #: array of reference multipoles
    pbc_handling: str  #: ``electrostatic_pbc_method`` that demands a number of periodic axes
    field_origin: Any  #: where the potential of the field is zero, Å; None: `periodicity.field_origin`
    jellium_bounds: tuple[float, float] | None  #: heights of a compensating slab's faces, Å

    def of_info(self, info: dict[str, Any]) -> Given:
        """What ``atoms.info`` says of charge, Fermi level and field.

        Raises:
            ValueError: both signs of the field are given.
        """
        electric, gradient = info.get("electric_field"), info.get(self.field_key)
        if electric is not None and gradient is not None:
            raise ValueError(f"give atoms.info['electric_field'] (E) or ['{self.field_key}'] (F = -E), not both")
        level = info.get("fermi_level")
        if level is None and not self.scf.constant_charge:
            level = info.get(self.level_key)
        field = gradient_of(electric) if gradient is None else tuple(np.asarray(gradient, dtype=float).tolist())
        return Given(info.get(self.charge_key), level, field)

    def state(self, atoms: Atoms, arguments: Given) -> State:
        """Charge, Fermi level and field of a calculation: ``arguments`` where they are given, else ``atoms.info``.

        A charge among the arguments wins over a level of ``info``. Warns where neither charge nor level is given.

        Raises:
            ValueError: a Fermi level has to be held, and none is given.
        """
        info = self.of_info(atoms.info)
        level = arguments.fermi_level if arguments.fermi_level is not None else info.fermi_level
        charge = arguments.total_charge if arguments.total_charge is not None else info.total_charge
        if arguments.total_charge is not None:
            level = None
        if level is None and not self.scf.constant_charge:
            raise ValueError(
                "constant_charge: false holds a Fermi level: give the argument `fermi_level`, or "
                f"atoms.info['fermi_level'] or ['{self.level_key}'], in eV, and no argument `total_charge`"
            )
        if level is None and charge is None:
            warnings.warn(
                "no total charge given: using 0; set atoms.info['total_charge'] or the argument `total_charge`",
                stacklevel=4,
            )
        field = info.external_field if arguments.external_field is None else arguments.external_field
        none = (0.0, 0.0, 0.0)
        return State(float(charge or 0.0), None if level is None else float(level), none if field is None else field)

    def graph(self, atoms: Atoms, state: State) -> Graph:
        """The graph of ``atoms`` in ``state``, on the device.

        Raises:
            ValueError: not the periodic axes that ``pbc_handling`` demands, and errors of `graph.graph_from_arrays`.
        """
        pbc = atoms.pbc
        demanded = PERIODIC_AXES.get(self.pbc_handling, pbc.sum())
        if pbc.sum() != demanded:
            raise ValueError(
                f"pbc is {letters(pbc)}, but `pbc_handling` '{self.pbc_handling}' is for {demanded} periodic axes"
            )
        graph = graph_from_atoms(
            atoms,
            self.elements,
            self.cutoff,
            self.dtype,
            total_charge=state.total_charge,
            fermi_level=state.fermi_level or 0.0,
            external_field=state.external_field,
            field_origin=self.origin(atoms),
        )
        return to_device(graph, self.device)

    def origin(self, atoms: Atoms) -> np.ndarray:
        """Where the potential of the field is zero ``(3,)``, Å; with a compensating jellium the height of its middle.

        Raises:
            ValueError: a jellium without two periodic axes.
        """
        cell, pbc = atoms.cell.array, atoms.pbc
        if self.jellium_bounds is None:
            return field_origin(cell, pbc) if self.field_origin is None else np.asarray(self.field_origin, dtype=float)
        if pbc.sum() != 2:
            raise ValueError(
                f"`compensating_jellium` is for structures with two periodic axes (slabs), got pbc = {letters(pbc)}"
            )
        return 0.5 * sum(self.jellium_bounds) * completed_cell(cell, pbc)[~pbc][0]

    def start(self, atoms: Atoms, last: tuple[np.ndarray, torch.Tensor] | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Density ``(n, 4)`` and Fermi level ``(1,)`` that the loop starts from; no rows: the model's own.

        ``last`` are the atomic numbers and the density of the last solution.

        Raises:
            ValueError: ``from_data`` without data.
        """
        return self._density(atoms, last), self._level(atoms)

    def _density(self, atoms: Atoms, last: tuple[np.ndarray, torch.Tensor] | None) -> torch.Tensor:
        start = torch.zeros((0, 4), dtype=self.dtype, device=self.device)
        if self.scf.initial_density == "restart" and last is not None:
            numbers, density = last
            return density if np.array_equal(numbers, atoms.numbers) else start
        if self.scf.initial_density == "from_data":
            given = atoms.arrays.get(self.density_key)
            if given is None or given.shape != (len(atoms), 4):
                raise ValueError(
                    f"initial_density 'from_data' needs atoms.arrays['{self.density_key}'] with 4 columns "
                    f"[q, d_y, d_z, d_x], got {None if given is None else given.shape}"
                )
            return torch.tensor(given, dtype=self.dtype, device=self.device)
        return start

    def _level(self, atoms: Atoms) -> torch.Tensor:
        if self.scf.initial_fermi_level == "zero":
            return torch.zeros(0, dtype=self.dtype, device=self.device)
        level = atoms.info.get(self.level_key)
        if level is None:
            raise ValueError(f"initial_fermi_level 'from_data' needs atoms.info['{self.level_key}'] in eV")
        return torch.tensor([float(level)], dtype=self.dtype, device=self.device)


def input_reader(
    metadata: dict[str, Any],
    device: torch.device,
    scf: SCFOptions,
    said: PublishedArguments,
    density_key: str,
    field_origin: Any,
) -> InputReader:
    """The reader for an archive with ``metadata`` and the arguments of the calculator."""
    return InputReader(
        elements=[atomic_numbers[symbol] for symbol in metadata["elements"]],
        cutoff=float(metadata["cutoff"]),
        dtype=getattr(torch, metadata["dtype"]),
        device=device,
        scf=scf,
        charge_key=said.info_keys.get("total_charge", "total_charge"),
        field_key=said.info_keys.get("external_field", "external_field"),
        level_key=said.info_keys.get("fermi_level", "initial_fermi_level"),
        density_key=density_key,
        pbc_handling=said.pbc_handling,
        field_origin=field_origin,
        jellium_bounds=said.jellium_bounds,
    )
