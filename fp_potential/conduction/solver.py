"""The state of one structure, from whatever gives the outputs of a model archive."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

from ..graph import Conditions, Graph, graph_from_arrays, to_device


class NotConverged(ValueError):
    """The self-consistent loop of a structure failed."""


@contextmanager
def noted(notes: list[str], what: str) -> Iterator[None]:
    """A loop that fails inside ends the block and adds a line to ``notes``."""
    try:
        yield
    except NotConverged as error:
        notes.append(f"{what}: {error}")


class State(NamedTuple):
    """A self-consistent state."""

    density: np.ndarray  #: (n, 4) [q, d_y, d_z, d_x], e and e Å
    level: float  #: absolute Fermi level, eV
    charge: float  #: total charge, e
    conducts: bool  #: whether the model says that there is a Fermi level; models that say nothing always have one

    @property
    def charges(self) -> np.ndarray:
        """``(n,)`` e."""
        return self.density[:, 0]

    def dipole(self, positions: np.ndarray) -> np.ndarray:
        """Dipole ``(3,)`` about the origin of ``positions`` ``(n, 3)``, e Å."""
        return self.charges @ positions + self.density[:, [3, 1, 2]].sum(0)


@dataclass(frozen=True)
class StructureSolver:
    """A model; called with a structure it gives its state.

    ``run(graph, constant_charge, density, level)`` gives the outputs of an archive (`export.OUTPUTS`) that starts from
    a density ``(n, 4)`` and an absolute Fermi level ``(1,)``, or, without rows, from its own guess. Of them are read:
    ``density``, ``fermi_level``, ``total_charge``, ``status`` (0: converged) and, where it is there, ``conducts``.
    """

    run: Callable[[Graph, bool, Tensor, Tensor], dict[str, Tensor]]
    elements: Sequence[int]  #: atomic numbers, the model's list
    cutoff: float  #: of its neighbour lists, Å
    dtype: torch.dtype
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __call__(
        self,
        atoms: Atoms,
        conditions: Conditions | None = None,
        constant_charge: bool = True,
        start: State | None = None,
    ) -> State:
        """The state of ``atoms`` at the charge, or the Fermi level, of ``conditions``; the loop begins at ``start``.

        Raises:
            NotConverged: the loop failed.
            ValueError: an element the model does not know, or another mistake in the structure.
        """
        arrays = (atoms.positions, atoms.numbers, atoms.cell.array, atoms.pbc)
        graph = to_device(graph_from_arrays(*arrays, self.elements, self.cutoff, self.dtype, conditions), self.device)
        like = graph.positions
        density, level = like.new_zeros((0, 4)), like.new_zeros(0)
        if start is not None:
            density, level = like.new_tensor(start.density), like.new_tensor([start.level])
        output = self.run(graph, constant_charge, density, level)
        status = int(output["status"][0])
        if status != 0:
            raise NotConverged(f"the self-consistent loop of {len(atoms)} atoms ended with status {status}")
        says = output.get("conducts")
        return State(
            output["density"].detach().cpu().numpy().astype(np.float64),
            float(output["fermi_level"][0]),
            float(output["total_charge"][0]),
            True if says is None else bool(says[0]),
        )
