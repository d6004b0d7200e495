"""What a run shows and keeps: rows on the screen, a CSV file with units in its heading, TensorBoard events, bars."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sized
from multiprocessing import parent_process
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")


#: titles of the bars on the screen
_BUSY: list[str] = []


def track(
    items: Iterable[Item], title: str, total: int | None = None, console: Console | None = None
) -> Iterator[Item]:
    """The items, with a progress bar while they are gone through.

    Silent where the screen is not a terminal, in forked processes, and in all but the first of several (``RANK``, as
    torchrun sets it). Bars do not nest on one screen: an inner one is left out.

    Args:
        items: what is gone through.
        title: what is done with them.
        total: their number; none: their length, or unknown.
        console: the screen; none: standard error.
    """
    console = console or Console(stderr=True)
    follower = parent_process() is not None or int(os.environ.get("RANK", "0")) > 0
    if not console.is_terminal or follower or _BUSY:
        yield from items
        return
    if total is None and isinstance(items, Sized):
        total = len(items)
    count = MofNCompleteColumn() if total is not None else TextColumn("{task.completed}")
    parts = (TextColumn("{task.description}"), BarColumn(), count, TimeElapsedColumn(), TimeRemainingColumn())
    _BUSY.append(title)
    try:
        with Progress(*parts, console=console, transient=True) as progress:
            task = progress.add_task(title, total=total)
            for item in items:
                yield item
                progress.advance(task)
    finally:
        _BUSY.remove(title)
