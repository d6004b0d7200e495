"""Which set a frame belongs to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from .frame import Frame
from .options import DataOptions, Split
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


def valid_choice(count: int, options: DataOptions) -> np.ndarray:
    """Which of ``count`` training frames are set aside for validation (``valid_fraction``, ``valid_seed``)."""
    chosen = np.zeros(count, bool)
    if options.valid_fraction > 0 and count > 1:
        number = max(1, round(options.valid_fraction * count))
        chosen[np.random.default_rng(options.valid_seed).permutation(count)[:number]] = True
    return chosen
