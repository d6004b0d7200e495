"""The manual of a training file, from the types of its options and their descriptions."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import annotated_types
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..errors import InputError, nearest
from .schema import Section, nested_models, option_names


class Entry(NamedTuple):
    """One option."""

    name: str  #: dotted
    values: str
    default: str
    text: str
    heading: str = ""  #: what it is shown under; none: the section it is in


def entries(root: type[Section], name: str = "", further: Sequence[Entry] = ()) -> list[Entry]:
    """The options of a training file.

    Args:
        root: the section that the whole file is.
        name: of a section or option, for these alone; none: all.
        further: names that the file may have and that are no options; they come last.

    Raises:
        InputError: no such section or option; names the nearest.
    """
    found = [_entry(dotted, field) for dotted, field, _ in option_names(root)]
    found += further
    if not name:
        return found
    wanted = name.removeprefix("--").replace("-", "_")
    chosen = [entry for entry in found if _is(entry.name, wanted)]
    if not chosen:
        known = {part for entry in found for part in entry.name.split(".")} - {"*"}
        raise InputError(f"--help-config: no option or section '{name}'; {nearest(wanted, root.model_fields, known)}")
    return chosen


def as_text(found: Iterable[Entry]) -> str:
    """The entries as plain text."""
    lines = []
    for entry in found:
        lines.append(f"{entry.name}  [{entry.values}; {entry.default}]")
        lines += [f"    {line.strip()}" for line in entry.text.strip().splitlines()]
    return "\n".join(lines)


def show(console: Console, found: Iterable[Entry]) -> None:
    """The entries on a terminal: names, types and descriptions set apart, one rule per section."""
    section = ""
    for entry in found:
        here = entry.heading or (entry.name.partition(".")[0] if "." in entry.name else section)
        if here != section:
            section = here
            console.rule(f"[bold]{section}", align="left")
        head = Text.assemble((entry.name, "bold cyan"), "  ", (f"{entry.values}; {entry.default}", "dim"))
        console.print(head, soft_wrap=True)
        text = " ".join(entry.text.split())
        if text:
            console.print(Padding(Text(text), (0, 0, 0, 4)))


def type_name(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """A type in words: ``integer > 0``, ``adam | adamw``, ``list of number or none``."""
    words = _TYPES.get(annotation) if isinstance(annotation, type) or annotation is Any else None
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if words is None and origin is typing.Annotated:
        words = type_name(arguments[0], arguments[1:])
    elif words is None and origin is typing.Literal:
        words = " | ".join(str(choice) for choice in arguments)
    elif words is None and origin in (typing.Union, types.UnionType):
        words = " or ".join(type_name(argument) for argument in arguments)
    elif words is None and origin in (list, tuple):
        words = f"list of {type_name(arguments[0])}"
    elif words is None and origin is dict:
        words = f"mapping of {type_name(arguments[0])} to {type_name(arguments[1])}"
    elif words is None and isinstance(annotation, type) and issubclass(annotation, BaseModel):
        words = "section"
    return " ".join([words or str(annotation), *_limits(metadata)])


_TYPES: dict[Any, str] = {
    bool: "true or false",
    int: "integer",
    float: "number",
    str: "text",
    type(None): "none",
    dict: "mapping",
    list: "list",
    Any: "anything",
}


def _limits(metadata: Iterable[Any]) -> list[str]:
    signs = {
        annotated_types.Gt: (">", "gt"),
        annotated_types.Ge: ("≥", "ge"),
        annotated_types.Lt: ("<", "lt"),
        annotated_types.Le: ("≤", "le"),
    }
    return [
        f"{sign} {getattr(limit, attribute)}"
        for limit in metadata
        for kind, (sign, attribute) in signs.items()
        if isinstance(limit, kind)
    ]


def _entry(dotted: str, field: Any) -> Entry:
    default = "required" if field.is_required() else f"default {_default(field)}"
    if any(shape == "one" for shape, _ in nested_models(field.annotation)):
        return Entry(dotted, "section", "required" if field.is_required() else "optional", field.description or "")
    return Entry(dotted, type_name(field.annotation, field.metadata), default, field.description or "")


def _default(field: Any) -> str:
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value)


def _is(dotted: str, wanted: str) -> bool:
    """Whether an option is the wanted one, in the wanted section, or below it."""
    parts, words = dotted.split("."), wanted.split(".")
    return any(parts[begin : begin + len(words)] == words for begin in range(len(parts)))
