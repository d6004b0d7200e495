"""Machine-learned interatomic potential whose charge density is found by a self-consistent loop.

The package imports nothing heavy: ``lmp`` loads it on every rank to find the plugin. Where Python finds the source tree
first, as in the root of the repository, the built package of the environment takes its place (`_source_tree`).
"""

from __future__ import annotations

import importlib
import os
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "FixedPointCalculator": "fp_potential.calculator",
    "FixedPointPotential": "fp_potential.model",
    "ModelOptions": "fp_potential.options",
    "SCFOptions": "fp_potential.options",
}

__all__ = ["__version__", *sorted(_LAZY)]


def __getattr__(name: str) -> Any:
    """Import the public classes when they are first asked for."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'fp_potential' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])


_folder = os.path.dirname(os.path.abspath(__file__))
# an editable installation has its compiled parts in another folder of the path
if os.path.isfile(os.path.join(os.path.dirname(_folder), "pyproject.toml")) and not any(
    os.path.isdir(os.path.join(folder, "lib")) for folder in __path__
):
    from . import _source_tree

    _source_tree.replace(__name__, __version__, _folder)
