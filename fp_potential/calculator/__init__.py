"""ASE calculator of exported models."""

from .calculator import FixedPointCalculator, NoFermiLevel, SCFNotConverged

__all__ = ["FixedPointCalculator", "NoFermiLevel", "SCFNotConverged"]
