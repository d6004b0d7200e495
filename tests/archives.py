"""Archives that were changed after their export."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from fp_potential.archive import CHECKSUMS_FILE, METADATA_FILE, seal


def largest(path: Path) -> zipfile.ZipInfo:
    """The record with the most weights."""
    with zipfile.ZipFile(path) as content:
        return max((x for x in content.infolist() if "/data/" in x.filename), key=lambda x: x.file_size)


def flipped(source: Path, target: Path, start: int, number: int) -> Path:
    """A copy with other bits in ``number`` bytes."""
    content = bytearray(source.read_bytes())
    for place in range(start, min(start + number, len(content))):
        content[place] ^= 0x55
    target.write_bytes(content)
    return target


def altered(source: Path, target: Path, changes: dict[str, bytes | None]) -> Path:
    """A copy with other records, by their names below the archive's folder; None takes one away. Checksums stay."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        folder = old.namelist()[0].split("/", 1)[0]
        records = {item.filename.split("/", 1)[1]: old.read(item) for item in old.infolist()}
        for name, content in {**records, **changes}.items():
            if content is not None:
                new.writestr(f"{folder}/{name}", content)
    return target


def edited(source: Path, target: Path, sealed: bool = True, **changes: Any) -> Path:
    """A copy with other metadata: with checksums that fit again, or with none."""
    bare = target.with_suffix(".bare")
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(bare, "w", zipfile.ZIP_STORED) as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.endswith(METADATA_FILE):
                content = json.dumps(json.loads(content) | changes).encode()
            if not item.filename.endswith(CHECKSUMS_FILE):
                new.writestr(item.filename, content)
    if sealed:
        seal(bare, target)
        bare.unlink()
    else:
        bare.replace(target)
    return target
