"""Reference data: files and prepared sets -> training, validation and test sets of frames.

Units: eV, Å, e, V. Missing labels are allowed in single frames; they are counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from rich.console import Console

from ..errors import InputError
from ..progress import track
from .assignment import Unassigned, valid_choice
from .frame import LABELS, Frame
from .frame_reader import FrameReader
from .frame_sequence import Factors, FrameSequence, digests, kinds, number_missing, weighted
from .options import DataOptions, Keys, Units
from .prepared_set import SETS, PreparedSet, is_prepared
from .read import iterate_frames, mapped_labels, open_prepared
from .structure_files import expand, short_name


@dataclass
class DataSets:
    """Frames of the three sets and what the introduction of a run says about them."""

    train: Sequence[Frame]
    valid: Sequence[Frame]
    test: Sequence[Frame]
    notes: list[str]
    units: Units = field(default_factory=Units)  #: of the files


def load_data(options: DataOptions, console: Console | None = None) -> DataSets:
    """Training, validation and test frames as the ``data`` section says; frames of prepared sets stay on the disk.

    Args:
        options: section ``data``.
        console: where the progress is shown; none: on standard error.

    Raises:
        InputError: see `iterate_frames`; no training frames; a prepared set that does not fit the options.
    """
    reader = FrameReader(options.keys, options.kind_key, options.units, options)
    paths = {
        "files": expand(options.files),
        "valid": expand(options.valid_files),
        "test": expand(options.test_files),
    }
    files = {name: [path for path in found if not is_prepared(path)] for name, found in paths.items()}
    parts = {name: _Parts() for name in SETS}
    notes, units = [], options.units
    left_out = Unassigned(options.split)
    for frame, _, _ in track(iterate_frames(files["files"], reader), "reading frames", console=console):
        for name in left_out.sets(frame):
            parts[name].frames.append(frame)
    for name in ("valid", "test"):
        content = track(iterate_frames(files[name], reader, ()), f"reading {name} frames", console=console)
        parts[name].frames += [frame for frame, _, _ in content]
    for place, found in paths.items():
        for path in found:
            if not is_prepared(path):
                continue
            split = options.split if place == "files" else None
            beside = [file for names in files.values() for file in names]
            prepared = open_prepared(path, options.keys, options.units, split, beside)
            notes += [f"{short_name(path)}: {note}" for note in prepared.manifest["notes"]]
            units = Units(**prepared.manifest["units"]) if units == Units() and not any(files.values()) else units
            for name in SETS if place == "files" else (place,):
                parts[name].add(prepared, prepared.members(name) if place == "files" else np.arange(len(prepared)))
    if not len(parts["train"]):
        raise left_out.error(paths["files"])
    sets = {name: part.sequence() for name, part in parts.items()}
    fields = options.model_fields_set & {"valid_fraction", "valid_seed"}
    if len(sets["valid"]) and fields and not any(map(is_prepared, paths["files"])):
        idle = ", ".join(f"data.{name}" for name in sorted(fields))
        notes.append(f"{idle}: no effect here, the validation set is named")
    if not len(sets["valid"]):
        chosen = valid_choice(sets["train"], options)
        sets["valid"], sets["train"] = _take(sets["train"], chosen), _take(sets["train"], ~chosen)
    _check_factors(options.kind_weights, kinds(sets["train"]) | kinds(sets["valid"]))
    for name in ("train", "valid"):
        sets[name] = _weighted(sets[name], options.kind_weights)
    if any(files.values()):
        notes = [*reader.notes(), *left_out.notes(), *notes]
    notes += _set_notes(sets, options.keys)
    return DataSets(sets["train"], sets["valid"], sets["test"], notes, units)


class _Parts:
    """What a set is made of: frames in memory, and frames of prepared sets."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.prepared: list[tuple[PreparedSet, np.ndarray]] = []

    def add(self, prepared: PreparedSet, indices: np.ndarray) -> None:
        """The frames ``indices`` ``(n,)`` of a prepared set."""
        if len(indices):
            self.prepared.append((prepared, indices))

    def __len__(self) -> int:
        return len(self.frames) + sum(len(indices) for _, indices in self.prepared)

    def sequence(self) -> Sequence[Frame]:
        """Frames of prepared sets, then those in memory; a list where there are only these."""
        if not self.prepared:
            return self.frames
        sources: list[PreparedSet | list[Frame]] = [prepared for prepared, _ in self.prepared]
        indices = [indices for _, indices in self.prepared]
        if self.frames:
            sources.append(self.frames)
            indices.append(np.arange(len(self.frames)))
        pairs = [np.stack([np.full(len(i), number), i], axis=1) for number, i in enumerate(indices)]
        return FrameSequence(sources, np.concatenate(pairs))


def _take(frames: Sequence[Frame], chosen: np.ndarray) -> Sequence[Frame]:
    if isinstance(frames, FrameSequence):
        return FrameSequence(frames.sources, frames.places[chosen], frames.factors)
    return [frame for frame, wanted in zip(frames, chosen, strict=True) if wanted]


def _weighted(frames: Sequence[Frame], factors: Factors) -> Sequence[Frame]:
    if isinstance(frames, FrameSequence):
        return FrameSequence(frames.sources, frames.places, factors)
    return [weighted(frame, factors) for frame in frames]


def _check_factors(factors: Factors, present: set[str]) -> None:
    for kind, by_label in factors.items():
        if kind not in present:
            raise InputError(
                f"data.kind_weights: no training frame is of kind '{kind}'; kinds: {', '.join(sorted(present))}"
            )
        for name, factor in by_label.items():
            if name not in LABELS or not (math.isfinite(factor) and factor >= 0):
                raise InputError(
                    f"data.kind_weights.{kind}: expected label: factor >= 0 with labels of {', '.join(LABELS)}, "
                    f"got {name}: {factor}"
                )


def _set_notes(sets: dict[str, Sequence[Frame]], keys: Keys) -> list[str]:
    """Missing labels of the training set, and structures that are in two sets."""
    notes = []
    number = len(sets["train"])
    for name in mapped_labels(keys):
        missing = number_missing(sets["train"], name)
        if missing:
            notes.append(f"{missing} of {number} training frames have no {name}: weight zero there")
    if keys.total_charge is not None:
        missing = number_missing(sets["train"], "total_charge")
        if missing:
            notes.append(f"{missing} of {number} training frames have no total_charge: taken as 0")
    for name in mapped_labels(keys):
        for place in ("valid", "test"):
            if len(sets[place]) and number_missing(sets[place], name) == len(sets[place]):
                notes.append(f"no {place} frame has {name}")
    hashes = {name: digests(frames)[:, 0] for name, frames in sets.items()}
    for one, other in (("train", "test"), ("train", "valid"), ("valid", "test")):
        shared, first, second = np.intersect1d(hashes[one], hashes[other], return_indices=True)
        if len(shared):
            example = f"{sets[one][int(first[0])].source} = {sets[other][int(second[0])].source}"
            count = int(np.isin(hashes[other], shared).sum())
            notes.append(f"WARNING: {count} {other} frames have the structure of a {one} frame ({example})")
    return notes
