"""The update F: field features -> density."""

from .many_body import ManyBodyUpdate
from .one_body import OneBodyUpdate
from .state import ResponseShape, ResponseState, Update, detach_state
from .symmetric import SymmetricUpdate

__all__ = [
    "ManyBodyUpdate",
    "OneBodyUpdate",
    "ResponseShape",
    "ResponseState",
    "SymmetricUpdate",
    "Update",
    "detach_state",
]
