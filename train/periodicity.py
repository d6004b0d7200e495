"""``model.electrostatic_pbc_method``: which structures the data may hold."""

from __future__ import annotations

from collections.abc import Iterable

from ..options import PERIODICITY, ModelOptions
from .errors import InputError
from .frames import Frame


def check_periodicity(frames: Iterable[Frame], options: ModelOptions) -> None:
    """Refuse frames of another periodicity than the method is for; ``auto`` and ``mixed_periodic`` are for all.

    Raises:
        InputError: naming the first such frame.
    """
    method = options.electrostatic_pbc_method
    if method not in PERIODICITY:
        return
    wanted = PERIODICITY[method]
    for frame in frames:
        found = tuple(bool(axis) for axis in frame.atoms.pbc)
        if found != wanted:
            raise InputError(
                f"{frame.source}: pbc is {_shown(found)}, but model.electrostatic_pbc_method '{method}' is for "
                f"{_shown(wanted)} only; use 'auto', which takes every structure with its own periodicity, or correct "
                "the frame"
            )


def _shown(pbc: Iterable[bool]) -> str:
    return "".join("T" if axis else "F" for axis in pbc)
