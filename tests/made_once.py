"""Files that are expensive to make and only read: made once in a run of the tests, whatever number of processes."""

from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


class MadeOnce:
    """A folder of files and folders, each made by the first process that asks for it while the others wait."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __call__(self, name: str, make: Callable[[Path], object]) -> Path:
        """Path of ``name``, made by ``make(path)``; what a failed attempt left is not used."""
        path, done = self.folder / name, self.folder / f"{name}.done"
        with FileLock(self.folder / f"{name}.lock"):
            if not done.exists():
                make(path)
                done.touch()
        return path
