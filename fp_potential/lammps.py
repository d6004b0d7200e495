"""LAMMPS from Python: opens instances that find ``pair_style fixedpoint`` and share MPI with the script.

The order of imports matters: mpi4py loads the MPI library that LAMMPS needs, so it comes first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mpi4py.MPI as MPI

import lammps as _lammps  # isort: skip

from fp_potential import communication  # noqa: F401  one operator library for the model in Python and the plugin


def open_instance(arguments: Sequence[str] = (), comm: Any = None, quiet: bool = True) -> _lammps.lammps:
    """A LAMMPS instance, usable as a context manager.

    Args:
        arguments: LAMMPS' command line, for example ``["-var", "T", "300"]``.
        comm: an mpi4py communicator; all its ranks have to call this. Default: all ranks.
        quiet: no output on the screen and no log file.

    Raises:
        Exception: LAMMPS' own errors. On several ranks run the script as ``python -m mpi4py script.py``, so that an
            error on one of them ends all.
    """
    options = ["-screen", "none", "-log", "none"] if quiet else []
    return _lammps.lammps(cmdargs=[*options, *arguments], comm=MPI.COMM_WORLD if comm is None else comm)
