"""Reading a training file: YAML, and overrides of the command line."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from ..errors import InputError
from .schema import Section, nested_models, validate

Root = TypeVar("Root", bound=Section)


def load(path: str | Path, root: type[Root], overrides: Sequence[str] = (), notes: list[str] | None = None) -> Root:
    """The training file at ``path``.

    Args:
        path: a file in YAML, whose folder is that of relative names of data files.
        root: the section that the whole file is.
        overrides: ``name=value``, each in place of what the file says. Names are dotted (``training.batch_size``) or
            others that the file may have at its top level (`Section.translator`).
        notes: receives what is to be said of names that are deprecated or change nothing.

    Raises:
        InputError: file missing, not YAML, or an option unknown (with the nearest name), of the wrong type or refused.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, expected a file" if path.is_dir() else "does not exist"
        raise InputError(f"training file '{path}' {what}")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file in UTF-8: {error}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        sections = [name for name, field in root.model_fields.items() if nested_models(field.annotation)]
        raise InputError(f"{path}: expected sections {', '.join(sections)}")
    translator = root.translator()
    data, problems = translator.translated(data)
    if problems:
        raise InputError("\n".join(f"{path}: {problem}" for problem in problems))
    for override in overrides:
        name, value = parse_override(override)
        try:
            places = translator.places(name, value)
        except ValueError as error:
            raise InputError(f"override '{override}': {error}") from error
        for place, content in places.items():
            set_option(data, place, content, override)
    if notes is not None:
        notes += translator.notes
    return validate(data, root, str(path), path.parent)


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``a.b.c=value`` in nested ``data``.

    Raises:
        InputError: not of that form, or no place for it in ``data``.
    """
    name, value = parse_override(override)
    set_option(data, name, value, override)


def parse_override(override: str) -> tuple[str, Any]:
    """Name and value of ``name=value``; the value is read as YAML, or as a list or mapping in Python's notation.

    Raises:
        InputError: no ``=``, no name, or a value that is not YAML.
    """
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise InputError(f"override '{override}': expected section.option=value")
    try:
        return name, _value(text)
    except yaml.YAMLError as error:
        raise InputError(f"override '{override}': not a value in YAML: {str(error).splitlines()[0]}") from error


def _value(text: str) -> Any:
    if text.strip() == "None" or text.strip()[:1] in ("[", "{", "("):
        try:
            value = ast.literal_eval(text.strip())
            return list(value) if isinstance(value, tuple) else value
        except (ValueError, SyntaxError):
            pass  # YAML: [direct, unroll]
    return yaml.load(text, Loader=_Loader)


def set_option(data: dict[str, Any], name: str, value: Any, override: str) -> None:
    """Set the dotted option ``name`` in nested ``data``; ``override`` is what messages quote.

    Raises:
        InputError: ``data`` has no place for it: no such item of a list, or an option that is no section.
    """
    parents: list[Any] = [int(part) if part.isdigit() else part for part in name.split(".")]
    last = parents.pop()
    place: Any = data
    for part in parents:
        if isinstance(place, list):
            if not isinstance(part, int) or part >= len(place):
                raise InputError(f"override '{override}': no item {part} in a list of {len(place)}")
            place = place[part]
        elif isinstance(place, dict):
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        else:
            raise InputError(f"override '{override}': '{part}' is not a section")
    if not (isinstance(place, dict) or (isinstance(place, list) and isinstance(last, int) and last < len(place))):
        raise InputError(f"override '{override}': '{last}' is not an option there")
    place[last] = value


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with 1e-8 read as a number (PyYAML takes it for a string)."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
