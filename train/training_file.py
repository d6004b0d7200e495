"""Which learned model a training file means, and its options: a folder of a published bundle, or YAML.

A pseudopotential says so by ``model: {type: bands}``, or is a bundle; everything else is a potential.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from .errors import InputError
from .trainer.options import RunOptions

Kind = Literal["potential", "bands"]


def kind_of(path: str | Path) -> Kind:
    """What a training file means; a file that cannot be read is left to the reader of potentials, which says why."""
    path = Path(path)
    if path.is_dir():
        return "bands"
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
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
