"""Non-local energy read-outs: functions of features, field and density."""

from .many_body import ManyBodyReadout
from .one_body_mlp import OneBodyMLPReadout
from .state import Readout, ReadoutState, detach_readout
from .strict_quadratic import NullReadout, StrictQuadraticReadout
from .variational import VariationalReadout

__all__ = [
    "ManyBodyReadout",
    "NullReadout",
    "OneBodyMLPReadout",
    "Readout",
    "ReadoutState",
    "StrictQuadraticReadout",
    "VariationalReadout",
    "detach_readout",
]
