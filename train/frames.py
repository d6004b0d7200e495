"""Reference data: files and prepared sets -> training, validation and test sets of frames.

Units: eV, Å, e, V. Missing labels are allowed in single frames; they are counted.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from .config import DataOptions, Keys, Split, Units
from .errors import InputError
from .frame import LABELS, Frame, FrameReader
from .prepared import SETS, PreparedSet, check_sources, is_prepared
from .progress import track
from .sequence import Factors, FrameSequence, digests, fingerprint, has_label, kinds, number_missing, weighted
from .sources import expand, short_name, structures

__all__ = ["LABELS", "DataSets", "Frame", "fingerprint", "iterate_frames", "load_data", "read_frames"]


@dataclass
class DataSets:
    """Frames of the three sets and what the introduction of a run says about them."""

    train: Sequence[Frame]
    valid: Sequence[Frame]
    test: Sequence[Frame]
    notes: list[str]


def iterate_frames(
    paths: Sequence[str], reader: FrameReader, demanded: Collection[str] | None = None
) -> Iterator[tuple[Frame, int, int]]:
    """The frames of files, one at a time, each with the number of its file and its place in it.

    Raises:
        InputError: an unreadable file or frame, or, at the end, a mapped key that no frame has.
    """
    seen: set[str] = set()
    present: list[str] = []
    for file, path in enumerate(paths):
        name = short_name(path)
        for number, atoms in enumerate(structures(path)):
            if not present:
                results = atoms.calc.results if atoms.calc is not None else {}
                present = sorted({*atoms.info, *atoms.arrays, *results} - {"numbers", "positions"})
            frame = reader.frame(atoms, f"{name}, frame {number}", name.split(".")[0])
            seen |= {key for key in frame.given if has_label(frame, key)}
            yield frame, file, number
    for label, key in reader.keys.model_dump().items() if paths else ():
        if key is not None and label not in seen and (demanded is None or label in demanded):
            raise InputError(
                f"{', '.join(map(short_name, paths))}: no frame has the key '{key}' (data.keys.{label}); "
                f"keys present: {', '.join(present) or 'none'}"
            )


def read_frames(
    names: Sequence[str],
    keys: Keys,
    kind_key: str = "kind",
    demanded: Collection[str] | None = None,
    units: Units | None = None,
) -> list[Frame]:
    """All frames of files, globs or prepared sets, checked, in memory.

    Args:
        demanded: names of the keys that must be in at least one frame; all that are mapped if None.
        units: of the files; prepared sets have their own.

    Raises:
        InputError: no such file, empty or malformed file, a value of the wrong shape or not finite, a mapped
            key that no frame has, a field along a periodic axis; the message names file, frame and key.
    """
    paths = expand(names)
    reader = FrameReader(keys, kind_key, units)
    files = [path for path in paths if not is_prepared(path)]
    frames = [frame for frame, _, _ in iterate_frames(files, reader, demanded)]
    for path in paths:
        if is_prepared(path):
            prepared = open_prepared(path, keys)
            frames += [prepared[index] for index in range(len(prepared))]
    return frames


def load_data(options: DataOptions, console: Console | None = None) -> DataSets:
    """Training, validation and test frames as the ``data`` section says; frames of prepared sets stay on the disk.

    Raises:
        InputError: see :func:`iterate_frames`; no training frames; a prepared set that does not fit the options.
    """
    reader = FrameReader(options.keys, options.kind_key, options.units, options)
    paths = {
        "files": expand(options.files),
        "valid": expand(options.valid_files),
        "test": expand(options.test_files),
    }
    files = {name: [path for path in found if not is_prepared(path)] for name, found in paths.items()}
    parts = {name: _Parts() for name in SETS}
    notes = []
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
            for name in SETS if place == "files" else (place,):
                parts[name].add(prepared, prepared.members(name) if place == "files" else np.arange(len(prepared)))
    if not len(parts["train"]):
        raise left_out.error(paths["files"])
    sets = {name: part.sequence() for name, part in parts.items()}
    if not len(sets["valid"]):
        chosen = valid_choice(len(sets["train"]), options)
        sets["valid"], sets["train"] = _take(sets["train"], chosen), _take(sets["train"], ~chosen)
    _check_factors(options.kind_weights, kinds(sets["train"]) | kinds(sets["valid"]))
    for name in ("train", "valid"):
        sets[name] = _weighted(sets[name], options.kind_weights)
    if any(files.values()):
        notes = [*reader.notes(), *left_out.notes(), *notes]
    return DataSets(sets["train"], sets["valid"], sets["test"], [*notes, *_set_notes(sets, options.keys)])


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


def open_prepared(
    path: str, keys: Keys, units: Units | None = None, split: Split | None = None, beside: Sequence[str] = ()
) -> PreparedSet:
    """A prepared set, if it is up to date and what the options describe.

    Args:
        units, split: compared with those of the set unless they are the defaults.
        beside: files that are read as well.

    Raises:
        InputError: naming what differs and what to do.
    """
    prepared = PreparedSet(path, mapped_labels(keys))
    manifest = prepared.manifest
    check_sources(path, manifest)
    again = "prepare it again (fixedpoint prepare ... --overwrite)"
    for name, key in keys.model_dump().items():
        held = manifest["keys"].get(name)
        if held != key and not (key is None and name in LABELS):
            raise InputError(f"{path}: prepared with data.keys.{name}: {held}, the training file has {key}; {again}")
    if units not in (None, Units(), Units(**manifest["units"])):
        raise InputError(
            f"{path}: prepared from files with data.units: {manifest['units']}, the training file has others; leave "
            f"data.units out (the set is in eV and Å) or {again}"
        )
    if split is not None and (manifest["split"] is None or split != Split(**manifest["split"])):
        raise InputError(
            f"{path}: its sets were made with data.split: {manifest['split']}, the training file has "
            f"{split.model_dump()}; leave data.split out or {again}"
        )
    held_files = {source["path"] for source in manifest["sources"]}
    twice = sorted(held_files & {str(Path(file).absolute()) for file in beside})
    if twice:
        raise InputError(f"{path} already holds the frames of {', '.join(twice)}: name only one of them")
    return prepared


class _Parts:
    """What a set is made of."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.prepared: list[tuple[PreparedSet, np.ndarray]] = []

    def add(self, prepared: PreparedSet, indices: np.ndarray) -> None:
        if len(indices):
            self.prepared.append((prepared, indices))

    def __len__(self) -> int:
        return len(self.frames) + sum(len(indices) for _, indices in self.prepared)

    def sequence(self) -> Sequence[Frame]:
        if not self.prepared:
            return self.frames
        sources: list[PreparedSet | list[Frame]] = [prepared for prepared, _ in self.prepared]
        indices = [indices for _, indices in self.prepared]
        if self.frames:
            sources.append(self.frames)
            indices.append(np.arange(len(self.frames)))
        pairs = [np.stack([np.full(len(i), number), i], axis=1) for number, i in enumerate(indices)]
        return FrameSequence(sources, np.concatenate(pairs))


def mapped_labels(keys: Keys) -> list[str]:
    """Labels that ``keys`` map."""
    mapped = keys.model_dump()
    mapped["atomic_multipoles"] = mapped["atomic_multipoles"] or mapped["charges"]
    return [name for name in LABELS if mapped[name] is not None]


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
