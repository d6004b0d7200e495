"""Which set a frame belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .frame import Frame, is_isolated_atom
from .frame_sequence import FrameSequence
from .options import DataOptions, Split
from .prepared_set import PreparedSet
from .structure_files import short_name


class Unassigned:
    """Deals frames to sets by ``data.split`` and remembers what belongs to none."""

    def __init__(self, split: Split | None) -> None:
        self.split, self.number, self.values = split, 0, set[str]()

    def sets(self, frame: Frame) -> list[str]:
        """Names of the sets a frame of ``data.files`` belongs to.

        Raises:
            InputError: the frame lacks the info key of the split.
        """
        split = self.split
        if split is None:
            return ["train"]
        if split.key not in frame.atoms.info:
            raise InputError(
                f"{frame.source}: no info key '{split.key}' (data.split.key); "
                f"keys present: {', '.join(sorted(frame.atoms.info)) or 'none'}"
            )
        value = str(frame.atoms.info[split.key])
        self.values.add(value)
        wanted = {"train": split.train, "valid": split.valid or [], "test": split.test}
        names = [name for name, values in wanted.items() if value in values]
        self.number += not names
        return names

    def notes(self) -> list[str]:
        """How many frames belong to no set."""
        if not self.number or self.split is None:
            return []
        return [f"{self.number} frames belong to no set (their '{self.split.key}' is none of those in data.split)"]

    def error(self, paths: Sequence[str]) -> InputError:
        """There are no training frames."""
        if self.split is None or not self.values:
            return InputError(f"data.files: no training frames in {', '.join(map(short_name, paths))}")
        present = ", ".join(sorted(self.values))
        return InputError(f"no frame has {self.split.key}={'|'.join(self.split.train)}; values present: {present}")


def valid_choice(frames: Sequence[Frame], options: DataOptions) -> np.ndarray:
    """Which of the training ``frames`` are set aside for validation (``data.valid_fraction``), bool ``(n,)``.

    Isolated atoms stay in the training set, where the E0s are taken from them, and so do frames without which it would
    lack an element.
    """
    eligible = np.flatnonzero(~isolated_atoms(frames))
    chosen = np.zeros(len(frames), bool)
    if options.valid_fraction == 0 or len(eligible) < 2:
        return chosen
    number = max(1, round(options.valid_fraction * len(eligible)))
    order = eligible[np.random.default_rng(options.valid_seed).permutation(len(eligible))]
    while True:
        chosen[:] = False
        chosen[order[:number]] = True
        alone = _elements_only_in(frames, chosen)
        if not alone:
            return chosen
        order = np.array([index for index in order if not alone & _elements(frames, index)], np.int64)


def isolated_atoms(frames: Sequence[Frame]) -> np.ndarray:
    """Which of the frames are isolated atoms (`is_isolated_atom`), bool ``(n,)``."""

    def of_set(prepared: PreparedSet) -> np.ndarray:
        charged = (prepared.column("total_charge") != 0.0) | prepared.column("external_field").any(axis=1)
        return (prepared.column("atoms") == 1) & ~prepared.column("pbc").any(axis=1) & ~charged

    if isinstance(frames, FrameSequence):
        return frames.gather(of_set, is_isolated_atom, bool)
    return np.array([is_isolated_atom(frame) for frame in frames], bool)


def _elements(frames: Sequence[Frame], index: int) -> set[int]:
    return set(frames[index].atoms.numbers.tolist())


def _elements_only_in(frames: Sequence[Frame], chosen: np.ndarray) -> set[int]:
    """Elements that no other than the chosen frames have."""
    missing = set[int]().union(*(_elements(frames, index) for index in np.flatnonzero(chosen).tolist()))
    for index in np.flatnonzero(~chosen).tolist():
        if not missing:
            break
        missing -= _elements(frames, index)
    return missing
