"""What a non-local energy read-out needs from the geometry, made once per geometry."""

from typing import NamedTuple

from torch import Tensor, nn

from ..backbone.neighbours import Neighbours
from ..response.state import detach_neighbours


class ReadoutState(NamedTuple):
    """Coefficients of the energy as a function of density and field; what a read-out does not use has no rows."""

    coefficients: Tensor  #: (n, m, 4) per field feature, or what a read-out keeps per atom
    features: Tensor  #: (n, 4, C) of the last layer
    edges: Tensor  #: (n_edges, H) radial features of the message pass
    neighbours: Neighbours
    species: Tensor  #: (n_total,)


class Readout(nn.Module):
    """What the model asks of a non-local energy read-out."""

    def energy(
        self, s: ReadoutState, local_density: Tensor, density: Tensor, v: Tensor, shared: Tensor, distributed: bool
    ) -> Tensor:
        """Energy per atom ``(n,)`` (eV) from p_loc and p ``(n, 4)`` and normalised field features ``(n, m, 4)``.

        ``shared`` ``(n,)`` is the charge that nothing conducts (`response.state.ResponseState.share`), e.
        """
        raise NotImplementedError


def detach_readout(s: ReadoutState) -> ReadoutState:
    """The same state without gradients."""
    return ReadoutState(
        s.coefficients.detach(), s.features.detach(), s.edges.detach(), detach_neighbours(s.neighbours), s.species
    )
