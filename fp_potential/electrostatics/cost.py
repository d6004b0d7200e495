"""Which method takes the least time, from the counts of atoms, waves and mesh points."""

import math

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


class MethodTimes(nn.Module):
    """Estimated times (ns) of an application with ``n_widths`` receivers."""

    def __init__(self, n_widths: int) -> None:
        super().__init__()
        self.waves_fixed, self.per_wave = WAVES_FIXED, WAVE_TIME * (1 + n_widths)
        self.mesh_fixed, self.per_stencil, self.per_point = MESH_FIXED, STENCIL_TIME, POINT_TIME
        self.small_stencil, self.most_paired = float(SMALL_STENCIL), MOST_PAIRED
        self.most_waves = MOST_WAVES

    def number_of_waves(self, box: Box, cutoff: float) -> float:
        """About V k³ / 12 pi² in the half sphere."""
        return 1.0 + box.lengths[0] * box.lengths[1] * box.lengths[2] * cutoff**3 / (12.0 * math.pi**2)

    def waves_fit(self, atoms: float, box: Box, cutoff: float) -> bool:
        """Whether the tables of so many atoms of a process can be held."""
        return 2.0 * atoms * self.number_of_waves(box, cutoff) <= self.most_waves

    def waves(self, atoms: float, box: Box, cutoff: float) -> float:
        """Of the sum over the waves up to ``cutoff``."""
        return self.waves_fixed + atoms * self.per_wave * self.number_of_waves(box, cutoff)

    def mesh(self, atoms: float, stencil: float, points: float) -> float:
        """Of a mesh of so many ``points``, with a ``stencil`` of so many for every atom."""
        return self.mesh_fixed + atoms * stencil * self.per_stencil + points * self.per_point

    def pairs_are_fast(self, atoms: float) -> bool:
        """Whether the erf kernels are used for an isolated structure."""
        return atoms <= self.most_paired

    def waves_are_fast(self, atoms: float, box: Box, cutoff: float) -> bool:
        """Whether the sum over waves takes less time than any mesh."""
        return self.waves(atoms, box, cutoff) <= self.mesh(atoms, self.small_stencil, 0.0)
