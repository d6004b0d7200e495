"""The on-disk form of reference data, written by ``fixedpoint prepare`` and read frame by frame.

A folder with ``manifest.json`` and three files of fixed-size records (little endian):

- ``frames.bin``: per frame cell, charge, field, labels of the frame, weights, hashes, sets, and where its atoms and
  pairs begin;
- ``atoms.bin``: per atom number, position, number of neighbours and labels of the atom;
- ``edges.bin``: per neighbour of an atom its index and cell, in the order of the receiving atoms.

Units are eV, Å, e. A frame is read by three calls of ``pread``; nothing but the manifest stays in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from ..errors import InputError
from .frame import COMPONENT_WEIGHTS, LABELS, Frame
from .structure_files import short_name

FORMAT, VERSION = "fp_potential prepared set", 1
MANIFEST = "manifest.json"
#: bits of the column ``sets``
SETS = {"train": 1, "valid": 2, "test": 4}

#: records that a scan of a column reads at a time
_BLOCK = 16384


def layout(labels: Iterable[str], keys: Iterable[str]) -> dict[str, np.dtype]:
    """Types of the records of the three files.

    Args:
        labels: names of ``LABELS`` that are kept.
        keys: names in ``data.keys``, of which each frame says which it has.
    """
    frames: list[tuple[Any, ...]] = [
        ("first_atom", "<i8"),
        ("atoms", "<i4"),
        ("first_edge", "<i8"),
        ("edges", "<i4"),
        ("longest", "<i4"),  # neighbour list of an atom
        ("sets", "u1"),
        ("pbc", "u1", (3,)),
        ("cell", "<f8", (3, 3)),
        ("total_charge", "<f8"),
        ("external_field", "<f8", (3,)),
        ("kind", "<i4"),
        ("split", "<i4"),
        ("file", "<i4"),
        ("number", "<i8"),
        ("structure", "<u8"),
        ("digest", "<u8"),
        ("weight_structure", "<f8"),
        *((f"given_{key}", "u1") for key in keys),
    ]
    atoms: list[tuple[Any, ...]] = [("number", "u1"), ("position", "<f8", (3,)), ("neighbours", "<i4")]
    for name in labels:
        shape, per_atom = LABELS[name]
        frames += [(f"has_{name}", "u1"), (f"weight_{name}", "<f8", (COMPONENT_WEIGHTS.get(name, 1),))]
        (atoms if per_atom else frames).append((name, "<f8", shape))
    edges: list[tuple[Any, ...]] = [("sender", "<i4"), ("cell", "<i2", (3,))]
    return {"frames": np.dtype(frames), "atoms": np.dtype(atoms), "edges": np.dtype(edges)}


def is_prepared(path: str | Path) -> bool:
    """Whether ``path`` is to be read as a prepared set: it is a folder."""
    return Path(path).is_dir()


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """The manifest of a prepared set whose files are all there.

    Raises:
        InputError: no prepared set, one of another version, or one with missing or cut files.
    """
    folder = Path(folder)
    again = "write it with: fixedpoint prepare train.yaml --output DIR"
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"{folder}: a folder without {MANIFEST}, no prepared set; name files, or {again}")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable ({error}); {again}") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"{path}: not the manifest of a prepared set; {again}")
    if manifest.get("version") != VERSION:
        raise InputError(
            f"{folder}: prepared set of version {manifest.get('version')}, this one reads {VERSION}; {again}"
        )
    types = layout(manifest["labels"], manifest["keys"])
    for name, dtype in types.items():
        expected = manifest["counts"][name] * dtype.itemsize
        file = folder / f"{name}.bin"
        found = file.stat().st_size if file.is_file() else None
        if found != expected:
            what = "is missing" if found is None else f"has {found} bytes, expected {expected}"
            raise InputError(f"{file}: {what}; the prepared set is damaged: {again}")
    return manifest


def check_sources(folder: str | Path, manifest: dict[str, Any]) -> None:
    """Refuse a prepared set whose files have changed since; files that are gone do not matter.

    Raises:
        InputError: naming the file.
    """
    for source in manifest["sources"]:
        path = Path(source["path"])
        if source["hash"] is None or not path.is_file():
            continue
        status = path.stat()
        if (status.st_size, status.st_mtime_ns) == (source["size"], source["mtime_ns"]):
            continue
        if status.st_size != source["size"] or file_hash(path) != source["hash"]:
            raise InputError(
                f"{folder}: {path} has changed since the set was prepared; run fixedpoint prepare with --overwrite, "
                "or, to go on with the old frames, rename that file"
            )


def file_hash(path: Path) -> str:
    """Hash of the contents of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()[:32]


class PreparedSet:
    """A prepared folder as a sequence of frames.

    Args:
        folder: the folder.
        labels: labels to read; None: all that it holds.

    Raises:
        InputError: see `read_manifest`.
    """

    def __init__(self, folder: str | Path, labels: Iterable[str] | None = None) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(folder)
        held = self.manifest["labels"]
        self.labels = [name for name in held if labels is None or name in labels]
        #: whether every label that the set holds is read
        self.complete = len(self.labels) == len(held)
        self.cutoff = float(self.manifest["cutoff"])
        self._types = layout(held, self.manifest["keys"])
        self._files = {}
        for name in self._types:
            self._files[name] = os.open(self.folder / f"{name}.bin", os.O_RDONLY)
            weakref.finalize(self, os.close, self._files[name])

    def __len__(self) -> int:
        return self.manifest["counts"]["frames"]

    def __getitem__(self, index: int) -> Frame:
        """Frame number ``index``."""
        row = self._read("frames", index, 1)[0]
        atomic = self._read("atoms", int(row["first_atom"]), int(row["atoms"]))
        info = {self.manifest["kind_key"]: self.manifest["kinds"][row["kind"]]}
        if row["split"] >= 0:
            info[self.manifest["split"]["key"]] = self.manifest["splits"][row["split"]]
        frame = Frame(
            Atoms(
                numbers=atomic["number"].astype(np.int64),
                positions=atomic["position"],
                cell=row["cell"],
                pbc=row["pbc"].astype(bool),
                info=info,
            ),
            f"{short_name(self.manifest['sources'][row['file']]['path'])}, frame {row['number']}",
            self.manifest["kinds"][row["kind"]],
            float(row["total_charge"]),
            row["external_field"].copy(),
            weights={"structure": float(row["weight_structure"])},
            given=frozenset(key for key in self.manifest["keys"] if row[f"given_{key}"]),
            digest=(int(row["structure"]), int(row["digest"])),
        )
        for name, (_, per_atom) in LABELS.items():
            held = name in self.labels and row[f"has_{name}"]
            frame.labels[name] = np.array((atomic if per_atom else row)[name])[()] if held else None
            weight = row[f"weight_{name}"] if name in self.manifest["labels"] else np.ones(1)
            # one weight for all components has no others beside it
            frame.weights[name] = weight.copy() if np.isfinite(weight[1:]).any() else float(weight[0])
        return frame

    def neighbours(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The neighbour list of a frame at `cutoff`, as `fp_potential.graph.neighbour_list` gives it."""
        row = self._read("frames", index, 1)[0]
        atomic = self._read("atoms", int(row["first_atom"]), int(row["atoms"]))
        edges = self._read("edges", int(row["first_edge"]), int(row["edges"]))
        receivers = np.repeat(np.arange(len(atomic), dtype=np.int64), atomic["neighbours"])
        return np.stack([receivers, edges["sender"].astype(np.int64)]), edges["cell"].astype(np.int64)

    def column(self, name: str) -> np.ndarray:
        """A column of ``frames.bin``."""
        number = len(self)
        out = np.empty((number, *self._types["frames"][name].shape), self._types["frames"][name].base)
        for begin in range(0, number, _BLOCK):
            rows = self._read("frames", begin, min(_BLOCK, number - begin))
            out[begin : begin + len(rows)] = rows[name]
        return out

    def has(self, name: str) -> np.ndarray:
        """Which frames have the label or key ``name``."""
        if name in LABELS:
            return self.column(f"has_{name}").astype(bool) if name in self.labels else np.zeros(len(self), bool)
        return self.column(f"given_{name}").astype(bool)

    def members(self, name: str) -> np.ndarray:
        """Indices of the frames of ``train``, ``valid`` or ``test``."""
        return np.flatnonzero(self._sets & SETS[name])

    @cached_property
    def _sets(self) -> np.ndarray:
        return self.column("sets")

    def _read(self, name: str, first: int, number: int) -> np.ndarray:
        size = self._types[name].itemsize
        data = os.pread(self._files[name], number * size, first * size)
        if len(data) != number * size:
            raise InputError(f"{self.folder / name}.bin: ends early; prepare the set again")
        return np.frombuffer(data, self._types[name])
