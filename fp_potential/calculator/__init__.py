"""ASE calculator of exported models."""

from .calculator import FixedPointCalculator
from .failures import NoFermiLevel, OutsideTraining, SCFNotConverged

__all__ = ["FixedPointCalculator", "NoFermiLevel", "OutsideTraining", "SCFNotConverged"]
