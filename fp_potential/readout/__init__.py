"""Non-local energy read-outs: functions of features, field and density."""

from .strict_quadratic import StrictQuadraticReadout

__all__ = ["StrictQuadraticReadout"]
