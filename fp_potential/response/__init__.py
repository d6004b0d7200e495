"""The update F: field features -> density."""

from .one_body import DensityResponse, OneBodyUpdate

__all__ = ["DensityResponse", "OneBodyUpdate"]
