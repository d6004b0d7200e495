"""Files that are there whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Errors of writing ``path`` name it, also those of a full disk, which the system gives without a name.

    Raises:
        OSError: as in the block, with ``filename``; torch's own errors of writing as one.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise type(error)(error.errno or errno.EIO, error.strerror or str(error), str(path)) from error
    except RuntimeError as error:
        if not any(word in str(error) for word in ("inline_container", "PytorchStreamWriter", "iostream error")):
            raise
        raise OSError(errno.EIO, "could not be written; is the disk full?", str(path)) from error


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write a file at, which takes the place of ``path`` at the end of the block.

    The folder is made if it is not there. At any moment, also after a crash of the machine, ``path`` is the old or the
    new file; after an error in the block it is the old one, and what was written is gone.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(error.errno, "a file is there, expected a folder", str(path.parent)) from error
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with naming(path):
            yield temporary
            _on_the_disk(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _on_the_disk(path.parent)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is never half there (`replaced`)."""
    with replaced(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(text)


def _on_the_disk(path: Path) -> None:
    """Wait until what was written to a file, or renamed in a folder, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
