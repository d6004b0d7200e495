"""The fixed-point problem of the density.

Unknowns are the densities p ``(n, 4)``.  With the raw total field u = A p + u_ext + (mu - mu_0) on the potential
components, and the update F of the model,

    G(p) = F(u(p, mu)).

At constant charge mu is a function of p, chosen so that the total charge of G(p) is exactly Q*.  Where F is affine,

    mu = (Q* - Q(F(u with mu = mu_0))) / R,    R = dQ/dmu,

in closed form; else by safeguarded Newton steps, which need no electrostatics.

Of updates that share charge (`response.split_charge`) R is that of the atoms that conduct, ``metallic``, and of the
weights by which charge is shared.  mu is a Fermi level only where the former is there.
"""

from typing import NamedTuple

from torch import Tensor

from ..electrostatics import ElectrostaticCache
from ..response.state import ResponseState, detach_state
from ..scf.settings import Groups, Start


class SCFProblem(NamedTuple):
    """A fixed-point problem for all structures of a batch; levels are relative to the offset mu_0.

    ``charge_row`` is dQ/du: constant for affine updates, else the value at the field ``point``.
    """

    cache: ElectrostaticCache
    state: ResponseState
    external: Tensor  #: (n, 4) raw external field
    point: Tensor  #: (n, m, 4) raw total field of the linearisation; without rows for updates with one matrix per atom
    charge_row: Tensor  #: (n, m, 4) derivative of the total charge by the raw field
    shift: Tensor  #: (n, 4) change of the density per volt of Fermi level, for affine updates
    response: Tensor  #: (B,) R = dQ/dmu
    metallic: Tensor  #: (B,) its part without the shared charge
    target: Tensor  #: (B,) total charge Q*, or the Fermi level mu - mu_0 where that is fixed
    batch: Tensor  #: (n,)
    atoms: Tensor  #: (B,) number of atoms, all ranks
    constant_charge: bool
    distributed: bool


def detach_problem(problem: SCFProblem, cache: ElectrostaticCache) -> SCFProblem:
    """The same problem without gradients; ``cache`` is its detached cache."""
    return SCFProblem(
        cache,
        detach_state(problem.state),
        problem.external.detach(),
        problem.point.detach(),
        problem.charge_row.detach(),
        problem.shift.detach(),
        problem.response.detach(),
        problem.metallic.detach(),
        problem.target.detach(),
        problem.batch,
        problem.atoms,
        problem.constant_charge,
        problem.distributed,
    )


def groups_of(problem: SCFProblem) -> Groups:
    """The atoms of each structure, for the loop."""
    return Groups(problem.batch, problem.atoms, problem.atoms.shape[0], problem.distributed)


def shared_charge(problem: SCFProblem, level: Tensor) -> Tensor:
    """Charge per atom ``(n,)``, e, that nothing conducts and the level mu - mu_0 ``(B,)`` shares."""
    return -problem.state.share * level[problem.batch]


def own_start(like: Tensor) -> Start:
    """The start without rows: the local guess and mu_0, in the dtype of a tensor ``like`` it."""
    return Start(like.new_zeros((0, 4)), like.new_zeros(0))
