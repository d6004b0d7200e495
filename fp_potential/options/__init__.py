"""Typed options of the model, of the self-consistent loop and of its sums; their descriptions are the manual.

Names are those users know from configuration files and the command line.
"""

from .model import PERIODIC_AXES, ModelOptions, ModelStatistics
from .response import ReadoutOptions, UpdateOptions
from .scf import SCFOptions

__all__ = ["PERIODIC_AXES", "ModelOptions", "ModelStatistics", "ReadoutOptions", "SCFOptions", "UpdateOptions"]
