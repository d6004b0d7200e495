"""From a training file as users write it to one with every option in its section, under its name here."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from ....options import SCFOptions
from ....options.base import from_text
from ...config import schema
from .published_names import NAMES, Places, PublishedName, published


class Translator(schema.Translator):
    """Puts options in their sections, and published names in the place of options.

    Args:
        sections: name -> class of the sections whose options may stand at the top level.
        own: options of the top level itself, the sections among them.
    """

    def __init__(self, sections: Mapping[str, type[BaseModel]], own: Collection[str]) -> None:
        super().__init__()
        self.sections, self.own = sections, own

    def names(self) -> list[str]:
        """All names that the top level may have."""
        inner = [name for options in self.sections.values() for name in options.model_fields]
        return sorted({*self.own, *inner, *NAMES})

    def places(self, path: str, value: Any) -> Places:
        """What ``value`` of the option ``path`` sets, by dotted names from the top level.

        Raises:
            ValueError: the option is refused, or there are several of that name.
        """
        first, _, rest = path.partition(".")
        if first in self.sections and not (first in NAMES and isinstance(value, str) and not rest):
            return self._placed(path, published(rest, first, self.sections[first]), value)
        if first in self.own and first not in NAMES:
            return {path: value}
        owners = [section for section, options in self.sections.items() if first in options.model_fields]
        if len(owners) > 1:
            choices = " or ".join(f"{owner}.{path}" for owner in owners)
            raise ValueError(f"there are several of that name: write {choices}")
        if owners:
            return {f"{owners[0]}.{path}": value}
        return self._placed(path, published(path, "", None), value)

    def _placed(self, path: str, entry: PublishedName | None, value: Any) -> Places:
        if entry is None:
            return {path: value}
        places = entry.placed(value)
        if not places and entry.note:
            self.notes.append(f"{path}: {entry.note}")
        return places

    def translated(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """``data`` with every option in its section, and what is wrong with it."""
        written: dict[str, Any] = {}
        moved: list[tuple[str, Places]] = []
        problems: list[str] = []
        for path, key, value in self._flat(copy.deepcopy(dict(data)), written):
            try:
                places = self.places(path, value)
            except ValueError as error:
                problems.append(f"option '{path}': {error}")
                continue
            if places == {path: value}:
                place = written.setdefault(path.partition(".")[0], {}) if "." in path else written
                place[key] = value
            else:
                moved.append((path, places))
        for path, places in moved:
            for place, value in places.items():
                if not _put(written, place, value):
                    problems.append(f"option '{path}' is given a second time, as '{place}': keep one of them")
        for number, stage in _items(written.get("train_schedule")):
            if isinstance(stage, dict) and "scf_training_options" in stage:
                problems += self._modernise(stage, f"train_schedule.{number}")
        return written, problems

    def _modernise(self, stage: dict[str, Any], path: str) -> list[str]:
        """Turn ``scf_training_options``, the flat form of earlier versions, into fixed_point_training_options."""
        if "fixed_point_training_options" in stage:
            return [f"option '{path}.scf_training_options' beside fixed_point_training_options: keep those"]
        flat = from_text(stage.pop("scf_training_options"))
        if not isinstance(flat, Mapping):
            return [f"option '{path}.scf_training_options': expected a mapping, got {flat!r}"]
        text = f"{path}.scf_training_options is deprecated: write fixed_point_training_options with mode and scf"
        self.notes.append(text)
        warnings.warn(text, DeprecationWarning, stacklevel=2)
        nested = {name: value for name, value in flat.items() if name in SCFOptions.model_fields}
        options: dict[str, Any] = {name: value for name, value in flat.items() if name not in nested}
        if options.get("mode") != "direct" and nested:
            options["scf"] = nested
        stage["fixed_point_training_options"] = options
        return []

    def _flat(self, data: dict[Any, Any], written: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
        """Options of the top level and of the sections as (dotted name, key, value)."""
        for key, value in data.items():
            if key in self.sections and (value is None or isinstance(value, dict)):
                written.setdefault(key, {})
                for inner, content in (value or {}).items():
                    yield f"{key}.{inner}", inner, content
            else:
                yield str(key), key, value


def _put(data: dict[str, Any], place: str, value: Any) -> bool:
    """Set a dotted option; False if it was there before, or something that is not a section is in its way."""
    *parents, last = place.split(".")
    inner: Any = data
    for parent in parents:
        inner = inner.setdefault(parent, {})
        if not isinstance(inner, dict):
            return False
    if last in inner:
        return False
    inner[last] = value
    return True


def _items(stages: Any) -> list[tuple[Any, Any]]:
    if isinstance(stages, dict):
        return list(stages.items())
    return list(enumerate(stages)) if isinstance(stages, list) else []
