"""Typed options: unknown names found with their dotted path, and problems in words.

The sections themselves are in `trainer.options`, `data.options`, `fp_potential.options` and the package of each learned
model.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ...options.base import WithReasons, from_text
from ..errors import CUTOFF, InputError, nearest

#: where the context of a validation says in which folder (`pathlib.Path`) the file with the options is
FOLDER = "folder"


class Translator:
    """From the names of a file to those of the options: here they are the same.

    A section that may be written with other names, or in other places, has a translator that knows them.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []  #: on names that are deprecated, or accepted and change nothing

    def names(self) -> list[str]:
        """Names that the top level may have besides the options of the section."""
        return []

    def places(self, path: str, value: Any) -> dict[str, Any]:
        """What ``value`` of the name ``path`` sets: dotted options and their values.

        Raises:
            ValueError: the name is refused; says why.
        """
        return {path: value}

    def translated(self, data: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """``data`` under the names of the options, and what is wrong with it."""
        return dict(data), []


class Section(WithReasons):
    """Base of all sections of the training file: unknown options are errors, descriptions are docstrings."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)

    @classmethod
    def translator(cls) -> Translator:
        """A new translator of the names that the section may be written with."""
        return Translator()


class Finite(Section):
    """A section whose numbers are finite: nan and inf are refused."""

    model_config = ConfigDict(allow_inf_nan=False)


SectionType = TypeVar("SectionType", bound=BaseModel)


def nested_models(annotation: Any) -> list[tuple[str, type[BaseModel]]]:
    """Pydantic models inside an annotation, as ``("one" | "list" | "dict", model)``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [("one", annotation)]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return nested_models(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return [found for argument in arguments for found in nested_models(argument)]
    if origin is list and arguments:
        return [("list", model) for _, model in nested_models(arguments[0])]
    if origin is dict and arguments:
        return [("dict", model) for _, model in nested_models(arguments[1])]
    return []


def option_names(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any, type[BaseModel]]]:
    """All options below ``model`` as ``(dotted name, field information, class it belongs to)``."""
    for name, field in model.model_fields.items():
        dotted = prefix + name
        yield dotted, field, model
        for shape, inner in nested_models(field.annotation):
            yield from option_names(inner, dotted + ("." if shape == "one" else ".*."))


def unknown_options(data: Any, model: type[BaseModel], path: str = "") -> list[tuple[str, type[BaseModel]]]:
    """Dotted paths in ``data`` that ``model`` does not have, each with the class that was searched."""
    if not isinstance(data, Mapping):
        return []
    unknown: list[tuple[str, type[BaseModel]]] = []
    for key, value in data.items():
        field = model.model_fields.get(str(key))
        if field is None:
            unknown.append((f"{path}{key}", model))
            continue
        for shape, inner in nested_models(field.annotation):
            if shape == "one":
                unknown += unknown_options(_as_given(value), inner, f"{path}{key}.")
            elif isinstance(value, Mapping):
                for item, content in value.items():
                    unknown += unknown_options(content, inner, f"{path}{key}.{item}.")
            elif isinstance(value, list):
                for number, content in enumerate(value):
                    unknown += unknown_options(content, inner, f"{path}{key}.{number}.")
    return unknown


def validate(data: Any, model: type[SectionType], source: str, folder: Path | None = None) -> SectionType:
    """``model`` made from ``data``.

    Args:
        data: a mapping of options.
        model: the section.
        source: what messages call the data.
        folder: that of the file with the options, to which names of other files are relative; none: the working folder.

    Raises:
        InputError: one line per problem. An unknown option is named by its dotted path with the nearest valid name; an
            option that exists in another section is pointed to there.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{source}: expected a mapping of options, got {type(data).__name__}")
    lines: list[str] = []
    if issubclass(model, Section):
        data, lines = model.translator().translated(data)
    lines += [f"unknown option '{path}'; {hint(path, owner, model)}" for path, owner in unknown_options(data, model)]
    if not lines:
        try:
            return model.model_validate(data, context={FOLDER: folder})
        except ValidationError as error:
            for problem in error.errors():
                path = ".".join(str(part) for part in problem["loc"]) or "(top level)"
                text = problem["msg"].removeprefix("Value error, ")
                if problem["type"] not in ("value_error", "assertion_error"):  # a sentence of pydantic's
                    text = text[:1].lower() + text[1:]
                given = problem.get("input")
                shown = (
                    ""
                    if isinstance(given, (Mapping, list, BaseModel)) or problem["type"] == "missing"
                    else f" (got {given!r})"
                )
                lines.append(f"option '{path}': {text}{shown}")
    raise InputError("\n".join(f"{source}: {line}" for line in lines))


def hint(path: str, owner: type[BaseModel], model: type[BaseModel]) -> str:
    """Where the option ``path``, which ``owner`` does not have, belongs, or what it may have been meant to be.

    Args:
        path: dotted, from the top level ``model``.
        owner: the section in which it was looked for.
        model: the whole file.
    """
    name = path.rsplit(".", 1)[-1]
    for field_name, field in owner.model_fields.items():
        if any(shape == "one" and name in inner.model_fields for shape, inner in nested_models(field.annotation)):
            return f"it must be nested under {field_name}"
    everywhere: dict[str, list[str]] = {}
    for dotted, _, _ in option_names(model):
        everywhere.setdefault(dotted.rsplit(".", 1)[-1], []).append(dotted)
    if name in everywhere:
        return _meant(everywhere[name])
    here = [*owner.model_fields, *(owner.translator().names() if issubclass(owner, Section) else ())]
    if not difflib.get_close_matches(name, here, n=1, cutoff=CUTOFF):
        matches = difflib.get_close_matches(name, everywhere, n=1, cutoff=CUTOFF)
        if matches:
            return _meant(everywhere[matches[0]])
    return nearest(name, owner.model_fields, here)


def _meant(dotted: Sequence[str]) -> str:
    """The question for the options of one name; those of a list as of its first item."""
    names = [f"'{name.replace('.*.', '.0.')}'" for name in sorted(dotted)[:3]]
    first = " (0 is the first stage)" if any(name.startswith("train_schedule.*.") for name in dotted) else ""
    return f"did you mean {' or '.join(names)}{first}?"


def _as_given(value: Any) -> Any:
    """A section that is written as text, as a mapping."""
    try:
        return from_text(value)
    except ValueError:
        return value
