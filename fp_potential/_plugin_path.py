"""The hook LAMMPS' Python package calls at its start to find the plugin (entry point ``lammps.plugins``).

It runs for every user of LAMMPS in the environment: it imports nothing but ``os`` and never raises.
"""

from __future__ import annotations

import os

PLUGIN = "fixedpointplugin.so"
PAIR_STYLE = "libfixedpoint_pair.so"
OPERATORS = "libfixedpoint_ops.so"


def find(name: str) -> str | None:
    """Path of a compiled file of this package, or None where it was not built.

    Args:
        name: file name, ``PLUGIN``, ``PAIR_STYLE`` or ``OPERATORS``.
    """
    import fp_potential

    folders = list(getattr(fp_potential, "__path__", [])) + [os.path.dirname(os.path.abspath(__file__))]
    for folder in folders:
        path = os.path.join(folder, "lib", name)
        if os.path.isfile(path):
            return path
    return None


def directory() -> str:
    """Folder to append to LAMMPS_PLUGIN_PATH; an empty string if there is no plugin."""
    try:
        path = find(PLUGIN)
        return os.path.dirname(path) if path else ""
    except Exception:
        return ""
