"""Section ``outputs``: files of a run besides its log and checkpoints."""

from __future__ import annotations

from pydantic import Field

from ...config.schema import Section


class OutputOptions(Section):
    """Tables, pictures and their grids."""

    plots: bool = True
    """Pictures of bands and potentials."""
    show_plots: bool = False
    """Open them in windows, too (``SHOWPLOTS``)."""
    movie: bool = False
    """An animation of the potentials and bands at the checkpoints (``genMovie``)."""
    q_max: float = Field(default=40.0, gt=0)
    """Largest q of the tables ``*_qSpace_pot.dat``, 1/Bohr (``qmax``)."""
    n_q: int = Field(default=4096, gt=1)
    """Points of it (``nQGrid``)."""
    r_max: float = Field(default=30.0, gt=0)
    """Largest r of the tables ``*_pot.dat``, Bohr (``Rmax``)."""
    n_r: int = Field(default=4096, gt=1)
    """Points of it (``nRGrid``)."""
