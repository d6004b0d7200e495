"""The linear operator density -> field features, and its energy."""

from .operator import ElectrostaticCache, Electrostatics

__all__ = ["ElectrostaticCache", "Electrostatics"]
