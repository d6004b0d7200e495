"""``model.electrostatic_pbc_method``: which structures the data may hold."""

from __future__ import annotations

from collections.abc import Iterable

from ..options import PERIODIC_AXES, ModelOptions
from ..periodicity import letters
from .errors import InputError
from .frames import Frame


def check_periodicity(frames: Iterable[Frame], options: ModelOptions) -> None:
    """Refuse frames of another periodicity than the method is for; ``auto`` and ``mixed_periodic`` are for all.

    Raises:
        InputError: naming the first such frame.
    """
    method = options.electrostatic_pbc_method
    if method not in PERIODIC_AXES:
        return
    wanted = PERIODIC_AXES[method]
    for frame in frames:
        if frame.atoms.pbc.sum() != wanted:
            raise InputError(
                f"{frame.source}: pbc is {letters(frame.atoms.pbc)}, but model.electrostatic_pbc_method '{method}' is "
                f"for {wanted} periodic axes only; use 'auto', which takes every structure with its own periodicity, "
                "or correct the frame"
            )
