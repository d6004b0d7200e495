"""Frames of the files, one by one or all."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path

from ..errors import InputError
from .frame import LABELS, Frame
from .frame_checks import Consistency
from .frame_reader import FrameReader
from .frame_sequence import has_label
from .options import Keys, Split, Units
from .prepared_set import PreparedSet, check_sources, is_prepared
from .structure_files import expand, short_name, structures


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
        for number, atoms in enumerate(structures(path, partial(_doubt, reader, name))):
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


def _doubt(reader: FrameReader, name: str, kind: str, number: int, details: str) -> None:
    reader.doubts.add(kind, f"{name}, frame {number}", details)


def read_frames(
    names: Sequence[str],
    keys: Keys,
    kind_key: str = "kind",
    demanded: Collection[str] | None = None,
    units: Units | None = None,
    notes: list[str] | None = None,
) -> list[Frame]:
    """All frames of files, globs or prepared sets, checked, in memory.

    Args:
        demanded: names of the keys that must be in at least one frame; all that are mapped if None.
        units: of the files; prepared sets have their own.
        notes: receives warnings about what deserves a look in the frames.

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
    if notes is not None:
        notes += reader.warnings()
    return frames


#: inputs that frames often carry under these very names
INPUTS = ("total_charge", "external_field", "electric_field")


def reading_notes(frames: Sequence[Frame], keys: Keys, units: Units | None = None) -> list[str]:
    """How frames are read where that is a choice: units, sign of the field, inputs that nobody reads; contradictions.

    Args:
        frames: as they were read.
        keys: they were read with.
        units: of the files; None: eV and Å.
    """
    notes = []
    if units not in (None, Units()):
        notes.append((units or Units()).conversion().describe())
    if keys.external_field and any(frame.external_field.any() for frame in frames):
        notes.append(f"field: '{keys.external_field}' is read as the gradient of the potential, F = -E")
    if keys.electric_field and any(frame.external_field.any() for frame in frames):
        notes.append(f"field: '{keys.electric_field}' is read as the physical field E = -F")
    mapped = set(keys.model_dump().values())
    for name in INPUTS:
        number = 0 if name in mapped else sum(name in frame.atoms.info for frame in frames)
        if number:
            notes.append(
                f"WARNING: '{name}' of {number} frames is not read, as the training of this model did not; --key "
                f"{name}={name} reads it"
            )
    consistency = Consistency()
    for frame in frames:
        consistency.add(frame)
    return notes + consistency.warnings(keys.external_field or keys.electric_field)


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


def mapped_labels(keys: Keys) -> list[str]:
    """Labels that ``keys`` map."""
    mapped = keys.model_dump()
    mapped["atomic_multipoles"] = mapped["atomic_multipoles"] or mapped["charges"]
    mapped["stress"] = mapped["stress"] or mapped["virial"]
    return [name for name in LABELS if mapped[name] is not None]
