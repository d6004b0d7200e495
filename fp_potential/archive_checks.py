"""Whether an archive can run: a device that is there, metadata that belong to the module; nothing of it is called."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ase.data import atomic_numbers

from .options import SCFOptions

#: attributes of the module that the metadata repeat, under the same names
REPEATED = ("num_interactions", "comm_width", "fermi_level_offset")


def check_device(device: str) -> None:
    """Refuse a device that this torch does not know or does not find.

    Raises:
        ValueError: saying which there are.
    """
    try:
        kind = torch.device(device).type
    except (RuntimeError, TypeError):
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ValueError(f"`device` is {device!r}; expected cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "`device` is 'cuda', but this torch finds no CUDA device; use 'cpu', or install a CUDA build of torch"
        )
    number = torch.device(device).index
    if kind == "cuda" and number is not None and number >= torch.cuda.device_count():
        raise ValueError(f"`device` is {device!r}, but there are {torch.cuda.device_count()} CUDA devices, from cuda:0")


def check_metadata(path: str | Path, metadata: Mapping[str, Any]) -> None:
    """Refuse metadata whose values no export writes.

    Raises:
        ValueError: naming the key, and what was expected.
    """

    def demand(key: str, holds: bool, expected: str) -> None:
        if not holds:
            raise ValueError(
                f"{path}: its metadata have {key} = {metadata.get(key)!r}, expected {expected}; they were edited "
                "or are damaged: export the model again from its run folder with `fixedpoint export`"
            )

    elements = metadata.get("elements")
    symbols = isinstance(elements, list) and all(isinstance(x, str) and x in atomic_numbers for x in elements)
    demand("elements", bool(symbols and elements and len(set(elements)) == len(elements)), "different chemical symbols")
    cutoff = metadata.get("cutoff")
    number = float(cutoff) if isinstance(cutoff, (int, float)) and not isinstance(cutoff, bool) else math.nan
    demand("cutoff", math.isfinite(number) and number > 0, "a positive number (Å)")
    demand("dtype", metadata.get("dtype") in ("float64", "float32"), "float64 or float32")
    scf = metadata.get("scf")
    demand("scf", isinstance(scf, dict), "settings of the loop")
    try:
        SCFOptions().changed(scf or {}, "scf.")
    except ValueError as error:
        raise ValueError(f"{path}: its metadata are damaged or were edited: {error}") from error


def check_module(path: str | Path, module: Any, metadata: Mapping[str, Any], forward: Callable[..., Any]) -> None:
    """Refuse a module that is none of this package, or not the one that the metadata describe; nothing is called.

    Args:
        path: for messages.
        module: as torch loaded it.
        metadata: of the same archive.
        forward: what the arguments of the module's ``forward`` must be those of.

    Raises:
        ValueError: naming what differs.
    """
    wanted = list(inspect.signature(forward).parameters)
    schema = getattr(getattr(module, "forward", None), "schema", None)
    found = [argument.name for argument in schema.arguments] if schema is not None else []
    model = getattr(module, "model", None)
    if found != wanted or model is None:
        missing = ", ".join(name for name in wanted if name not in found) or "none"
        foreign = ", ".join(name for name in found if name not in wanted) or "none"
        raise ValueError(
            f"{path} has metadata of fp_potential, but its module is another program's: its forward lacks the "
            f"arguments {missing} and has the unknown ones {foreign}; export one with `fixedpoint export run/ model.pt`"
        )
    own = {
        "elements": [atomic_numbers[symbol] for symbol in metadata["elements"]],
        "cutoff": float(metadata["cutoff"]),
        **{name: metadata[name] for name in REPEATED if name in metadata},
    }
    for name, value in own.items():
        held = getattr(model, name, value)
        if held != value:
            raise ValueError(_differs(path, name, metadata.get(name), held))
    dtypes = {parameter.dtype for parameter in module.parameters() if parameter.is_floating_point()}
    if dtypes != {getattr(torch, metadata["dtype"])}:
        raise ValueError(
            _differs(path, "dtype", metadata["dtype"], " ".join(sorted(str(dtype)[6:] for dtype in dtypes)))
        )
    mixer = getattr(getattr(getattr(model, "solver", None), "loop", None), "mixer", None)
    history = getattr(mixer, "history", metadata["scf"].get("history"))
    if history != metadata["scf"].get("history"):
        raise ValueError(_differs(path, "scf.history", metadata["scf"].get("history"), history))


def _differs(path: str | Path, name: str, said: Any, held: Any) -> str:
    return (
        f"{path}: its metadata say {name} = {said}, its module has {held}; they were edited or are damaged: export the "
        "model again from its run folder with `fixedpoint export`"
    )
