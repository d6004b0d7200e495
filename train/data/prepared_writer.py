"""Writing of prepared sets (``fixedpoint prepare``): frame by frame, and complete or not there at all.

The set is written into a folder ``<output>.incomplete``, which gets its name when everything is in it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from rich.console import Console

from ...files import naming
from ..errors import InputError
from ..progress import track
from .assignment import Unassigned, valid_choice
from .frame import LABELS, Frame
from .frame_reader import FrameReader
from .frame_sequence import FrameSequence, fingerprint
from .neighbours import frame_neighbours
from .options import DataOptions, is_address
from .prepared_set import FORMAT, MANIFEST, SETS, VERSION, PreparedSet, file_hash, is_prepared, layout
from .read import iterate_frames, mapped_labels
from .structure_files import expand

#: frames whose set is changed at a time
_BLOCK = 16384


class Statistics(Protocol):
    """What is known of a set once all its frames were seen."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        ...


#: (frames, cutoff in Å, console, title of the bar) -> statistics of the frames
Collect = Callable[[FrameSequence, float, Console | None, str], Statistics]


def prepare(
    options: DataOptions,
    cutoff: float,
    output: str | Path,
    collect: Collect,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Write the frames that ``options`` describe, with neighbour lists, to the folder ``output``.

    Its sets are those of `data.sets.load_data`. Returns the manifest.

    Args:
        options: section ``data``.
        cutoff: of the neighbour lists, Å.
        output: the folder; it must not exist, unless it is a prepared set and ``overwrite``.
        collect: what the model to be trained wants to know of each set; the manifest holds it.
        overwrite: replace the prepared set that is there.
        console: where the progress is shown; none: on standard error.

    Raises:
        InputError: bad data, or an ``output`` that exists (unless it is a prepared set and ``overwrite``).
    """
    output = Path(output).absolute()
    _check_output(output, overwrite)
    paths = {
        "files": expand(options.files),
        "valid": expand(options.valid_files),
        "test": expand(options.test_files),
    }
    sources = [path for found in paths.values() for path in found]
    for path in sources:
        if is_prepared(path):
            raise InputError(f"{path}: a folder; fixedpoint prepare reads files")
    with _folder(output) as folder:
        manifest = _write(folder, options, cutoff, paths, console)
        prepared = PreparedSet(folder)
        if not len(prepared.members("valid")):
            _set_aside(folder, prepared, options)
            prepared = PreparedSet(folder)
        sets = {}
        for name in SETS:
            members = prepared.members(name)
            sets[name] = FrameSequence([prepared], np.stack([np.zeros_like(members), members], axis=1))
            manifest["counts"][name] = len(members)
            if len(members):
                title = f"statistics of the {name} frames"
                manifest["statistics"][name] = collect(sets[name], cutoff, console, title).as_dict()
        if not len(sets["train"]):
            raise InputError("no training frames: check data.split")
        manifest["fingerprint"] = fingerprint(sets["train"], sets["valid"])
        _write_manifest(folder, manifest)
    return manifest


def _check_output(output: Path, overwrite: bool) -> None:
    if not output.exists():
        return
    if not overwrite:
        raise InputError(f"{output} exists; choose another --output, or --overwrite a prepared set")
    try:
        held = json.loads((output / MANIFEST).read_text(encoding="utf-8"))["format"] == FORMAT
    except (OSError, ValueError, KeyError, TypeError):
        held = False
    if not held:
        raise InputError(f"{output} exists and is no prepared set; --overwrite replaces nothing else")


@contextmanager
def _folder(output: Path) -> Iterator[Path]:
    """A folder that becomes ``output`` if all goes well and is removed if not."""
    folder = output.with_name(output.name + ".incomplete")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder.with_name(folder.name + ".lock"), "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another fixedpoint prepare is writing {output}") from None
        try:
            for file in folder.iterdir():  # of one that was killed
                file.unlink()
            with naming(folder):
                yield folder
            old = output.with_name(output.name + ".old")
            if output.exists():
                shutil.rmtree(old, ignore_errors=True)
                os.rename(output, old)
            os.rename(folder, output)
            shutil.rmtree(old, ignore_errors=True)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            Path(lock.name).unlink(missing_ok=True)


def _write(
    folder: Path, options: DataOptions, cutoff: float, paths: dict[str, list[str]], console: Console | None
) -> dict[str, Any]:
    """The three files, and a manifest of them without statistics."""
    sources = [path for found in paths.values() for path in found]
    reader = FrameReader(options.keys, options.kind_key, options.units, options)
    unassigned = Unassigned(options.split)
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "cutoff": cutoff,
        "keys": options.keys.model_dump(),
        "labels": mapped_labels(options.keys),
        "units": options.units.model_dump(),
        "kind_key": options.kind_key,
        "split": options.split.model_dump() if options.split is not None else None,
        "valid_fraction": options.valid_fraction,
        "valid_seed": options.valid_seed,
        "sources": [_source(path) for path in track(sources, "hashes of the files", console=console)],
        "statistics": {},
    }
    with _Writer(folder, manifest["labels"], list(manifest["keys"])) as writer:
        first = 0
        for place, found in paths.items():
            content = iterate_frames(found, reader, None if place == "files" else ())
            title = "writing frames" if place == "files" else f"writing {place} frames"
            for frame, file, number in track(content, title, console=console):
                names = unassigned.sets(frame) if place == "files" else [place]
                if names:
                    bits = sum(SETS[name] for name in names)
                    value = str(frame.atoms.info[options.split.key]) if options.split and place == "files" else None
                    writer.add(frame, (first + file, number), bits, value, *frame_neighbours(frame, cutoff))
            first += len(found)
    manifest["counts"] = writer.counts
    manifest["kinds"], manifest["splits"] = list(writer.kinds), list(writer.splits)
    manifest["notes"] = [*reader.notes(), *unassigned.notes()]
    _write_manifest(folder, manifest)
    return manifest


def _source(path: str) -> dict[str, Any]:
    if is_address(path):
        return {"path": path, "size": None, "mtime_ns": None, "hash": None}
    status = Path(path).stat()
    absolute = Path(path).absolute()
    return {"path": str(absolute), "size": status.st_size, "mtime_ns": status.st_mtime_ns, "hash": file_hash(absolute)}


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    with open(folder / MANIFEST, "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())


def _set_aside(folder: Path, prepared: PreparedSet, options: DataOptions) -> None:
    """Move the chosen training frames to the validation set."""
    members = prepared.members("train")
    sets = prepared.column("sets")
    frames = FrameSequence([prepared], np.stack([np.zeros_like(members), members], axis=1))
    chosen = members[valid_choice(frames, options)]
    sets[chosen] = sets[chosen] & ~np.uint8(SETS["train"]) | np.uint8(SETS["valid"])
    dtype = layout(prepared.manifest["labels"], prepared.manifest["keys"])["frames"]
    with open(folder / "frames.bin", "r+b") as file:
        for begin in range(0, len(sets), _BLOCK):
            file.seek(begin * dtype.itemsize)
            rows = np.frombuffer(file.read(_BLOCK * dtype.itemsize), dtype).copy()
            rows["sets"] = sets[begin : begin + len(rows)]
            file.seek(begin * dtype.itemsize)
            file.write(rows.tobytes())
        file.flush()
        os.fsync(file.fileno())


class _Writer:
    """Appends frames to the files of a prepared set."""

    def __init__(self, folder: Path, labels: list[str], keys: list[str]) -> None:
        self.labels, self.keys = labels, keys
        self.types = layout(labels, keys)
        self.counts = dict.fromkeys(self.types, 0)
        self.kinds: dict[str, int] = {}
        self.splits: dict[str, int] = {}
        self.files: dict[str, IO[bytes]] = {name: open(folder / f"{name}.bin", "wb") for name in self.types}

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()

    def add(
        self,
        frame: Frame,
        place: tuple[int, int],
        sets: int,
        split: str | None,
        pairs: np.ndarray,
        cells: np.ndarray,
    ) -> None:
        """Append a frame.

        Args:
            frame: the frame.
            place: numbers of its file, and of the frame in it.
            sets: bits of the sets it belongs to.
            split: value of the info key of the split.
            pairs, cells: its neighbour list.

        Raises:
            InputError: a cell of the neighbour list does not fit into 16 bits.
        """
        row = np.zeros(1, self.types["frames"])
        atoms = np.zeros(len(frame.atoms), self.types["atoms"])
        edges = np.zeros(pairs.shape[1], self.types["edges"])
        atoms["number"], atoms["position"] = frame.atoms.numbers, frame.atoms.positions
        atoms["neighbours"] = np.bincount(pairs[0], minlength=len(atoms))
        edges["sender"], edges["cell"] = pairs[1], cells
        if not np.array_equal(edges["cell"], cells):
            raise InputError(f"{frame.source}: atoms are more than 32767 cells apart; wrap them into the cell")
        row["first_atom"], row["atoms"] = self.counts["atoms"], len(atoms)
        row["first_edge"], row["edges"] = self.counts["edges"], len(edges)
        row["longest"], row["sets"] = atoms["neighbours"].max(), sets
        row["pbc"], row["cell"] = frame.atoms.pbc, frame.atoms.cell.array
        row["total_charge"], row["external_field"] = frame.total_charge, frame.external_field
        row["kind"] = self.kinds.setdefault(frame.kind, len(self.kinds))
        row["split"] = -1 if split is None else self.splits.setdefault(split, len(self.splits))
        row["file"], row["number"] = place
        row["structure"], row["digest"] = frame.digest
        row["weight_structure"] = frame.weights["structure"]
        for key in self.keys:
            row[f"given_{key}"] = key in frame.given
        for name in LABELS:
            if name not in self.labels:
                continue
            value, weight = frame.labels[name], np.asarray(frame.weights[name])
            row[f"weight_{name}"] = np.nan  # stays where one weight is for all components
            row[f"weight_{name}"][..., : weight.size] = weight
            row[f"has_{name}"] = value is not None
            if value is not None:
                (atoms if LABELS[name][1] else row)[name] = value
        for name, content in (("frames", row), ("atoms", atoms), ("edges", edges)):
            self.files[name].write(content.tobytes())
            self.counts[name] += len(content)
