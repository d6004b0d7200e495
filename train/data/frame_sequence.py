"""Frames of a training, validation or test set: in a list, or read from prepared sets when they are asked for."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import overload

import numpy as np

from .frame import Frame
from .prepared_set import PreparedSet

#: factors on the weights of labels, by kind and label
Factors = Mapping[str, Mapping[str, float]]


class FrameSequence(Sequence[Frame]):
    """Frames of several prepared sets and lists, in a given order.

    Args:
        sources: prepared sets and lists of frames.
        places: ``(n, 2)``, the source and the place in it of each frame.
        factors: multiply the weights of labels.
    """

    def __init__(
        self, sources: Sequence[PreparedSet | list[Frame]], places: np.ndarray, factors: Factors | None = None
    ) -> None:
        self.sources, self.places, self.factors = list(sources), places, factors or {}

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> FrameSequence: ...
    def __getitem__(self, index: int | slice) -> Frame | FrameSequence:
        if isinstance(index, slice):
            return FrameSequence(self.sources, self.places[index], self.factors)
        source, place = self.places[index]
        return weighted(self.sources[source][place], self.factors)

    def neighbours(self, index: int, cutoff: float) -> tuple[np.ndarray, np.ndarray] | None:
        """The stored neighbour list of a frame, if there is one for this cutoff."""
        source, place = self.places[index]
        prepared = self.sources[source]
        known = isinstance(prepared, PreparedSet) and prepared.cutoff == cutoff
        return prepared.neighbours(place) if known else None

    def gather(
        self, column: Callable[[PreparedSet], np.ndarray], value: Callable[[Frame], object], dtype: type
    ) -> np.ndarray:
        """One value per frame: out of a column of a prepared set, or of a frame in memory."""
        columns = [
            column(source) if isinstance(source, PreparedSet) else np.array([value(frame) for frame in source], dtype)
            for source in self.sources
        ]
        out = np.empty((len(self), *columns[0].shape[1:]), dtype)
        for number, content in enumerate(columns):
            chosen = self.places[:, 0] == number
            out[chosen] = content[self.places[chosen, 1]]
        return out


def weighted(frame: Frame, factors: Factors) -> Frame:
    """``frame`` with the weights of its labels multiplied by the factors of its kind."""
    own = factors.get(frame.kind)
    if not own:
        return frame
    return dataclasses.replace(
        frame, weights=frame.weights | {name: frame.weights[name] * factor for name, factor in own.items()}
    )


def digests(frames: Sequence[Frame]) -> np.ndarray:
    """Hashes ``(n, 2)``, uint64: of the structures, and of structures, labels and weights."""

    def of_set(prepared: PreparedSet) -> np.ndarray:
        return np.stack([prepared.column("structure"), prepared.column("digest")], axis=1)

    if isinstance(frames, FrameSequence):
        return frames.gather(of_set, lambda frame: frame.digest, np.uint64)
    return np.array([frame.digest for frame in frames], np.uint64).reshape(-1, 2)


def number_missing(frames: Sequence[Frame], name: str) -> int:
    """Number of frames without the label or key ``name``."""
    if isinstance(frames, FrameSequence):
        has = frames.gather(lambda prepared: prepared.has(name), lambda frame: has_label(frame, name), bool)
        return int(np.sum(~has))
    return sum(not has_label(frame, name) for frame in frames)


def has_label(frame: Frame, name: str) -> bool:
    """Whether a frame has the label or key ``name``."""
    return frame.labels[name] is not None if name in frame.labels else name in frame.given


def kinds(frames: Sequence[Frame]) -> set[str]:
    """Kinds that occur."""
    if not isinstance(frames, FrameSequence):
        return {frame.kind for frame in frames}
    found: set[str] = set()
    for number, source in enumerate(frames.sources):
        places = frames.places[frames.places[:, 0] == number, 1]
        if isinstance(source, PreparedSet):
            found |= {source.manifest["kinds"][code] for code in np.unique(source.column("kind")[places])}
        else:
            found |= {source[place].kind for place in places}
    return found


def fingerprint(*sets: Sequence[Frame]) -> str:
    """Hash of structures, labels and weights, to see whether a resumed run has the same data."""
    digest = hashlib.sha256()
    for frames in sets:
        digest.update(np.ascontiguousarray(digests(frames)[:, 1]).tobytes())
    return digest.hexdigest()[:16]
