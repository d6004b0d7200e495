"""ASE calculator of exported models."""

from .calculator import FixedPointCalculator, SCFNotConverged

__all__ = ["FixedPointCalculator", "SCFNotConverged"]
