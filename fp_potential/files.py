"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A path to write a file at, which takes the place of ``path`` at the end of the block.

    The folder is made if it is not there. At any moment, also after a crash of the machine, ``path`` is the old or the
    new file; after an error in the block it is the old one, and what was written is gone.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with named(path):
        try:
            yield temporary
            _on_the_disk(temporary)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _on_the_disk(path.parent)


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Gives errors of the system that do not say of which file they are, as those of a full disk, the name of it.

    Raises:
        OSError: with ``path`` for its ``filename``; also in the place of what torch raises when it cannot write.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    except RuntimeError as error:
        if not any(name in str(error) for name in ("PytorchStreamWriter", "inline_container")):
            raise
        raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}; is the disk full?") from error


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
