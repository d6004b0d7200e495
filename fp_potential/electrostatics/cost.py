"""The choice of the method by its estimated time, from the counts of atoms, waves and mesh points."""

import math
from typing import NamedTuple

from torch import nn

from .boundary import Box

#: ns of an application of the sum over waves: fixed, and per atom, wave and channel (densities and receivers); of the
#: mesh: fixed, per atom and point of a stencil, and per mesh point.  Measured in one thread with two receivers by
#: ``benchmarks/electrostatics.py --crossover``; only their ratios decide
WAVES_FIXED, WAVE_TIME = 1.0e5, 3.0
MESH_FIXED, STENCIL_TIME, POINT_TIME = 2.0e5, 1.0, 14.0
#: numbers in the tables of waves of a process above which they are refused: 16 GB in double precision
MOST_WAVES = 2.0**31
#: smallest stencil that is worth trying
SMALL_STENCIL = 6**3
#: atoms of an isolated structure from which a mesh takes less time than the erf kernels and their tables
MOST_PAIRED = 250.0


class Work(NamedTuple):
    """What a sum over the waves of one structure takes."""

    atoms: float  #: of the structure, in all processes
    processes: float
    box: Box  #: for the accuracy of the sum over waves
    cutoff: float  #: largest k, 1/Å


class MethodTimes(nn.Module):
    """Estimated times (ns) of an application with ``n_widths`` receivers, and what they decide.

    ``method`` is that of `options.kspace.KSpaceMethod`; what is not "auto" is taken at its word.
    """

    def __init__(self, n_widths: int) -> None:
        super().__init__()
        self.waves_fixed, self.per_wave = WAVES_FIXED, WAVE_TIME * (1 + n_widths)
        self.mesh_fixed, self.per_stencil, self.per_point = MESH_FIXED, STENCIL_TIME, POINT_TIME
        self.small_stencil, self.most_paired = float(SMALL_STENCIL), MOST_PAIRED
        self.most_waves = MOST_WAVES

    def number_of_waves(self, work: Work) -> float:
        """About V k³ / 12 pi² in the half sphere."""
        lengths = work.box.lengths
        return 1.0 + lengths[0] * lengths[1] * lengths[2] * work.cutoff**3 / (12.0 * math.pi**2)

    def waves(self, work: Work) -> float:
        """Of the sum over waves."""
        return self.waves_fixed + work.atoms * self.per_wave * self.number_of_waves(work)

    def mesh(self, atoms: float, stencil: float, points: float) -> float:
        """Of a mesh of so many ``points``, with a ``stencil`` of so many for every atom."""
        return self.mesh_fixed + atoms * stencil * self.per_stencil + points * self.per_point

    def by_pairs(self, method: str, isolated: bool, atoms: float) -> bool:
        """Whether a structure of so many atoms, ``isolated`` without periodic axes, has the erf kernels.

        Raises:
            ValueError: they were asked for, and the structure is periodic.
        """
        if method == "open" and not isolated:
            raise ValueError("kspace method open is for structures without periodic axes; use auto, reciprocal or mesh")
        return isolated and (method == "open" or (method == "auto" and atoms <= self.most_paired))

    def mesh_is_tried(self, method: str, work: Work) -> bool:
        """Whether it is worth while to choose a mesh: not where the sum over waves takes less time than any."""
        if method == "auto":
            return self.waves(work) > self.mesh(work.atoms, self.small_stencil, 0.0)
        return method != "reciprocal"

    def by_mesh(self, method: str, work: Work, mesh_time: float) -> bool:
        """Whether a mesh that takes ``mesh_time`` is used rather than the sum over waves."""
        return method == "mesh" or mesh_time < self.waves(work) or not self.waves_fit(work)

    def waves_fit(self, work: Work) -> bool:
        """Whether the tables of the atoms of a process can be held."""
        return 2.0 * work.atoms / work.processes * self.number_of_waves(work) <= self.most_waves

    def check_waves(self, work: Work) -> None:
        """Refuse a sum over more waves than can be held.

        Raises:
            ValueError: saying how many.
        """
        if not self.waves_fit(work):
            raise ValueError(
                f"kspace method reciprocal has about {int(self.number_of_waves(work))} waves for {int(work.atoms)} "
                "atoms, more than fit memory; use mesh or auto"
            )
