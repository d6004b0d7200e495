"""The log of a run: a table on the screen, ``log.csv``, and TensorBoard events."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ...files import naming, write_whole
from ..errors import InputError
from ..progress import Item, track

HEADING_EVERY = 25
#: characters of a column of the row: at least, unless it is one of these; and of a word of its heading, at most
LEAST_WIDTH, WIDTHS, LONG_WORD = 7, {"epoch": 5, "stage": 10}, 10
#: folder of the events in that of the run
EVENTS = "tensorboard"


class Log:
    """One row per epoch, to the screen, to ``log.csv`` and, if wanted, to TensorBoard events beside it.

    Args:
        path: ``log.csv``; of what it holds of an earlier part of the run only the finished epochs stay.
        columns: headings, with units in brackets.
        console: the screen.
        finished_epochs: number of epochs that will not be done again.
        tensorboard: whether to write events.

    Raises:
        InputError: events are wanted, and the package that writes them is not installed.
    """

    def __init__(
        self, path: Path, columns: Sequence[str], console: Console, finished_epochs: int, tensorboard: bool = False
    ) -> None:
        self.path, self.columns, self.console = path, list(columns), console
        self.events = Events(path.parent / EVENTS, finished_epochs) if tensorboard else None
        self.shown = [name for name in self.columns if not self._hidden(name)]
        self.rows_shown = 0
        rows = self._kept(finished_epochs)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue())

    def _hidden(self, name: str) -> bool:
        """Where there is a validation set, what it has is on the screen and that of the training in the file only."""
        own = name.removeprefix("train ")
        if own == name or own == "loss" or not any(column.startswith("valid ") for column in self.columns):
            return False
        return "[" in own or f"valid {own}" in self.columns

    def _kept(self, finished_epochs: int) -> list[dict[str, str]]:
        """Rows of an earlier part of the run, without epochs that will be done again."""
        if finished_epochs == 0 or not self.path.is_file():
            return []
        with open(self.path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        kept: list[dict[str, str]] = []
        last = -1
        for row in rows:
            # a process that was killed while it wrote may have left the beginning of a row
            epoch = int(row["epoch"]) if (row.get("epoch") or "").isdigit() else -1
            if last < epoch < finished_epochs:
                kept.append({name: row[name] for name in self.columns if row.get(name)})
                last = epoch
        return kept

    def message(self, text: str) -> None:
        """A line on the screen."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def row(self, values: dict[str, float | str]) -> None:
        """A finished epoch."""
        with naming(self.path), open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writerow({name: _full(value) for name, value in values.items()})
            file.flush()
            os.fsync(file.fileno())  # on the disk before the checkpoint that counts the epoch as done
        if self.events is not None:
            self.events.row(values)
        if self.rows_shown % HEADING_EVERY == 0:
            for line in _heading(self.shown):
                self.console.print(line, style="bold", highlight=False, markup=False, soft_wrap=True)
        cells = [_short(values.get(name, "-"), _width(name)).rjust(_width(name)) for name in self.shown]
        self.message(" ".join(cells))
        self.rows_shown += 1

    def bar(self, items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
        """The items, with a progress bar where the screen is a terminal."""
        return track(items, title, total, self.console)


class Events:
    """The rows as scalars in ``folder``, one per column and epoch.

    A column ``train error [m/s]`` has the tag ``error [m per s]/train``, so that the curves of all sets stand together.
    Epochs that a resumed run does again are shown once: its file tells TensorBoard to drop them from earlier ones.

    Args:
        folder: where the files go.
        finished_epochs: number of epochs that will not be done again.

    Raises:
        InputError: the package that writes them is not installed.
    """

    def __init__(self, folder: Path, finished_epochs: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise InputError(
                f"training.tensorboard: true needs a package that is not installed ({error}): "
                "pip install 'fp-potential[tensorboard]', or set it to false"
            ) from error
        # made at the first row: a finished run leaves no empty file each time it is looked at
        self._new_writer = lambda: SummaryWriter(str(folder), purge_step=finished_epochs)
        self._writer: Any = None

    def row(self, values: dict[str, float | str]) -> None:
        """A finished epoch; on the disk when this returns."""
        if self._writer is None:
            self._writer = self._new_writer()
        for name, value in values.items():
            if name != "epoch" and not isinstance(value, str):
                self._writer.add_scalar(_tag(name), value, int(values["epoch"]))
        self._writer.flush()


def _tag(column: str) -> str:
    column = column.replace("/", " per ")
    part, _, rest = column.partition(" ")
    return f"{rest}/{part}" if part in ("train", "valid") else column


def _full(value: float | str) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _short(value: float | str, width: int) -> str:
    """A number with four digits, or as many as there is room for; a name cut to the width."""
    if not isinstance(value, float):
        text = str(value)
        return text if len(text) <= width else text[: width - 1] + "…"
    return next((text for digits in (4, 3) if len(text := f"{value:.{digits}g}") <= width), f"{value:.2g}")


def _parts(name: str) -> list[str]:
    """Heading with one word per line (long ones on two), the unit last."""
    text, bracket, unit = name.partition("[")
    words = []
    for word in text.split():
        half = -(-len(word) // 2)
        words += [word] if len(word) <= LONG_WORD else [word[:half] + "-", word[half:]]
    return [*words, bracket + unit]


def _width(name: str) -> int:
    return max(WIDTHS.get(name, LEAST_WIDTH), *(len(part) for part in _parts(name)))


def _heading(columns: Sequence[str]) -> list[str]:
    parts = [_parts(name) for name in columns]
    height = max(len(lines) for lines in parts)
    filled = [[*lines[:-1], *[""] * (height - len(lines)), lines[-1]] for lines in parts]
    return [
        " ".join(lines[row].rjust(_width(name)) for name, lines in zip(columns, filled, strict=True))
        for row in range(height)
    ]
