"""What a calculation reads from atoms: total charge or Fermi level, field, start of the loop, and the graph."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from ase import Atoms
from ase.data import atomic_numbers

from ..distances import shortest_by_elements
from ..electrostatics.memory import demand_memory, mesh_memory
from ..graph import Graph, graph_from_atoms, to_device
from ..options import PERIODIC_AXES, SCFOptions
from ..periodicity import completed_cell, field_origin, letters
from ..training_ranges import Ranges, far_density, far_distances, far_inputs, ranges_of
from .info_keys import LEVEL, InfoKeys, info_keys
from .published_arguments import PublishedArguments


class Given(NamedTuple):
    """Charge, level and field as the arguments or ``atoms.info`` give them; None where they do not."""

    total_charge: float | None = None  #: e
    fermi_level: float | None = None  #: eV
    external_field: tuple[float, ...] | None = None  #: (3,) F = -E, V/Å


class State(NamedTuple):
    """What is held in a calculation, and the field."""

    total_charge: float  #: e
    fermi_level: float | None  #: eV; None: constant charge
    external_field: tuple[float, ...]  #: (3,) F = -E, V/Å


def number(value: Any, name: str) -> float | None:
    """A finite number, also in an array of one; None for None.

    Raises:
        ValueError: it is something else.
    """
    found = _finite(value, name, 1, "a number")
    return None if found is None else found[0]


def vector(value: Any, name: str) -> tuple[float, ...] | None:
    """Three finite numbers; None for None.

    Raises:
        ValueError: it is something else.
    """
    found = _finite(value, name, 3, "3 numbers")
    return None if found is None else tuple(found)


def _finite(value: Any, name: str, size: int, expected: str) -> list[float] | None:
    if value is None:
        return None
    found = _floats(value)
    if found is None or found.size != size:
        raise ValueError(f"{name} must be {expected}, got {value!r}")
    if not np.isfinite(found).all():
        raise ValueError(f"{name} is not finite: {float(found.reshape(())) if size == 1 else found.tolist()}")
    return found.reshape(size).tolist()


def _floats(value: Any) -> np.ndarray | None:
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        return None


def gradient_of(electric_field: Sequence[float] | None) -> tuple[float, ...] | None:
    """Gradient F = -E of the potential of a physical field E ``(3,)``, V/Å; None for None."""
    return None if electric_field is None else tuple(-component for component in electric_field)


@dataclass(frozen=True)
class InputReader:
    """Reads charge, level, field and start from atoms, and makes their graph for one model."""

    elements: list[int]  #: atomic numbers that the model knows
    cutoff: float  #: Å
    dtype: torch.dtype
    device: torch.device
    scf: SCFOptions
    keys: InfoKeys
    pbc_handling: str  #: ``electrostatic_pbc_method`` that demands a number of periodic axes
    ranges: Ranges  #: of the training
    jellium_bounds: tuple[float, float] | None  #: heights of a compensating slab's faces, Å
    holds_charge: bool | None = None  #: ``constant_charge`` of the user; None: nothing was said
    field_origin: Any = None  #: where the potential of the field is zero, Å; None: `periodicity.field_origin`
    said: set[str] = field(default_factory=set)  #: warnings that were given: each is given once

    def entries(self, atoms: Atoms) -> str:
        """Everything of ``atoms.info`` and ``atoms.arrays`` that a calculation depends on, to be compared."""
        found: dict[str, Any] = {key: atoms.info[key] for key in self.keys.all_of_info() if key in atoms.info}
        if self.scf.initial_density == "from_data":
            found[self.keys.density] = atoms.arrays.get(self.keys.density)
        return repr({key: np.asarray(value).tolist() for key, value in found.items()})

    def of_info(self, info: Mapping[str, Any]) -> Given:
        """What ``atoms.info`` says of charge, Fermi level and field.

        Raises:
            ValueError: a value that is no finite number or no field, and entries that contradict one another.
        """
        charge, _ = self._one_of(info, self.keys.charges)
        levels = (LEVEL,) if self.scf.constant_charge else (LEVEL, *self.keys.start_levels)
        level = next((number(info[key], _entry(key)) for key in levels if info.get(key) is not None), None)
        present = [key for key in self.keys.fields if info.get(key) is not None]
        if len(present) > 1:
            meanings = " or ".join(f"['{key}'] ({'E' if self.keys.fields[key] < 0 else 'F = -E'})" for key in present)
            raise ValueError(f"give the field in one entry of atoms.info, {meanings}, not in both")
        gradient = None
        for key in present:
            found = vector(info[key], _entry(key))
            gradient = found if self.keys.fields[key] > 0 else gradient_of(found)
        return Given(charge, level, gradient)

    def state(self, atoms: Atoms, arguments: Given) -> State:
        """Charge, Fermi level and field of a calculation: ``arguments`` where they are given, else ``atoms.info``.

        What the user said in arguments wins; an entry of ``info`` that is ignored is named once, as is a charge that
        nobody gives.

        Raises:
            ValueError: a Fermi level has to be held, and none is given.
        """
        info = self.of_info(atoms.info)
        level = self._level_held(atoms.info, info, arguments)
        charge = arguments.total_charge if arguments.total_charge is not None else info.total_charge
        if level is None and not self.scf.constant_charge:
            raise ValueError(
                "constant_charge: false holds a Fermi level: give the argument `fermi_level`, or "
                f"atoms.info['{LEVEL}'] or ['{self.keys.start_levels[0]}'], in eV, and no argument `total_charge`"
            )
        if level is None and charge is None:
            self.say(
                f"no total charge given: using 0; set atoms.info['{self.keys.charges[0]}'] or the argument "
                "`total_charge`"
            )
        if None not in (arguments.total_charge, info.total_charge) and arguments.total_charge != info.total_charge:
            key = self._one_of(atoms.info, self.keys.charges)[1]
            self.say(f"{_entry(key)} is ignored: the argument `total_charge` is given")
        field = info.external_field if arguments.external_field is None else arguments.external_field
        if arguments.external_field is None:
            self._remark(atoms.info, self.keys.fields)
        elif info.external_field not in (None, arguments.external_field):
            key = next(key for key in self.keys.fields if atoms.info.get(key) is not None)
            self.say(f"{_entry(key)} is ignored: the argument `electric_field` is given")
        return State(charge or 0.0, level, field or (0.0, 0.0, 0.0))

    def _level_held(self, entries: Mapping[str, Any], info: Given, arguments: Given) -> float | None:
        """The Fermi level to hold; None where the charge is held."""
        if arguments.fermi_level is not None:
            if info.total_charge is not None:
                key = self._one_of(entries, self.keys.charges)[1]
                self.say(f"{_entry(key)} is ignored: the argument `fermi_level` is given")
            return arguments.fermi_level
        if info.fermi_level is None:
            return None
        ignored = ""
        if arguments.total_charge is not None:
            ignored = "the argument `total_charge` is given"
        elif self.holds_charge is True:
            ignored = "the charge is held, constant_charge: true"
        elif self.holds_charge is None and info.total_charge is not None:
            key = self._one_of(entries, self.keys.charges)[1]
            if self.keys.level_is_label:
                ignored = (
                    f"{_entry(key)} is held, as the model was trained with Fermi levels as labels; the argument "
                    "`fermi_level`, or constant_charge: false among `scf_options`, holds the level"
                )
            elif self.scf.constant_charge:
                self.say(
                    f"{_entry(key)} is ignored: {_entry(LEVEL)} is held; scf_options={{'constant_charge': True}} holds "
                    "the charge"
                )
        if ignored:
            if entries.get(LEVEL) is not None:
                self.say(f"{_entry(LEVEL)} is ignored: {ignored}")
            return None
        self._remark(entries, (LEVEL, *self.keys.start_levels))
        return info.fermi_level

    def _one_of(self, info: Mapping[str, Any], keys: Sequence[str]) -> tuple[float | None, str]:
        """The number under the first of ``keys`` that is there, and that key.

        Raises:
            ValueError: two of them hold different numbers.
        """
        found = {key: number(info[key], _entry(key)) for key in keys if info.get(key) is not None}
        if len(set(found.values())) > 1:
            listed = ", ".join(f"{_entry(key)} = {value:g}" for key, value in found.items())
            raise ValueError(f"{listed} contradict each other: leave one of them out")
        return next(((value, key) for key, value in found.items()), (None, keys[0]))

    def _remark(self, info: Mapping[str, Any], keys: Sequence[str] | Mapping[str, Any]) -> None:
        """Say what has to be said of those entries that are used."""
        for key in keys:
            if info.get(key) is not None and key in self.keys.remarks:
                self.say(self.keys.remarks[key])

    def say(self, text: str, stacklevel: int = 6) -> None:
        """Warn, once."""
        if text not in self.said:
            self.said.add(text)
            warnings.warn(text, stacklevel=stacklevel)

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

    def far_structure(self, atoms: Atoms, state: State, graph: Graph) -> dict[str, str]:
        """What of a structure and its state is far outside the training (`training_ranges`)."""
        if not self.ranges:
            return {}
        charge = state.total_charge if state.fermi_level is None else None
        found = far_inputs(self.ranges, charge, state.fermi_level, np.array(state.external_field), len(atoms))
        i, j = graph.edge_index
        lengths = (graph.positions[j] + graph.edge_shifts - graph.positions[i]).norm(dim=1)
        shortest = shortest_by_elements(atoms.numbers, graph.edge_index.cpu().numpy(), lengths.double().cpu().numpy())
        return found | far_distances(self.ranges, shortest)

    def check_memory(self, electrostatics: Any, graph: Graph) -> None:
        """Refuse a mesh that does not fit the memory, and say that one is large for nothing.

        Raises:
            ValueError: as `electrostatics.memory.demand_memory`.
        """
        found = mesh_memory(electrostatics, graph.positions, graph.cell[0], graph.pbc[0])
        said = demand_memory(found, self.device)
        if said:
            self.say(said)

    def far_solution(self, atoms: Atoms, state: State, out: Mapping[str, torch.Tensor]) -> dict[str, str]:
        """What of a solution is."""
        if not self.ranges:
            return {}
        conducts = "conducts" not in out or bool(out["conducts"][0])
        level = float(out["fermi_level"][0]) if conducts else None
        found = far_inputs(self.ranges, float(out["total_charge"][0]), level, np.zeros(3), len(atoms))
        return found | far_density(self.ranges, atoms.numbers, out["density"].double().cpu().numpy())

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
            name = f"atoms.arrays['{self.keys.density}']"
            given = atoms.arrays.get(self.keys.density)
            if given is None or given.shape != (len(atoms), 4):
                raise ValueError(
                    f"initial_density 'from_data' needs {name} with 4 columns [q, d_y, d_z, d_x], got "
                    f"{None if given is None else given.shape}"
                )
            if not np.isfinite(given).all():
                raise ValueError(f"{name} is not finite: initial_density 'from_data' cannot begin there")
            return torch.tensor(given, dtype=self.dtype, device=self.device)
        return start

    def _level(self, atoms: Atoms) -> torch.Tensor:
        if self.scf.initial_fermi_level == "zero":
            return torch.zeros(0, dtype=self.dtype, device=self.device)
        levels = (number(atoms.info.get(key), _entry(key)) for key in self.keys.start_levels)
        level = next((value for value in levels if value is not None), None)
        if level is None:
            raise ValueError(
                f"initial_fermi_level 'from_data' needs {' or '.join(map(_entry, self.keys.start_levels))} in eV"
            )
        return torch.tensor([level], dtype=self.dtype, device=self.device)


def _entry(key: str) -> str:
    return f"atoms.info['{key}']"


def input_reader(
    metadata: dict[str, Any],
    device: torch.device,
    scf: SCFOptions,
    said: PublishedArguments,
    density_key: str | None,
) -> InputReader:
    """The reader for an archive with ``metadata`` and the arguments of the calculator."""
    return InputReader(
        elements=[atomic_numbers[symbol] for symbol in metadata["elements"]],
        cutoff=float(metadata["cutoff"]),
        dtype=getattr(torch, metadata["dtype"]),
        device=device,
        scf=scf,
        keys=info_keys(metadata, said.info_keys, density_key),
        pbc_handling=said.pbc_handling,
        ranges=ranges_of(metadata),
        jellium_bounds=said.jellium_bounds,
    )
