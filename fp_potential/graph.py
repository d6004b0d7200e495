"""Structures as tensors: what every model of this package reads."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .distances import check_distinct, pair_lengths
from .periodicity import cell_of_graph, check_cell, completed_cell, is_along_periodic_axes


class Graph(NamedTuple):
    """A batch of structures with their neighbour lists.

    Rows 0 … n_owned-1 of ``positions`` are atoms of this process, the rest are ghosts (images or atoms of other
    ranks); in a single process there are no ghosts and ``edge_shifts`` carries the images instead.
    """

    positions: Tensor  #: (n_total, 3) Å
    species: Tensor  #: (n_total,) int64, index into the model's list of elements
    edge_index: Tensor  #: (2, n_edges) int64; row 0 receivers (owned, sorted), row 1 senders
    edge_shifts: Tensor  #: (n_edges, 3) Å; r_ij = x_j + shift - x_i
    batch: Tensor  #: (n_owned,) int64, structure of each owned atom (sorted)
    cell: Tensor  #: (n_graphs, 3, 3) Å, rows are vectors; those of open axes count in the volume of a stress only
    pbc: Tensor  #: (n_graphs, 3) bool
    total_charge: Tensor  #: (n_graphs,) e
    fermi_level: Tensor  #: (n_graphs,) eV, absolute; used at constant Fermi level
    external_field: Tensor  #: (n_graphs, 3) V/Å, gradient F of the potential (physical field E = -F)
    distributed: bool  #: True where other ranks own other atoms of the same structure


class Conditions(NamedTuple):
    """What a structure is under, beside its atoms and its cell."""

    total_charge: float = 0.0  #: e
    fermi_level: float = 0.0  #: eV, absolute
    external_field: Sequence[float] = (0.0, 0.0, 0.0)  #: V/Å, gradient F of the potential
    field_origin: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0)  #: Å, where that potential is zero


def to_device(graph: Graph, device: str | torch.device) -> Graph:
    """All tensors on ``device``."""
    moved = {name: value.to(device) for name, value in graph._asdict().items() if isinstance(value, Tensor)}
    return graph._replace(**moved)  # type: ignore[arg-type]


def neighbour_list(
    positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray]:
    """Full neighbour list: pairs ``(2, n_edges)`` sorted by receiver and the sender's cell ``(n_edges, 3)``, int64.

    There are no images along open axes, whatever their vectors are.

    Raises:
        ValueError: the vectors of the periodic axes are dependent.
    """
    import vesin

    pbc = np.asarray(pbc, dtype=bool)
    check_cell(cell, pbc)
    i, j, shifts = vesin.NeighborList(cutoff=cutoff, full_list=True).compute(
        np.ascontiguousarray(positions, dtype=np.float64), completed_cell(cell, pbc), periodic=pbc, quantities="ijS"
    )
    order = np.argsort(i.astype(np.int64), kind="stable")
    pairs = np.stack([i[order], j[order]]).astype(np.int64)
    return pairs, shifts[order].astype(np.int64)


def graph_from_arrays(
    positions: np.ndarray,
    numbers: np.ndarray,
    cell: np.ndarray,
    pbc: np.ndarray,
    elements: Sequence[int],
    cutoff: float,
    dtype: torch.dtype,
    conditions: Conditions | None = None,
    neighbours: tuple[np.ndarray, np.ndarray] | None = None,
) -> Graph:
    """One structure as a `Graph` on the CPU.

    Args:
        positions: ``(n, 3)`` Å.
        numbers: ``(n,)`` atomic numbers.
        cell: ``(3, 3)`` Å, rows are vectors; that of the graph is `periodicity.cell_of_graph`.
        pbc: ``(3,)`` bool.
        elements: atomic numbers that the model knows, in its order.
        cutoff: of the neighbour list, Å.
        dtype: of all real tensors.
        conditions: charge, level and field, zeros if None.  Positions of the graph, and dipoles of results, are
            relative to the origin of the field (`periodicity.field_origin`).
        neighbours: what `neighbour_list` gives for the structure and the cutoff, where it is known already.

    Raises:
        ValueError: naming what is wrong: no atoms, unknown elements, non-finite positions, two atoms in the same place
            (unless their ``neighbours`` are given), periodic vectors without a volume, area or length, or an external
            field along a periodic axis.
    """
    given = conditions or Conditions()
    numbers = np.asarray(numbers)
    positions = np.asarray(positions, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    field = np.asarray(given.external_field, dtype=np.float64)
    if len(numbers) == 0:
        raise ValueError("the structure has no atoms: there is nothing to calculate")
    unknown = sorted(set(numbers.tolist()) - set(elements))
    if unknown:
        from ase.data import chemical_symbols

        raise ValueError(
            f"unknown element {', '.join(chemical_symbols[z] for z in unknown)}: this model knows "
            f"{', '.join(chemical_symbols[z] for z in elements)}; train a model with these elements"
        )
    if not np.isfinite(positions).all():
        atom = int(np.flatnonzero(~np.isfinite(positions).all(axis=1))[0])
        raise ValueError(f"non-finite position of atom {atom}: {positions[atom].tolist()}; check the structure")
    cell = np.asarray(cell, dtype=np.float64)
    check_cell(cell, pbc)
    if is_along_periodic_axes(field, cell, pbc):
        raise ValueError(
            f"external field {field.tolist()} has a component along a periodic axis (pbc = {pbc.tolist()}, cell = "
            f"{cell.tolist()}), where its potential is not periodic; set that component to zero or make the axis "
            "non-periodic"
        )
    box = cell_of_graph(cell, pbc)
    if neighbours is None:
        pairs, cells = neighbour_list(positions, cell, pbc, cutoff)
        check_distinct(pairs, pair_lengths(positions, box, pairs, cells))
    else:
        pairs, cells = neighbours
    index = np.full(max(elements) + 1, -1, dtype=np.int64)
    index[list(elements)] = np.arange(len(elements))
    shifts = cells.astype(np.float64) @ box
    return Graph(
        positions=torch.tensor(positions - np.asarray(given.field_origin, dtype=np.float64), dtype=dtype),
        species=torch.tensor(index[numbers]),
        edge_index=torch.tensor(pairs),
        edge_shifts=torch.tensor(shifts, dtype=dtype),
        batch=torch.zeros(len(numbers), dtype=torch.int64),
        cell=torch.tensor(box, dtype=dtype).reshape(1, 3, 3),
        pbc=torch.tensor(pbc).reshape(1, 3),
        total_charge=torch.tensor([given.total_charge], dtype=dtype),
        fermi_level=torch.tensor([given.fermi_level], dtype=dtype),
        external_field=torch.tensor(field, dtype=dtype).reshape(1, 3),
        distributed=False,
    )


def graph_from_atoms(
    atoms,
    elements: Sequence[int],
    cutoff: float,
    dtype: torch.dtype,
    total_charge: float = 0.0,
    fermi_level: float = 0.0,
    external_field: Sequence[float] = (0.0, 0.0, 0.0),
    neighbours: tuple[np.ndarray, np.ndarray] | None = None,
    field_origin: Sequence[float] | np.ndarray = (0.0, 0.0, 0.0),
) -> Graph:
    """An ``ase.Atoms`` as a `Graph`; arguments and errors as in `graph_from_arrays` and `Conditions`.

    Nothing is read from ``atoms.info``:

    >>> import torch
    >>> from ase.build import molecule
    >>> from fp_potential.graph import graph_from_atoms
    >>> water = molecule("H2O")
    >>> graph = graph_from_atoms(water, [1, 8], 3.0, torch.float64, total_charge=-1.0)
    >>> graph.species.tolist(), graph.total_charge.tolist()
    ([1, 0, 0], [-1.0])
    >>> graph.edge_index.shape  # every atom is a neighbour of both others
    torch.Size([2, 6])
    """
    return graph_from_arrays(
        atoms.get_positions(),
        atoms.get_atomic_numbers(),
        atoms.cell.array,
        atoms.pbc,
        elements,
        cutoff,
        dtype,
        Conditions(total_charge, fermi_level, external_field, field_origin),
        neighbours,
    )


def collate(graphs: Sequence[Graph]) -> Graph:
    """Several structures as one batch, without padding; all on one process."""
    offsets = np.cumsum([0] + [g.positions.shape[0] for g in graphs])
    structures = np.cumsum([0] + [g.cell.shape[0] for g in graphs])
    return Graph(
        positions=torch.cat([g.positions for g in graphs]),
        species=torch.cat([g.species for g in graphs]),
        edge_index=torch.cat([g.edge_index + int(o) for g, o in zip(graphs, offsets, strict=False)], dim=1),
        edge_shifts=torch.cat([g.edge_shifts for g in graphs]),
        batch=torch.cat([g.batch + int(s) for g, s in zip(graphs, structures, strict=False)]),
        cell=torch.cat([g.cell for g in graphs]),
        pbc=torch.cat([g.pbc for g in graphs]),
        total_charge=torch.cat([g.total_charge for g in graphs]),
        fermi_level=torch.cat([g.fermi_level for g in graphs]),
        external_field=torch.cat([g.external_field for g in graphs]),
        distributed=False,
    )
