"""Section ``outputs``: files of a run besides its log and checkpoints."""

from __future__ import annotations

from pydantic import Field

from ...config.schema import Finite


class OutputOptions(Finite):
    """Tables, pictures and their grids."""

    plots: bool = True
    """Pictures of bands and potentials."""
    movie: bool = False
    """At the end, animations of the pictures that the stages make each ``plot_every`` epochs."""
    q_max: float = Field(default=40.0, gt=0)
    """Largest q of the tables ``*_qSpace_pot.dat``, 1/Bohr (``qmax``)."""
    n_q: int = Field(default=4096, gt=1)
    """Points of it (``nQGrid``)."""
    r_max: float = Field(default=30.0, gt=0)
    """Largest r of the tables ``*_pot.dat``, Bohr (``Rmax``)."""
    n_r: int = Field(default=4096, gt=1)
    """Points of it (``nRGrid``)."""
