"""Known models as instances of the fixed-point map: targets, starting guesses and tests."""

from .exact import ExactResponse, ExactSolution, exact_response, exact_solution, jacobian
from .models import ChargeEquilibration, InducedDipoles, ReferenceModel
from .options import ElementParameters, ReferenceOptions
from .split_charges import SplitCharges

__all__ = [
    "ChargeEquilibration",
    "ElementParameters",
    "ExactResponse",
    "ExactSolution",
    "InducedDipoles",
    "ReferenceModel",
    "ReferenceOptions",
    "SplitCharges",
    "exact_response",
    "exact_solution",
    "jacobian",
]
