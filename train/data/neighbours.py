"""Neighbour lists of frames, found or read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...graph import neighbour_list
from ..errors import InputError
from .frame import Frame
from .frame_sequence import FrameSequence

#: atoms nearer than this are in the same place, Å
SAME_PLACE = 0.01


def neighbour_lists(frames: Sequence[Frame], index: int, frame: Frame, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """The neighbour list of ``frame``, which is ``frames[index]``: the stored one if there is one for this cutoff.

    Pairs ``(2, n)`` and cells ``(n, 3)`` as of `frame_neighbours`.
    """
    stored = frames.neighbours(index, cutoff) if isinstance(frames, FrameSequence) else None
    return stored or frame_neighbours(frame, cutoff)


def frame_neighbours(frame: Frame, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """The neighbour list of a frame, as `fp_potential.graph.neighbour_list` gives it.

    Pairs ``(2, n)``, receivers and senders, and the sender's cell ``(n, 3)``; the cutoff is in Å.

    Raises:
        InputError: naming the frame: two atoms in the same place, or no list for its periodicity.
    """
    atoms = frame.atoms
    try:
        pairs, cells = neighbour_list(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    except ValueError as error:
        raise InputError(f"{frame.source}: {error}") from error
    distances = pair_distances(frame, pairs, cells)
    if len(distances) and distances.min() < SAME_PLACE:
        one, other = sorted(pairs[:, distances.argmin()].tolist())
        raise InputError(
            f"{frame.source}: atoms {one} and {other} are {distances.min():.1e} Å apart, in the same place; repair or "
            "remove the frame"
        )
    return pairs, cells


def pair_distances(frame: Frame, pairs: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Distances ``(n,)`` of the pairs of a neighbour list, |x_j + S h - x_i| with cells S and vectors h, Å."""
    positions = frame.atoms.positions
    vectors = positions[pairs[1]] + cells @ frame.atoms.cell.array - positions[pairs[0]]
    return np.linalg.norm(vectors, axis=1)
