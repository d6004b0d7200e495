"""Files of model archives without running them: metadata, checksums, sizes.

An archive is a zip file that torch writes; loading it with torch runs code that stands in it. What is here reads bytes
only. `CHECKSUMS_FILE` holds a line ``<SHA-256>  <record>`` for every other record, as ``sha256sum`` writes them, with
the names that records have below the archive's own folder.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FORMAT = "fp_potential"
FORMAT_VERSION = 2
METADATA_FILE = "metadata.json"
CHECKSUMS_FILE = "checksums.txt"

#: what reading a damaged zip file can raise
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeDecodeError)
_AGAIN = "copy it again, or export it again from its run folder with `fixedpoint export`"


@dataclass
class Contents:
    """What an archive holds, as far as that is known without running it."""

    metadata: dict[str, Any]
    tensors: int  #: records of weights and constants
    size: int  #: bytes of them
    checked: bool  #: whether there are checksums
    altered: list[str] = field(default_factory=list)  #: records that do not have theirs, or are missing, or too many


def is_archive(path: str | Path) -> bool:
    """Whether a file is a TorchScript archive, of whatever program."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_contents(path: str | Path) -> Contents:
    """Metadata and state of an archive of this package.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not an archive of this package, or one of another format version, or one that is damaged so that
            it cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model file {path}; make one with `fixedpoint export run/ model.pt`")
    with _opened(path) as archive:
        names = _records(archive)
        if not any(name == "constants.pkl" for name in names):
            raise ValueError(
                f"{path} is not a TorchScript model, but a file of torch.save, as checkpoints of a training are: "
                f"`fixedpoint export {path} model.pt` makes an archive of one"
            )
        metadata = _metadata(path, archive, names)
        weights = [item for name, item in names.items() if name.startswith(("data/", "constants/"))]
        contents = Contents(metadata, len(weights), sum(item.file_size for item in weights), False)
        listed = names.get(f"extra/{CHECKSUMS_FILE}")
        if listed is None:
            for item in names.values():
                archive.read(item)  # compares the zip file's own sums, which are for accidents
            return contents
        wanted = dict(line.split("  ", 1)[::-1] for line in archive.read(listed).decode().splitlines() if "  " in line)
        found = {name: _digest(archive, item) for name, item in names.items() if item is not listed}
        contents.checked = True
        contents.altered = sorted(name for name in wanted | found if wanted.get(name) != found.get(name))
        return contents


def demand_unaltered(path: str | Path, contents: Contents) -> None:
    """Refuse an archive whose records are not those that were exported.

    Raises:
        ValueError: naming them.
    """
    if not contents.altered:
        return
    shown = ", ".join(contents.altered[:3]) + (", …" if len(contents.altered) > 3 else "")
    raise ValueError(
        f"{path} is not as it was exported: the checksums of {len(contents.altered)} records differ ({shown}); it is "
        f"damaged or was edited: {_AGAIN}"
    )


def seal(source: Path, target: Path) -> None:
    """Copy an archive with checksums, without the records of source lines, which hold paths of the writer's machine."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as new:
        lines = []
        for name, item in _records(old).items():
            if name.endswith(".debug_pkl") or name == f"extra/{CHECKSUMS_FILE}":
                continue
            content = old.read(item)
            new.writestr(item.filename, content)
            lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
        folder = old.namelist()[0].split("/", 1)[0]
        new.writestr(f"{folder}/extra/{CHECKSUMS_FILE}", "".join(sorted(lines, key=lambda line: line[66:])))


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGE as error:
        raise ValueError(f"{path} is not a TorchScript model, or it is damaged ({error}): {_AGAIN}") from error


def _records(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Records by their names below the folder that torch puts everything in."""
    return {item.filename.split("/", 1)[-1]: item for item in archive.infolist()}


def _digest(archive: zipfile.ZipFile, item: zipfile.ZipInfo) -> str:
    """SHA-256 of a record; of nothing where the zip file's own sum says that it is damaged."""
    try:
        return hashlib.sha256(archive.read(item)).hexdigest()
    except _DAMAGE:
        return ""


def _metadata(path: Path, archive: zipfile.ZipFile, names: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    item = names.get(f"extra/{METADATA_FILE}")
    try:
        metadata = json.loads(archive.read(item)) if item is not None else None
    except (ValueError, *_DAMAGE) as error:
        raise ValueError(f"{path}: its metadata cannot be read ({error}); it is damaged: {_AGAIN}") from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not a model of fp_potential (no `{METADATA_FILE}` with format {FORMAT!r}); "
            "export one with `fixedpoint export run/ model.pt`"
        )
    version = metadata.get("format_version")
    if not isinstance(version, int):
        raise ValueError(f"{path}: its metadata has no format version; it is damaged: {_AGAIN}")
    if version > FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this fp_potential reads up to {FORMAT_VERSION}; update fp_potential "
            "or export the model again"
        )
    if version < FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, this fp_potential reads {FORMAT_VERSION}; export it again from its "
            "run folder with `fixedpoint export`"
        )
    return metadata
