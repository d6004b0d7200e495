"""Typed options: unknown names found with their dotted path, and the manual printed from the types.

The schema classes themselves are in :mod:`fp_potential.train.config` and :mod:`fp_potential.options`.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticUndefined

from .errors import InputError, nearest


class Section(BaseModel):
    """Base of all sections of the training file: unknown options are errors, descriptions are docstrings."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True, validate_default=True)


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
                unknown += unknown_options(value, inner, f"{path}{key}.")
            elif isinstance(value, Mapping):
                for item, content in value.items():
                    unknown += unknown_options(content, inner, f"{path}{key}.{item}.")
            elif isinstance(value, list):
                for number, content in enumerate(value):
                    unknown += unknown_options(content, inner, f"{path}{key}.{number}.")
    return unknown


def validate(data: Any, model: type[SectionType], source: str) -> SectionType:
    """``model`` made from ``data``; :class:`InputError` with one line per problem.

    An unknown option is named by its dotted path with the nearest valid name; an option that exists in
    another section is pointed to there.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{source}: expected a mapping of options, got {type(data).__name__}")
    lines = []
    everywhere = {dotted for dotted, _, _ in option_names(model)}
    for path, owner in unknown_options(data, model):
        name = path.rsplit(".", 1)[-1]
        elsewhere = sorted(dotted for dotted in everywhere if dotted.rsplit(".", 1)[-1] == name)
        hint = f"did you mean '{elsewhere[0]}'?" if elsewhere else nearest(name, owner.model_fields)
        lines.append(f"unknown option '{path}'; {hint}")
    if not lines:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            for problem in error.errors():
                path = ".".join(str(part) for part in problem["loc"]) or "(top level)"
                text = problem["msg"].removeprefix("Value error, ")
                given = problem.get("input")
                shown = (
                    ""
                    if isinstance(given, (Mapping, list, BaseModel)) or problem["type"] == "missing"
                    else f" (got {given!r})"
                )
                lines.append(f"option '{path}': {text[:1].lower()}{text[1:]}{shown}")
    raise InputError("\n".join(f"{source}: {line}" for line in lines))


def manual(model: type[BaseModel]) -> str:
    """The options of ``model`` as text: dotted name, type, default and description of each."""
    lines = []
    for dotted, field, _ in option_names(model):
        default = "required" if field.is_required() else f"default {_shown(field)}"
        if any(shape == "one" for shape, _ in nested_models(field.annotation)):
            default = "section"
        lines.append(f"{dotted}  [{_type_name(field.annotation)}; {default}]")
        for line in (field.description or "").strip().splitlines():
            lines.append(f"    {line.strip()}")
    return "\n".join(lines)


def _shown(field: Any) -> str:
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    return repr(value)


def _type_name(annotation: Any) -> str:
    if isinstance(annotation, type) and not typing.get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("NoneType", "None")
