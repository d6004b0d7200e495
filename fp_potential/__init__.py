"""Machine-learned interatomic potential whose charge density is found by a self-consistent loop.

The package imports nothing heavy: ``lmp`` loads it on every rank to find the plugin.
"""

from __future__ import annotations

import importlib
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
