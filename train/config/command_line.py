"""Options of a training file on the command line: ``--training.batch_size 4 --amsgrad`` as overrides."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Collection, Sequence
from typing import Any

from pydantic import BaseModel

from ..errors import InputError
from .schema import hint, nested_models

TRUTH = ("true", "false", "yes", "no", "on", "off", "0", "1")


def with_overrides(words: Sequence[str], own: Collection[str], values_of: Callable[[str], Any]) -> list[str]:
    """``words`` with each ``--option`` that is not among the command's ``own`` turned into ``option=value``.

    A value follows after ``=`` or as the next word; options that are true or false need none. Hyphens may stand for the
    underscores of names.

    Args:
        values_of: the type of the values of an option, named as in an override.

    Raises:
        InputError: no such option (with the nearest name), or no value where one is needed.
    """
    out: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name, equals, text = word.removeprefix("--").partition("=")
        hyphens = f"--{name.replace('_', '-')}"
        if not word.startswith("--") or word == "--" or hyphens in own:
            out.append(word if f"--{name}" in own else word.replace(f"--{name}", hyphens, 1))
            continue
        first, dot, inner = name.partition(".")
        name = first.replace("-", "_") + dot + inner
        accepted = values_of(name)
        if equals:
            out.append(f"{name}={text}")
        elif takes_truth(accepted) and not (rest and rest[0].lower() in TRUTH):
            out.append(f"{name}=true")
        elif rest and not rest[0].startswith("--"):
            out.append(f"{name}={rest.pop(0)}")
        else:
            raise InputError(f"option --{name}: expected a value, as in --{name}=VALUE")
    return out


def option_type(path: str, root: type[BaseModel]) -> Any:
    """Type of the values of the dotted option ``path`` below ``root``.

    Raises:
        InputError: no such option; names the nearest.
    """
    owner, kind = root, typing.cast(Any, root)
    for part in path.split("."):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            owner = kind
        kind = _inside(kind, part)
        if kind is None:
            raise InputError(f"unknown option '--{path}'; {hint(path, owner, root)}")
    return kind


def _inside(kind: Any, part: str) -> Any:
    """Type of what ``part`` names in a value of type ``kind``; None if there is nothing."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(part)
        return None if field is None else field.annotation
    for shape, model in nested_models(kind):
        if shape == "one":
            return _inside(model, part)
        if part.isdigit():
            return model
    return Any if dict in (kind, *(typing.get_origin(choice) for choice in _choices(kind))) else None


def _choices(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def takes_truth(kind: Any) -> bool:
    """Whether true and false are values of the type."""
    return bool in _choices(kind)
