"""The update F: field features -> density."""

from .many_body import ManyBodyUpdate
from .one_body import OneBodyUpdate
from .state import ResponseState, Update, detach_state

__all__ = ["ManyBodyUpdate", "OneBodyUpdate", "ResponseState", "Update", "detach_state"]
