"""The published form of options on the command line: ``--field_feature_widths="[1.5, 3.0]" --include_field_si``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pydantic import BaseModel

from ...config import command_line
from ...config.command_line import option_type
from ...config.schema import hint
from ...errors import InputError
from . import TrainConfig
from .published_names import published


def with_overrides(words: Sequence[str], own: Collection[str]) -> list[str]:
    """``words`` with each ``--option`` that is not among the command's ``own`` turned into ``option=value``.

    Raises:
        InputError: no such option (with the nearest name), or no value where one is needed.
    """
    return command_line.with_overrides(words, own, values_of)


def values_of(path: str) -> Any:
    """Type of the values of an option, named as in an override.

    Raises:
        InputError: no such option; names the nearest.
    """
    translator = TrainConfig.translator()
    first, *rest = path.split(".")
    owners = [section for section in translator.sections.values() if first in section.model_fields]
    if first in TrainConfig.model_fields:
        owner: type[BaseModel] = TrainConfig
        entry = published(rest[0], first, translator.sections[first]) if first in translator.sections and rest else None
    else:
        owner = owners[0] if owners else TrainConfig
        entry = published(first, "", owners[0] if owners else None)
    if entry is not None:
        return entry.values
    if owner is TrainConfig or first not in owner.model_fields:
        return option_type(path, TrainConfig)
    try:
        return option_type(path, owner)
    except InputError:
        raise InputError(f"unknown option '--{path}'; {hint(path, owner, TrainConfig)}") from None
