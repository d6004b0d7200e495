"""Reading the training file: YAML, overrides of the command line, paths of the data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from .config import TrainConfig
from .errors import InputError
from .schema import validate
from .sources import is_address


def load_config(path: str | Path, overrides: list[str] | None = None) -> TrainConfig:
    """The training file at ``path`` with ``section.option=value`` overrides applied; paths of data made absolute.

    Raises:
        InputError: file missing, not YAML, or an option unknown (with the nearest name) or of the wrong type.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"training file '{path}' does not exist")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected sections data, model, training, train_schedule")
    for override in overrides or []:
        apply_override(data, override)
    config = validate(data, TrainConfig, str(path))
    for names in (config.data.files, config.data.valid_files, config.data.test_files):
        names[:] = [name if is_address(name) else str((path.parent / name).absolute()) for name in names]
    return config


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set ``a.b.c=value`` in nested ``data``; the value is read as YAML."""
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise InputError(f"override '{override}': expected section.option=value")
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
    place[last] = yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with 1e-8 read as a number (PyYAML takes it for a string)."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(  # type: ignore[no-untyped-call]
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)
