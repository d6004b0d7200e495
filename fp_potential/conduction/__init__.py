"""Metal or insulator: what the charges of a model do in fields, with length, and with the Fermi level."""

from .diagnosis import Behaviour, ResponseDiagnosis, diagnose_response
from .exchange import Exchange, KindOfFragment, exchange
from .fragments import fragments_of
from .responses import ChainPoint, ElementShare
from .settings import ResponseSettings
from .solver import NotConverged, State, StructureSolver

__all__ = [
    "Behaviour",
    "ChainPoint",
    "ElementShare",
    "Exchange",
    "KindOfFragment",
    "NotConverged",
    "ResponseDiagnosis",
    "ResponseSettings",
    "State",
    "StructureSolver",
    "diagnose_response",
    "exchange",
    "fragments_of",
]
