"""Which method takes the least time, from the counts of atoms, waves and mesh points."""

import math

from torch import nn

from .boundary import Box

METHODS = ("auto", "reciprocal", "mesh", "open")
#: ns per atom, wave and channel (densities and receivers) of the sum over waves, and per pair and receiver of the erf
#: kernels; measured with `accuracy.STENCIL_TIME` by ``benchmarks/electrostatics.py --crossover``
WAVE_TIME, PAIR_TIME = 2.0, 30.0
#: atoms above which pair tables would not fit memory
MOST_PAIRED = 1500.0


class MethodTimes(nn.Module):
    """Estimated times (ns) of an application with ``n_widths`` receivers."""

    def __init__(self, n_widths: int) -> None:
        super().__init__()
        self.per_wave = WAVE_TIME * (1 + n_widths)
        self.per_pair = PAIR_TIME * n_widths
        self.most_paired = MOST_PAIRED

    def waves(self, atoms: float, box: Box, cutoff: float) -> float:
        """Of the sum over the half sphere of waves up to ``cutoff``: about V k³ / 12 pi²."""
        volume = box.lengths[0] * box.lengths[1] * box.lengths[2]
        return atoms * self.per_wave * (1.0 + volume * cutoff**3 / (12.0 * math.pi**2))

    def pairs_are_fast(self, atoms: float) -> bool:
        """Whether the erf kernels are used for an isolated structure."""
        return atoms <= self.most_paired
