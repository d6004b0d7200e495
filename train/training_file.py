"""Which learned model a training file means, and its options: a folder of a published bundle, or YAML.

A pseudopotential says so by ``model: {type: bands}``, or is a bundle; everything else is a potential.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from .config import manual
from .config.command_line import option_type, with_overrides
from .config.manual import Entry
from .errors import InputError
from .trainer.options import RunOptions

#: libyaml's reader where PyYAML has it: tables in a training file are read twice
_QUICK = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Kind = Literal["potential", "bands"]


def kind_of(path: str | Path) -> Kind:
    """What a training file means; a file that cannot be read is left to the reader of potentials, which says why."""
    path = Path(path)
    if path.is_dir():
        return "bands"
    try:
        data: Any = yaml.load(path.read_text(encoding="utf-8"), Loader=_QUICK)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return "potential"
    if not isinstance(data, dict):
        return "potential"
    model = data.get("model")
    if isinstance(model, dict) and model.get("type") == "bands":
        return "bands"
    if "systems" in data and "data" not in data:
        raise InputError(
            f"{path}: has systems, as a pseudopotential fitted to bands, but not model: {{type: bands}}; add that line"
        )
    return "potential"


def overrides_of(words: Sequence[str], own: Collection[str]) -> list[str]:
    """``words`` of a command line with ``--option value`` of the training file among them as ``option=value``.

    Args:
        own: options of the command itself.

    Raises:
        InputError: no such option (with the nearest name), or no value where one is needed.
    """
    if any(_means_bands(word.removeprefix("--config=")) for word in words):
        return with_overrides(words, own, _bands_option)
    from .potential.config.command_line import with_overrides as of_potentials

    return of_potentials(words, own)


def _means_bands(word: str) -> bool:
    from .bands.bundle.read import is_bundle

    path = Path(word)
    return is_bundle(path) or (path.is_file() and kind_of(path) == "bands")


def _bands_option(path: str) -> Any:
    from .bands.bundle.keys import NN_KEYS
    from .bands.config import BandsTrainConfig

    if path in NN_KEYS:
        return bool if NN_KEYS[path].kind == "bool" else str
    return option_type(path, BandsTrainConfig)


def manual_of(kind: Kind, name: str = "") -> list[Entry]:
    """The options that training files of a kind have, or those of one section or name.

    Raises:
        InputError: no such section or option; names the nearest.
    """
    if kind == "bands":
        from .bands.config import BandsTrainConfig

        return manual.entries(BandsTrainConfig, name)
    from .potential.config.manual import entries

    return entries(name)


def schema_of(kind: Kind) -> dict[str, Any]:
    """JSON schema (draft 2020-12) of the training files of a kind."""
    if kind == "bands":
        from .bands.config import BandsTrainConfig

        schema = BandsTrainConfig.model_json_schema(mode="validation")
        draft = "https://json-schema.org/draft/2020-12/schema"
        return schema | {"$schema": draft, "title": "Training file of a pseudopotential (fixedpoint train)"}
    from .potential.config.json_schema import json_schema

    return json_schema()


def load(path: str | Path, overrides: Sequence[str] = (), notes: list[str] | None = None) -> RunOptions:
    """The options of a training file or a bundle, with ``name=value`` set over them.

    Raises:
        InputError: it does not exist, is wrong, or has an unknown option.
    """
    if kind_of(path) == "bands":
        from .bands.bundle.read import read_bundle
        from .bands.config import load_config as load_bands

        return read_bundle(path, overrides, notes) if Path(path).is_dir() else load_bands(path, overrides, notes)
    from .potential.config import load_config

    return load_config(path, overrides, notes)
