"""A progress bar for work outside of the epochs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Item = TypeVar("Item")


def bar(items: Iterable[Item], title: str, console: Console | None, total: int | None = None) -> Iterator[Item]:
    """The items, with a bar (a counter where ``total`` is not known) if ``console`` is a terminal."""
    if console is None or not console.is_terminal:
        yield from items
        return
    parts = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*parts, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total)
        for item in items:
            yield item
            progress.advance(task)
