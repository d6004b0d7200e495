"""The manual of the training file of a potential, names of the published method included."""

from __future__ import annotations

from typing import Any

from ...config import manual
from ...config.manual import Entry, type_name
from .file import TrainConfig
from .published_names import NAMES, PublishedName

#: heading of the names that mean something else here, or nothing
PUBLISHED = "names of the published method that are other options here, or refused"


def entries(name: str = "") -> list[Entry]:
    """The options of the training file, published names last; with ``name`` those of a section or of that name.

    Raises:
        InputError: no such section or option; names the nearest.
    """
    return manual.entries(TrainConfig, name, [_published(entry) for entry in NAMES.values()])


def _published(entry: PublishedName) -> Entry:
    accepted = entry.place is not None or set(entry.idle) == {True, False}
    state = "accepted" if accepted else "refused"
    if not accepted and entry.idle:
        state = "only " + ", ".join(_as_written(value) for value in entry.idle)
    return Entry(entry.name, type_name(entry.values), state, entry.meaning, PUBLISHED)


def _as_written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
