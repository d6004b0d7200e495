"""Memory that a particle mesh will take, before it is allocated; for models and for archives of any age."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from .cost import Work

#: arrays of the size of the mesh that an application, its derivative and the filters hold: for the density, and for
#: every receiver; 150 bytes per point with two receivers in double precision, as measured for a molecule in boxes of
#: 80 and 110 Å (peak of the process)
FOR_DENSITY, FOR_RECEIVER = 1, 6
#: volume per atom of a cell that is mostly empty, Å³: a gas at 20 times normal density
EMPTY = 1000.0
#: bytes from which a mesh that is mostly empty deserves a word
MUCH = 1e9


class MeshMemory(NamedTuple):
    """What the mesh of a structure takes."""

    shape: list[int]  #: points along each axis
    size: float  #: bytes
    atoms: int
    volume: float  #: Å³ of the padded cell

    def sentence(self) -> str:
        """Its size."""
        points = " x ".join(map(str, self.shape))
        return f"the mesh of the long range has {points} points for {self.atoms} atoms and takes about {_gb(self.size)}"

    @property
    def advice(self) -> str:
        """What would need less."""
        less = "ask for less kspace_accuracy"
        if self.volume / self.atoms < EMPTY:
            return less
        return (
            f"the cell is mostly empty ({self.volume / self.atoms:.0f} Å³ per atom): make the axes along which there "
            f"is nothing open axes (pbc False), which need no vacuum, or {less}"
        )


def mesh_memory(electrostatics: Any, positions: Tensor, cell: Tensor, pbc: Tensor) -> MeshMemory | None:
    """What the mesh of one structure takes in one process; None where no mesh is used.

    Args:
        electrostatics: an `operator.Electrostatics`, also that of an archive (of one too old to be asked: None).
        positions: ``(n, 3)`` Å; ``cell`` ``(3, 3)``; ``pbc`` ``(3,)`` bool.
    """
    e, atoms = electrostatics, float(positions.shape[0])
    if not (hasattr(e, "times") and hasattr(e, "mesh")):  # of archives from before there was a choice
        return None
    open_axes = [not bool(axis) for axis in pbc]
    if e.method == "open" or e.times.by_pairs(e.method, all(open_axes), atoms):
        return None
    accuracy = max(e.accuracy, e.tightest_single) if positions.dtype == torch.float32 else e.accuracy
    box = e.mesh.box(positions, cell, open_axes, accuracy, False)
    work = Work(atoms, 1.0, box, e.open_cutoff if any(open_axes) else e.kspace_cutoff)
    if not e.times.mesh_is_tried(e.method, work):
        return None
    choice = e.mesh.choose(box, accuracy, atoms, 1.0)
    if not e.times.by_mesh(e.method, work, choice.time):
        return None
    points = float(torch.tensor(choice.shape, dtype=torch.float64).prod())
    arrays = FOR_DENSITY + FOR_RECEIVER * (e.n_widths + 1)
    volume = float(torch.tensor(box.lengths, dtype=torch.float64).prod())
    return MeshMemory(list(choice.shape), points * arrays * positions.element_size(), positions.shape[0], volume)


def demand_memory(found: MeshMemory | None, device: torch.device) -> str:
    """Refuse a mesh that does not fit; a sentence on one that is large for nothing, else empty.

    Raises:
        ValueError: naming its size and what is free.
    """
    if found is None:
        return ""
    free = free_memory(device)
    if free is not None and found.size > free:
        raise ValueError(f"{found.sentence()}, more than the {_gb(free)} that are free; {found.advice}")
    if found.size > MUCH and found.volume / found.atoms > EMPTY:
        return f"{found.sentence()}; {found.advice}"
    return ""


def free_memory(device: torch.device) -> float | None:
    """Bytes that can be allocated on a device without swapping; None where nobody says."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return 1024.0 * float(rows["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
