"""What a loop is given: which rows belong together, how it is run, and where it begins."""

from typing import NamedTuple

from torch import Tensor

from ..options import SCFOptions


class Groups(NamedTuple):
    """To which structure each row of the unknowns belongs: structures converge by themselves."""

    batch: Tensor  #: (n,) int64
    rows: Tensor  #: (B,) rows of each structure, on all ranks
    number: int  #: B
    distributed: bool  #: whether rows of a structure are on several ranks


class LoopSettings(NamedTuple):
    """Settings of a loop, in the order and with the names that they have everywhere."""

    num_scf_steps: int  #: largest number of applications
    scf_tolerance: float  #: of the mean residual
    mixing_parameter: float  #: fraction of the residual that ``linear`` takes
    solver: str  #: ``anderson`` or ``linear``


class Start(NamedTuple):
    """Where a loop begins; without rows, each of them is what the map itself begins with."""

    x: Tensor  #: (n, c) or (0, c) unknowns
    level: Tensor  #: (B,) or (0,) level from which that of the map is sought


def settings_of(options: SCFOptions) -> LoopSettings:
    """The settings of the loop among the options."""
    return LoopSettings(options.num_scf_steps, options.scf_tolerance, options.mixing_parameter, options.solver)
