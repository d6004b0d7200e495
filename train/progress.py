"""What a run shows and keeps: rows on the screen, a CSV file with units in its heading, a progress bar."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")

HEADING_EVERY = 25


class Log:
    """One row per epoch, to the screen and to ``log.csv``."""

    def __init__(self, path: Path, columns: Sequence[str], console: Console, finished_epochs: int) -> None:
        self.path, self.columns, self.console = path, list(columns), console
        valid = any(name.startswith("valid ") for name in self.columns)
        # where there is a validation set, its errors are on the screen and those of the training in the file only
        hidden = [name for name in self.columns if valid and name.startswith("train ") and name != "train loss"]
        self.shown = [name for name in self.columns if name not in hidden]
        self.rows_shown = 0
        rows = self._kept(finished_epochs)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="")
        writer.writeheader()
        writer.writerows(rows)
        write_whole(path, text.getvalue())

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
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, restval="")
            writer.writerow({name: _full(value) for name, value in values.items()})
            file.flush()
            os.fsync(file.fileno())  # on the disk before the checkpoint that counts the epoch as done
        if self.rows_shown % HEADING_EVERY == 0:
            for line in _heading(self.shown):
                self.console.print(line, style="bold", highlight=False, markup=False, soft_wrap=True)
        cells = [_short(values[name]) if name in values else "-" for name in self.shown]
        widths = [_width(name) for name in self.shown]
        self.message(" ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)))
        self.rows_shown += 1

    def bar(self, items: Iterable[Item], total: int, title: str) -> Iterator[Item]:
        """The items, with a progress bar where the screen is a terminal."""
        if not self.console.is_terminal:
            yield from items
            return
        parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*parts, console=self.console, transient=True) as progress:
            task = progress.add_task(title, total=total)
            for item in items:
                yield item
                progress.advance(task)


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that it is never half there."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "w", newline="", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _full(value: float | str) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _parts(name: str) -> list[str]:
    """Heading with one word per line, the unit last."""
    text, bracket, unit = name.partition("[")
    return [*text.split(), bracket + unit]


def _width(name: str) -> int:
    return max(8, *(len(part) for part in _parts(name)))


def _heading(columns: Sequence[str]) -> list[str]:
    parts = [_parts(name) for name in columns]
    height = max(len(lines) for lines in parts)
    filled = [[*lines[:-1], *[""] * (height - len(lines)), lines[-1]] for lines in parts]
    return [
        " ".join(lines[row].rjust(_width(name)) for name, lines in zip(columns, filled, strict=True))
        for row in range(height)
    ]
