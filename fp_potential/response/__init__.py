"""The update F: field features -> density."""

from .bonds import BondedUpdate
from .many_body import ManyBodyUpdate
from .one_body import OneBodyUpdate
from .split_charge import SplitChargeUpdate
from .state import Bonds, ResponseShape, ResponseState, Update, detach_state
from .symmetric import SymmetricUpdate

__all__ = [
    "BondedUpdate",
    "Bonds",
    "ManyBodyUpdate",
    "OneBodyUpdate",
    "ResponseShape",
    "ResponseState",
    "SplitChargeUpdate",
    "SymmetricUpdate",
    "Update",
    "detach_state",
]
