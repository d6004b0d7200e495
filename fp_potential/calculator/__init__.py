"""ASE calculator of exported models."""

from .calculator import FixedPointCalculator
from .failures import NoFermiLevel, SCFNotConverged

__all__ = ["FixedPointCalculator", "NoFermiLevel", "SCFNotConverged"]
